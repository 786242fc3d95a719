"""What changing flags means for those who are steered: Δα, new tenants, caps, missing evidence, who must approve."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from django.utils import timezone

from registry.manifests.accounts import Risk
from registry.manifests.fields import Spec
from registry.manifests.kinds.flag_spec import describe_bounds, inherit_spec, keep_salts, split_flag_name
from registry.manifests.kinds.policy import Limits
from registry.manifests.kinds.profile import Pointer, read_revisions
from registry.manifests.kinds.revision import Alphas, find_alpha_changes
from registry.manifests.steps import DELETE, Step
from registry.models import Environment, EnvironmentBaseModel, ProfileRevision, RevisionState, TenantFlag
from registry.reads.engines import Engines, read_capabilities
from registry.reads.forms import describe_covered
from registry.reads.inheritance import InheritedFlag
from registry.reads.sides import count_changing_sides
from registry.reads.steering import freeze_in_force
from steernode.canonical import format_decimal

# Of a node that could not serve what the change gives. Nodes come and go, so it warns, and is no part of what a digest confirms.
NODE_INCAPABLE = "NODE_INCAPABLE"


def read_steered(names: Set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of these environments and tenants in which something steers now."""
    environments, tenants = {name for name, _ in names}, {name for _, name in names}
    on = TenantFlag.objects.filter(environment__name__in=environments, tenant__name__in=tenants, enabled=True)
    steering = on.filter(revision__state=RevisionState.APPROVED).exclude(alpha_scale=0)
    return set(steering.values_list("environment__name", "tenant__name"))


class FlagRisks:
    """The consequences of changing some flags, read in a few queries whatever their number.

    `parents` has the spec of the tenant's flag for each flag of a route, `revisions` those that the manifests name. `steered` says
    where something steers before the change; it is read unless given.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        parents: Mapping[str, Spec],
        revisions: Mapping[Pointer, ProfileRevision],
        *,
        steered: Set[tuple[str, str]] | None = None,
    ) -> None:
        self.parents = parents
        self.limits = Limits()
        # A route may inherit its revision from a flag that is no step of this plan.
        specs = [*(step.recorded.spec for step in steps if step.recorded), *parents.values()]
        holders = [holder for spec in specs for holder in (spec, *spec.get("arms", ()))]
        others = {holder["profile"] for holder in holders if "profile" in holder} - {name for name, _ in revisions}
        self.revisions = {**revisions, **read_revisions(others)}
        names = {(environment, tenant) for environment, tenant, _ in (split_flag_name(step.name) for step in steps)}
        environments = Environment.objects.filter(name__in={name for name, _ in names})
        self.engines = Engines({name for name, _ in names})
        now = timezone.now()
        self.freezes = {row.name: freeze for row in environments if (freeze := freeze_in_force(row, now))}
        self.steered = read_steered(names) if steered is None else steered

    def reach(self, steps: Iterable[Step]) -> dict[str, set[str]]:
        """By environment, the tenants that are steered there and were not before."""
        reached = defaultdict[str, set[str]](set)
        for step in steps:
            environment, tenant, _ = split_flag_name(step.name)
            is_new = self._after(step).steers and (environment, tenant) not in self.steered
            reached[environment] |= {tenant} if is_new else set()
        return reached

    def _after(self, step: Step) -> InheritedFlag[Pointer]:
        return inherit_spec(None if step.action == DELETE else step.spec, self.parents.get(step.name))

    def find_risks(self, step: Step) -> Iterator[Risk]:
        environment, tenant, _ = split_flag_name(step.name)
        before = inherit_spec(step.recorded.spec if step.recorded else None, self.parents.get(step.name))
        after = self._after(step)
        now, then = self._alphas(before, only_live=True), self._alphas(after)
        yield from find_alpha_changes(now, then)
        if environment in self.freezes and any(abs(alpha) > abs(now.get(what, (Decimal(0), ""))[0]) for what, (alpha, _) in then.items()):
            until = self.freezes[environment].ends_at.strftime("%Y-%m-%d %H:%M UTC")
            yield Risk("FREEZE", f"{environment} is frozen until {until}: nothing may steer more before", blocks=True)
        if before.steers and after.steers and before.rollout != after.rollout:
            yield Risk("ROLLOUT_CHANGE", f"{format_decimal(before.rollout)} → {format_decimal(after.rollout)} % of callers")
        if before.steers and after.steers:
            changing = count_changing_sides(before, keep_salts(before, after), tenant=tenant)
            if changing:
                yield Risk("SIDES_CHANGE", f"about {changing} % of the callers change sides: another arm, or in or out of the share")
        if not after.steers:
            return
        if after.override and not (before.steers and after.override == before.override):
            yield Risk("OVERRIDE_OFFERED", f"requests may ask for α from {describe_bounds(after.override)}")
        if (environment, tenant) not in self.steered:
            yield Risk("TENANT_NEWLY_STEERED", f"{tenant} is not steered in {environment} now, and would be")
        for pointer in dict.fromkeys(arm.revision_id for arm in after.choices if arm.revision_id and arm.revision_id in after.offered):
            # At none where only requests may ask.
            scales = {arm.alpha_scale for arm in after.choices if arm.revision_id == pointer and arm.alpha_scale}
            yield from self._of_revision(self.revisions[pointer], scales)
            yield from self._of_nodes(environment, tenant, self.revisions[pointer])
            yield from self._of_forms(environment, self.revisions[pointer])

    def _of_nodes(self, environment: str, tenant: str, revision: ProfileRevision) -> Iterator[Risk]:
        for line in self.engines.say_lacking(environment, read_capabilities(revision)):
            yield Risk(NODE_INCAPABLE, f"{line}, which {revision} needs: {tenant} would be neutral there")

    def _of_forms(self, environment: str, revision: ProfileRevision) -> Iterator[Risk]:
        for covered in revision.covers.all():
            if (environment, covered.base_model_id) in self.served:
                yield Risk("FORM_UNMEASURED", f"{revision} steers a form on which nothing was measured: {describe_covered(covered)}")

    @cached_property
    def served(self) -> set[tuple[str, UUID]]:
        """What each environment serves; asked where a revision covers forms."""
        return set(EnvironmentBaseModel.objects.values_list("environment__name", "base_model_id"))

    def _of_revision(self, revision: ProfileRevision, scales: Iterable[Decimal]) -> Iterator[Risk]:
        """What stands between a revision and steering at these scales."""
        if revision.evaluation is None:
            yield Risk("EVIDENCE_MISSING", f"no evaluation stands behind {revision}", blocks=True)
        if revision.state != RevisionState.APPROVED:
            who = self.limits.who_approves(revision.profile.risk_class_id, besides=str(revision.author))
            yield Risk("APPROVAL_MISSING", f"{revision} is {revision.state}; before it can steer, {who}", blocks=True)
        for component in revision.components.all():
            for scale in scales:
                scaled = component.alpha * scale
                if not component.alpha_min <= scaled <= component.alpha_max:
                    shown = f"{format_decimal(component.alpha_min)} to {format_decimal(component.alpha_max)} {component.unit}"
                    yield Risk("RANGE_EXCEEDED", f"α {format_decimal(scaled)} is outside the approved range {shown}", blocks=True)
                yield from self.limits.find_excess(scaled, component.unit, component.operator, revision.profile.risk_class_id)

    def _alphas(self, flag: InheritedFlag[Pointer], *, only_live: bool = False) -> Alphas:
        """What a flag steers with. On record, a revision that is not approved steers nothing."""
        found: dict[str, tuple[Decimal, str]] = {}
        for arm in flag.choices if flag.steers else ():
            revision = self.revisions.get(arm.revision_id) if arm.revision_id else None
            if revision is None or (only_live and revision.state != RevisionState.APPROVED):
                continue
            for component in revision.components.all():
                name = f"{component.vector.name}@{component.vector.version}"
                found[f"{name} (arm {arm.name})" if arm.name else name] = (component.alpha * arm.alpha_scale, component.unit)
        return found
