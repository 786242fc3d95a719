"""Apply a plan: plan again under locks, refuse if it is not the plan that was looked at, then take each step through its service.

All of it is one batch: one transaction, no other beside it, and one snapshot revision for each environment it touches.
"""

from collections.abc import Callable
from typing import Any

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.manifests.documents import place_error
from registry.manifests.kind import Writer
from registry.manifests.kinds import KINDS
from registry.manifests.parse import parse_manifests
from registry.manifests.plan import Options, Plan, plan_manifests
from registry.manifests.steps import CREATE, DELETE, UPDATE, digest_spec
from registry.models import AppliedPlan, Declaration, User
from registry.services.transition import all_or_nothing
from steernode.errors import SteerError


def apply_plan(documents: list[Any], *, options: Options, plan_digest: str, actor: User, permit: Callable[..., None]) -> Plan:
    """Make the record say what the documents say, if that is still what the plan of this digest would do.

    `permit` raises unless the actor holds one of the roles it is given.
    Raises: what `make_plan` and the services raise; TransitionRefused PLAN_STALE, PLAN_APPLIED.
    """
    # Everybody but a kill waits for what happens below, so what takes minutes comes before.
    manifests = parse_manifests(documents)
    inspected = {name: kind.inspect([each for each in manifests if each.kind == name]) for name, kind in KINDS.items()}
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=actor):
        _refuse_replay(plan_digest)
        plan = plan_manifests(manifests, options)
        for roles in sorted(plan.roles):
            permit(*roles)
        if plan.digest != plan_digest:
            raise TransitionRefused("PLAN_STALE", "the record or the manifests changed since this plan was made; plan again", plan_digest)
        if plan.changes:
            _take_steps(plan, Writer(actor, plan.references, inspected))
            _declare(plan, actor)
    return plan


def _refuse_replay(plan_digest: str) -> None:
    before = AppliedPlan.objects.select_related("applied_by").filter(digest=plan_digest).first()
    if before is not None:
        when = before.applied_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        raise TransitionRefused("PLAN_APPLIED", f"{before.applied_by} applied this plan at {when}; plan again", plan_digest)


def _take_steps(plan: Plan, writer: Writer) -> None:
    """In the order of kinds: first what recipes and revisions name, then all else, and last what goes."""
    writing = [(KINDS[step.kind], step) for step in plan.steps if step.changes_record]
    taken = [(kind.write, step) for kind, step in writing if kind.is_written_first]
    taken += [(kind.write_rest if kind.is_written_first else kind.write, step) for kind, step in writing]
    taken += [(KINDS[step.kind].delete, step) for step in plan.steps if step.action == DELETE]
    for take, step in taken:
        try:
            take(step, writer)
        except SteerError as error:
            if step.manifest is not None:
                place_error(error, step.manifest, "spec")
            raise


def _declare(plan: Plan, actor: User) -> None:
    """Note who declares what now, and record that the plan was applied."""
    applied = AppliedPlan.objects.create(digest=plan.digest, applied_by=actor)
    taken_over = sorted(f"{step} from {step.owner}" for step in plan.changes if step.is_contested)
    new, known = list[Declaration](), list[Declaration]()
    for step in plan.changes:
        declaration = step.declaration or Declaration(kind=step.kind, name=step.name, generation=0)
        spec_digest = digest_spec(step.manifest.spec) if step.manifest else ""
        if spec_digest != declaration.spec_digest:
            declaration.generation += 1
        declaration.spec_digest, declaration.plan = spec_digest, applied
        if step.manifest:
            declaration.manager, declaration.labels = step.manifest.manager, step.manifest.labels
        (known if step.declaration else new).append(declaration)
    Declaration.objects.bulk_create(new)
    Declaration.objects.bulk_update(known, ["manager", "labels", "generation", "spec_digest", "plan"])
    record(
        Action.MANIFESTS_APPLIED,
        actor=actor,
        subject=applied,
        details={
            "plan_digest": plan.digest,
            **{f"{action}s": sorted(str(step) for step in plan.changes if step.action == action) for action in (CREATE, UPDATE, DELETE)},
            "taken_over": taken_over,
        },
    )
