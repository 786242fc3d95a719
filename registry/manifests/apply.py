"""Apply a plan: plan again under locks, refuse if it is not the plan that was looked at, then take each step through its service.

All of it is one batch: one transaction, no other beside it, and one snapshot revision for each environment it touches.
"""

from collections.abc import Callable
from typing import Any

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.manifests.documents import Manifest, parse_manifests, place_error
from registry.manifests.plan import Options, Plan, make_plan
from registry.manifests.steps import CREATE, DELETE, UPDATE, digest_spec
from registry.manifests.writers import DELETERS, WRITERS, Writer
from registry.models import AppliedPlan, BaseModel, Declaration, User
from registry.services.base_models import resolve_model_folder
from registry.services.transition import all_or_nothing, stop_for_kills
from steernode.errors import ModelError, SteerError
from steernode.files.basemodels import ModelFiles, inspect_model


def apply_plan(documents: list[Any], *, options: Options, plan_digest: str, actor: User, permit: Callable[..., None]) -> Plan:
    """Make the record say what the documents say, if that is still what the plan of this digest would do.

    `permit` raises unless the actor holds one of the roles it is given.
    Raises: what `make_plan` and the services raise; TransitionRefused PLAN_STALE, PLAN_APPLIED, KILL_FIRST.
    """
    # Hashing takes minutes for a large model, and everybody waits for what happens below; a kill for no more than a step of it.
    models = _inspect_models(parse_manifests(documents))
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=actor):
        _refuse_replay(plan_digest)
        plan = make_plan(documents, options)
        for roles in sorted(plan.roles):
            permit(*roles)
        if plan.digest != plan_digest:
            raise TransitionRefused("PLAN_STALE", "the record or the manifests changed since this plan was made; plan again", plan_digest)
        if plan.changes:
            _take_steps(plan, Writer(actor, plan.references, models))
            _declare(plan, actor)
    return plan


def _refuse_replay(plan_digest: str) -> None:
    before = AppliedPlan.objects.select_related("applied_by").filter(digest=plan_digest).first()
    if before is not None:
        when = before.applied_at.strftime("%Y-%m-%d %H:%M:%S UTC")
        raise TransitionRefused("PLAN_APPLIED", f"{before.applied_by} applied this plan at {when}; plan again", plan_digest)


def _inspect_models(manifests: list[Manifest]) -> dict[str, ModelFiles]:
    """What the files of base models hash to, for those that the record does not have as they are declared."""
    found = {}
    for manifest in manifests:
        if manifest.kind != "BaseModel":
            continue
        wanted = manifest.spec.get("fingerprint")
        registered = BaseModel.objects.filter(name=manifest.name).order_by("-registered_at", "-id")
        known = (registered.filter(fingerprint=wanted) if wanted else registered).first()
        if known is not None and known.source == manifest.spec["source"]:
            continue
        try:
            found[manifest.name] = model = inspect_model(resolve_model_folder(manifest.spec["source"]))
            if wanted not in (None, model.fingerprint):
                raise ModelError("MODEL_FINGERPRINT", f"the files hash to {model.fingerprint}, not to what is declared", manifest.name)
        except SteerError as error:
            raise place_error(error, manifest, "spec.source") from error
    return found


def _take_steps(plan: Plan, writer: Writer) -> None:
    for kind, write in WRITERS:
        for step in plan.steps:
            if step.kind == kind and step.manifest is not None and (step.action == CREATE or (step.action == UPDATE and step.changes_spec)):
                stop_for_kills()
                try:
                    write(writer, step)
                except SteerError as error:
                    raise place_error(error, step.manifest, "spec") from error
    for step in plan.steps:
        if step.action == DELETE:
            stop_for_kills()
            DELETERS[step.kind](writer, step)


def _declare(plan: Plan, actor: User) -> None:
    """Note who declares what now, and record that the plan was applied."""
    applied = AppliedPlan.objects.create(digest=plan.digest, applied_by=actor)
    taken_over = sorted(f"{step} from {step.owner}" for step in plan.changes if step.is_contested)
    new, known = [], []
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
