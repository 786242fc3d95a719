"""What a plan means for those who are steered, in words: Δα, new tenants, caps, missing evidence, who must approve, nodes affected."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from registry.manifests.flags import Pointer, describe_bounds, inherit_spec, split_flag_name
from registry.manifests.plan import Plan, read_parents
from registry.manifests.steps import CREATE, DELETE, NO_OP, Step
from registry.models import (
    Environment,
    Evaluation,
    Freeze,
    ProfileRevision,
    RevisionState,
    RiskPolicy,
    SteeringVector,
    TenantFlag,
)
from registry.reads.fleet import Standings, standings
from registry.reads.inheritance import InheritedFlag
from registry.reads.steering import freeze_in_force
from steernode.canonical import format_decimal
from steernode.words import STRENGTH_OPERATORS

Spec = dict[str, Any]
# By what is steered (an arm and a vector): how much, and in which unit.
Alphas = Mapping[str, tuple[Decimal, str]]


@dataclass(frozen=True, slots=True)
class Risk:
    """One consequence. What `blocks` is refused when the plan is applied."""

    code: str
    message: str
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Reach:
    """Which nodes of an environment hear of the plan, and whom it steers there that was not steered before."""

    environment: str
    nodes: int
    in_step: int
    newly_steered: tuple[str, ...]


class Risks:
    """The consequences of one plan, read in a few queries whatever its size."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.flags = [step for step in plan.changes if step.kind == "TenantFlag"]
        self.parents = read_parents(plan.steps)
        self.policies = {policy.name: policy for policy in RiskPolicy.objects.all()}
        self.revisions = _read_revisions(self.flags, plan.references.revisions)
        self.steered = _read_steered(self.flags)
        self.freezes = _read_freezes(self.flags)
        self.vectors = _read_vectors(part["vector"] for step in plan.changes for part in _components(step.spec))
        evaluations = Evaluation.objects.filter(vector__in=self.vectors.values())
        self.evaluated = {(row.vector_id, row.alpha, row.unit): row.passed for row in evaluations}

    def of(self, step: Step) -> list[Risk]:
        """The consequences of one step, in the order in which they matter."""
        find = {
            "TenantFlag": self._of_flag,
            "SteeringProfile": self._of_profile,
            "SteeringVector": _of_vector,
            "BaseModel": _of_base_model,
            "Environment": _of_environment,
            "RiskPolicy": _of_policy,
        }
        return list(find[step.kind](step)) if step.kind in find and step.manifest is not None and step.action != NO_OP else []

    def reach(self) -> list[Reach]:
        """For each environment whose nodes would be told something else."""
        touched: dict[str, set[str]] = {step.name: set() for step in self.plan.changes if step.kind == "Environment" and step.recorded}
        for step in self.flags:
            environment, tenant, _ = split_flag_name(step.name)
            touched.setdefault(environment, set())
            if self._after(step).steers and (environment, tenant) not in self.steered:
                touched[environment].add(tenant)
        nodes = standings(Environment.objects.filter(name__in=touched))

        def read(name: str) -> Reach:
            here = nodes.get(name, Standings())
            return Reach(name, len(here.nodes), here.in_step, tuple(sorted(touched[name])))

        return [read(name) for name in sorted(touched)]

    # -- Flags ------------------------------------------------------------------------------------------------------------------

    def _after(self, step: Step) -> InheritedFlag[Pointer]:
        return inherit_spec(None if step.action == DELETE else step.spec, self.parents.get(step.name))

    def _of_flag(self, step: Step) -> Iterator[Risk]:
        environment, tenant, _ = split_flag_name(step.name)
        before = inherit_spec(step.recorded.spec if step.recorded else None, self.parents.get(step.name))
        after = self._after(step)
        now, then = self._alphas(before, only_live=True), self._alphas(after)
        yield from _alpha_changes(now, then)
        if environment in self.freezes and any(abs(alpha) > abs(now.get(what, (Decimal(0), ""))[0]) for what, (alpha, _) in then.items()):
            until = self.freezes[environment].ends_at.strftime("%Y-%m-%d %H:%M UTC")
            yield Risk("FREEZE", f"{environment} is frozen until {until}: nothing may steer more before", blocks=True)
        if before.steers and after.steers and before.rollout != after.rollout:
            yield Risk("ROLLOUT_CHANGE", f"{format_decimal(before.rollout)} → {format_decimal(after.rollout)} % of callers")
        if not after.steers:
            return
        if after.override and not (before.steers and after.override == before.override):
            yield Risk("OVERRIDE_OFFERED", f"requests may ask for α from {describe_bounds(after.override)}")
        if (environment, tenant) not in self.steered:
            yield Risk("TENANT_NEWLY_STEERED", f"{tenant} is not steered in {environment} now, and would be")
        for pointer, scales in _scales(after).items():
            yield from self._of_revision(self.revisions[pointer], scales)

    def _of_revision(self, revision: ProfileRevision, scales: Iterable[Decimal]) -> Iterator[Risk]:
        """What stands between a revision and steering at these scales."""
        if revision.evaluation is None:
            yield Risk("EVIDENCE_MISSING", f"no evaluation stands behind {revision}", blocks=True)
        if revision.state != RevisionState.APPROVED:
            who = self._who_approves(revision.profile.risk_class_id, besides=str(revision.author))
            yield Risk("APPROVAL_MISSING", f"{revision} is {revision.state}; before it can steer, {who}", blocks=True)
        for component in revision.components.all():
            for scale in scales:
                scaled = component.alpha * scale
                if not component.alpha_min <= scaled <= component.alpha_max:
                    shown = f"{format_decimal(component.alpha_min)} to {format_decimal(component.alpha_max)} {component.unit}"
                    yield Risk("RANGE_EXCEEDED", f"α {format_decimal(scaled)} is outside the approved range {shown}", blocks=True)
                yield from self._cap(scaled, component.unit, component.operator, revision.profile.risk_class_id)

    def _alphas(self, flag: InheritedFlag[Pointer], *, only_live: bool = False) -> Alphas:
        """What a flag steers with. On record, a revision that is not approved steers nothing."""
        found: dict[str, tuple[Decimal, str]] = {}
        for arm in flag.choices if flag.steers else ():
            revision = self.revisions.get(arm.revision_id)
            if revision is None or (only_live and revision.state != RevisionState.APPROVED):
                continue
            for component in revision.components.all():
                name = f"{component.vector.name}@{component.vector.version}"
                found[f"{name} (arm {arm.name})" if arm.name else name] = (component.alpha * arm.alpha_scale, component.unit)
        return found

    # -- Profiles ---------------------------------------------------------------------------------------------------------------

    def _of_profile(self, step: Step) -> Iterator[Risk]:
        if not any(change.field.startswith("spec.revision") for change in step.changes):
            return
        risk_class = step.spec["riskClass"]
        parts = _components(step.spec)
        yield from _alpha_changes(_authored(_components(step.recorded.spec) if step.recorded else []), _authored(parts))
        for part in parts:
            largest = max(abs(Decimal(part[name])) for name in ("alpha", "alphaMin", "alphaMax"))
            yield from self._cap(largest, part["unit"], part["operator"], risk_class)
        if len(parts) == 1:
            yield from self._of_evidence(parts[0])
        else:
            yield Risk("EVIDENCE_MISSING", f"an evaluation of all {len(parts)} components together is needed before it can be submitted")
        yield Risk("APPROVAL_NEEDED", f"a draft; it steers nobody before {self._who_approves(risk_class)}")

    def _of_evidence(self, part: Spec) -> Iterator[Risk]:
        vector = self.vectors.get(part["vector"])
        passed = self.evaluated.get((vector.pk, Decimal(part["alpha"]), part["unit"])) if vector else None
        what = f"{part['vector']} at α = {part['alpha']} {part['unit']}"
        if passed is None:
            yield Risk("EVIDENCE_MISSING", f"no evaluation of {what}; it is needed before the draft can be submitted")
        elif not passed:
            yield Risk("GATES_FAILED", f"the evaluation of {what} failed its gates")

    def _cap(self, alpha: Decimal, unit: str, operator: str, risk_class: str) -> Iterator[Risk]:
        policy = self.policies.get(risk_class)
        # A strength is a share, and has no cap but 1.
        if policy is None or operator in STRENGTH_OPERATORS:
            return
        cap = policy.alpha_caps[unit]
        if abs(alpha) > cap:
            message = f"α may reach {format_decimal(abs(alpha))} {unit}; the cap of risk class {risk_class} is {format_decimal(cap)}"
            yield Risk("CAP_EXCEEDED", message, blocks=True)

    def _who_approves(self, risk_class: str, *, besides: str = "its author") -> str:
        policy = self.policies.get(risk_class)
        if policy is None:
            return f"people must approve it as the risk class {risk_class} will say"
        people = "one person" if policy.approvals_needed == 1 else f"{policy.approvals_needed} people"
        return f"{people} besides {besides} must approve it (role {', '.join(policy.reviewer_roles)})"


def _alpha_changes(before: Alphas, after: Alphas) -> Iterator[Risk]:
    for what in [*after, *(what for what in before if what not in after)]:
        old, unit = before.get(what, (Decimal(0), after.get(what, (Decimal(0), ""))[1]))
        new, new_unit = after.get(what, (Decimal(0), unit))
        if unit != new_unit:
            shown = f"{format_decimal(old)} {unit} → {format_decimal(new)} {new_unit}; the units differ"
            yield Risk("ALPHA_CHANGE", f"α of {what}: {shown}")
        elif old != new:
            sign = "+" if new > old else ""
            shown = f"{format_decimal(old)} → {format_decimal(new)} {unit} (Δα {sign}{format_decimal(new - old)})"
            yield Risk("ALPHA_CHANGE", f"α of {what}: {shown}")


def _authored(parts: Iterable[Spec]) -> Alphas:
    return {part["vector"]: (Decimal(part["alpha"]), part["unit"]) for part in parts}


def _scales(flag: InheritedFlag[Pointer]) -> dict[Pointer, set[Decimal]]:
    """At which scales above zero each revision would steer; at none where only requests may ask."""
    scales: dict[Pointer, set[Decimal]] = {arm.revision_id: set() for arm in flag.choices if arm.revision_id in flag.offered}
    for arm in flag.choices:
        if arm.alpha_scale:
            scales[arm.revision_id].add(arm.alpha_scale)
    return scales


def _of_vector(step: Step) -> Iterator[Risk]:
    if "recipe" in step.spec:
        recipe = step.spec["recipe"]
        verb = "makes" if step.action == CREATE else "makes another version of"
        onward = f", and if it passes its validation, a draft of {recipe['profile']}" if "profile" in recipe else ""
        yield Risk("JOB_QUEUED", f"a job {verb} the vector from {recipe['contrastSet']} and {recipe['baseModel']}{onward}")


def _of_base_model(step: Step) -> Iterator[Risk]:
    if step.recorded:
        yield Risk("BASE_MODEL_CHANGE", "registered, and served nowhere before an environment is moved to it")


def _of_environment(step: Step) -> Iterator[Risk]:
    """What moving to another fingerprint takes with it."""
    for change in step.changes:
        if not change.field.startswith("spec.baseModels.") or change.before is None:
            continue
        on = TenantFlag.objects.filter(environment__name=step.name, enabled=True, revision__base_model__fingerprint=change.before).count()
        approved = ProfileRevision.objects.filter(base_model__fingerprint=change.before, state=RevisionState.APPROVED).count()
        message = f"turns off {on} flags; {approved} approved revisions are for the fingerprint that it leaves"
        yield Risk("BASE_MODEL_CHANGE", message)


def _of_policy(step: Step) -> Iterator[Risk]:
    if step.recorded:
        yield Risk("POLICY_CHANGE", "limits hold at once for all that steers in this class; demands hold for what is submitted from now on")


def _components(spec: Spec) -> list[Spec]:
    revision = spec.get("revision")
    return revision["components"] if isinstance(revision, dict) else []


def _read_vectors(references: Iterable[str]) -> dict[str, SteeringVector]:
    wanted = set(references)
    rows = SteeringVector.objects.filter(name__in={reference.partition("@")[0] for reference in wanted})
    return {f"{row.name}@{row.version}": row for row in rows if f"{row.name}@{row.version}" in wanted}


def _read_revisions(flags: Iterable[Step], known: Mapping[Pointer, ProfileRevision]) -> dict[Pointer, ProfileRevision]:
    """Those that the flags name, and those that they name on record."""
    holders = [holder for step in flags if step.recorded for holder in (step.recorded.spec, *step.recorded.spec.get("arms", ()))]
    others = {holder["profile"] for holder in holders if "profile" in holder} - {name for name, _ in known}
    rows = ProfileRevision.objects.filter(profile__name__in=others).select_related("profile", "evaluation", "author")
    return {**known, **{(row.profile.name, row.number): row for row in rows.prefetch_related("components__vector")}}


def _read_freezes(flags: Iterable[Step]) -> dict[str, Freeze]:
    names = {split_flag_name(step.name)[0] for step in flags}
    found = {row.name: freeze_in_force(row, timezone.now()) for row in Environment.objects.filter(name__in=names)}
    return {name: freeze for name, freeze in found.items() if freeze is not None}


def _read_steered(flags: Iterable[Step]) -> set[tuple[str, str]]:
    """The environments and tenants of these flags in which something steers now."""
    names = {split_flag_name(step.name)[:2] for step in flags}
    rows = TenantFlag.objects.filter(
        environment__in=Environment.objects.filter(name__in={name for name, _ in names}),
        tenant__name__in={name for _, name in names},
        enabled=True,
        revision__state=RevisionState.APPROVED,
    ).exclude(alpha_scale=0)
    return set(rows.values_list("environment__name", "tenant__name"))
