"""Tenant flags: what steers whom, how much, for which share of callers. Off needs one person and always works."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn, TypedDict, Unpack
from uuid import UUID

from django.db.models import Prefetch, Q, prefetch_related_objects
from django.utils import timezone

from registry.audit import Action, record
from registry.audit.pending import in_progress
from registry.errors import InvalidInput, NotFound, RecordChanged, TransitionRefused
from registry.models import Environment, FlagArm, FlagField, ProfileRevision, RevisionState, Tenant, TenantFlag, User
from registry.models.fields import NAME, refuse_rounding
from registry.reads.documents import COMPONENTS, COVERS, NO_FLAG, flag_document, is_as_approved, revision_document, tag_flag
from registry.reads.inheritance import Id, InheritedFlag, read_tenants_anew
from registry.reads.steering import live_revisions
from registry.services.base_model_moves import check_served
from registry.services.names import refuse_twin
from registry.services.salts import Split, read_split, salt_flag
from registry.services.transition import lock_environments, publish_at_end, transition
from steernode.canonical import format_decimal
from steernode.errors import AlphaError
from steernode.snapshot.records import AlphaBounds
from steernode.spelling import spell
from steernode.words import EVERYBODY, MAX_ARM_WEIGHT, MAX_ARMS, RESERVED_ARM_NAMES


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """One side of an A/B test. What is None, the arm has from its flag."""

    name: str
    weight: int
    revision: ProfileRevision | None = None
    alpha_scale: Decimal | None = None


class Stated(TypedDict, total=False):
    """What a change says about a flag. What it does not mention stays as it is.

    A new flag of a tenant starts at α scale 1, for everybody, without arms and without an override; that of a route inherits
    from the tenant's whatever is not stated, or starts like a tenant's if there is none. `inherit` gives a route's field back.
    A salt says which callers a share covers, or which arm each is in; one is drawn where a rollout or a test starts and states none, and
    gone where there is nothing to split. An empty one places callers as before there were salts.
    """

    revision: ProfileRevision
    alpha_scale: Decimal
    rollout: Decimal
    arms: Sequence[ArmSpec]
    override: AlphaBounds | None
    rollout_salt: str
    arms_salt: str
    inherit: Collection[str]


@transition
def set_flag(
    environment: Environment,
    tenant: Tenant,
    *,
    enabled: bool | None,
    reason: str,
    actor: User,
    route: str = "",
    if_tag: str | None = None,
    **stated: Unpack[Stated],
) -> TenantFlag:
    """Turn a flag on or off, or with None leave that as it is, and change what it states. Nodes hear of it with the commit.

    Turning off always works. A route that is written as no name may be, or as another route but for its capitals, is none. Turning on
    takes revisions that may steer, and every α it can give inside the approved range.
    Raises: TransitionRefused FLAG_NOT_APPROVED, BASE_MODEL_NOT_SERVED, FREEZE; RecordChanged FLAG_CHANGED; InvalidInput FLAG_*, NAME_CASE;
    SpellingError SPELLING; AlphaError ALPHA_RANGE; SnapshotRefused ALPHA_CAP, COMPOSITION_BUDGET.
    """
    route = spell(route, "the route")
    (environment,) = lock_environments([environment])
    flags = TenantFlag.objects.select_related("revision__profile", "revision__base_model")
    flag = flags.filter(environment=environment, tenant=tenant, route=route).first()
    if if_tag is not None and (tag_flag(flag) if flag else NO_FLAG) != if_tag:
        now = f"it is at version {flag.version}" if flag else "there is none"
        raise RecordChanged("FLAG_CHANGED", f"the flag is not the one you read: {now}; read it again", str(tenant))
    is_new = flag is None
    if enabled is None:
        enabled = flag is not None and flag.enabled
    if flag is None:
        flag = _new_flag(environment, tenant, route, stated)
    else:
        flag.version += 1
        flag.environment, flag.tenant = environment, tenant
    had = [] if is_new else list(flag.arms.select_related("revision__profile"))
    before = Split() if is_new else read_split(flag, had)
    arms = _state(flag, stated)
    salt_flag(
        flag,
        before=before,
        arms=had if arms is None else arms,
        rollout_salt=stated.get("rollout_salt"),
        arms_salt=stated.get("arms_salt"),
    )
    flag.enabled, flag.reason, flag.changed_by, flag.changed_at = enabled, reason, actor, timezone.now()
    flag.save()
    if arms is not None and not (is_new and not arms):
        flag.arms.all().delete()
        FlagArm.objects.bulk_create(
            FlagArm(flag=flag, position=position, name=arm.name, weight=arm.weight, revision=arm.revision, alpha_scale=arm.alpha_scale)
            for position, arm in enumerate(arms)
        )
    prefetch_related_objects([flag], "arms__revision__profile")
    if enabled:
        _check_choices(_inherit(flag), environment)
    revision = flag.revision
    record(
        Action.FLAG_CHANGED,
        actor=actor,
        subject=flag,
        tenant=tenant.name,
        environment=environment.name,
        details=flag_document(flag),
        base_model_fingerprint=revision.base_model.fingerprint if revision else "",
    )
    publish_at_end(environment, cause=Action.FLAG_CHANGED, actor=actor, only_lowers=not enabled)
    return flag


@transition
def delete_flag(flag_id: UUID, *, actor: User) -> None:
    """off -> gone. Raises: TransitionRefused FLAG_ON; FLAG_INHERITED while the flag of a route takes something from it, or is on
    and held off by it alone."""
    (environment,) = lock_environments(Environment.objects.filter(flags__pk=flag_id))
    flag = TenantFlag.objects.select_related("tenant", "environment", "revision__profile").get(pk=flag_id)
    if flag.enabled:
        raise TransitionRefused("FLAG_ON", f"the flag {flag} is on; turn it off before it is deleted", str(flag))
    routes = TenantFlag.objects.filter(environment=environment, tenant=flag.tenant).exclude(route="")
    heir = None if flag.route else routes.filter(~Q(inherits=[]) | Q(enabled=True)).first()
    if heir is not None:
        raise TransitionRefused("FLAG_INHERITED", f"{heir} depends on {flag}; turn that off and delete it first", str(flag))
    record(
        Action.FLAG_DELETED, actor=actor, subject=flag, tenant=flag.tenant.name, environment=environment.name, details=flag_document(flag)
    )
    flag.delete()
    publish_at_end(environment, cause=Action.FLAG_DELETED, actor=actor)


def _inherit(flag: TenantFlag) -> InheritedFlag[Id]:
    """One flag with what it inherits."""
    (of_tenant,) = read_tenants_anew(TenantFlag.objects.filter(environment=flag.environment_id, tenant=flag.tenant_id)).values()
    return next(inherited for inherited in of_tenant.flags if inherited.flag_id == str(flag.pk))


def _new_flag(environment: Environment, tenant: Tenant, route: str, stated: Stated) -> TenantFlag:
    others = list(TenantFlag.objects.filter(environment=environment, tenant=tenant).values_list("route", flat=True))
    if twin := next((other for other in others if other.casefold() == route.casefold()), None):
        refuse_twin("route", route, twin)
    inherits_all = route and "" in others
    flag = TenantFlag(environment=environment, tenant=tenant, route=route)
    if inherits_all:
        flag.inherits = [name for name in FlagField.values if name not in stated]
        flag.alpha_scale = flag.rollout = None
    elif "revision" not in stated:
        raise NotFound("FLAG_NOT_FOUND", f"{tenant} has no flag in {environment} yet; name a profile and its revision", tenant.name)
    return flag


def _state(flag: TenantFlag, stated: Stated) -> Sequence[ArmSpec] | None:
    """Write what is stated into the flag. Returns the arms it now has, or None if those it has stay."""
    inherit = set(stated.get("inherit", ()))
    _check_inheritance(flag, stated, inherit)
    values: dict[str, Any] = {name: value for name, value in stated.items() if name not in ("inherit", "rollout_salt", "arms_salt")}
    values |= dict.fromkeys(inherit)
    flag.inherits = [name for name in FlagField.values if name in inherit or (name in flag.inherits and name not in values)]
    arms: Sequence[ArmSpec] | None = None
    for name, value in values.items():
        if name == FlagField.OVERRIDE:
            flag.override_min, flag.override_max = (value.alpha_min, value.alpha_max) if value else (None, None)
        elif name == FlagField.ARMS:
            arms = value or ()
        else:
            setattr(flag, name, value)
    _check_ranges(flag, arms or ())
    return arms


def _check_inheritance(flag: TenantFlag, stated: Stated, inherit: set[str]) -> None:
    unknown = sorted(inherit - set(FlagField.values))
    if unknown:
        raise InvalidInput("FLAG_INHERITS", f"{unknown[0]!r} is not inherited; it is one of {', '.join(FlagField.values)}", unknown[0])
    both = sorted(inherit & set(stated))
    if both:
        raise InvalidInput("FLAG_INHERITS", f"{both[0]} is both stated and inherited", both[0])
    if not inherit:
        return
    if not flag.route:
        raise InvalidInput("FLAG_INHERITS", "a tenant's flag has nothing to inherit from; only the flag of a route does", min(inherit))
    if not TenantFlag.objects.filter(environment=flag.environment, tenant=flag.tenant, route="").exists():
        raise InvalidInput("FLAG_INHERITS", f"{flag.tenant} has no flag in {flag.environment} to inherit from", min(inherit))


def _check_ranges(flag: TenantFlag, arms: Sequence[ArmSpec]) -> None:
    for scale in (flag.alpha_scale, *(arm.alpha_scale for arm in arms)):
        if scale is not None and not (scale.is_finite() and 0 <= scale <= 10):
            raise AlphaError("ALPHA_RANGE", f"α scale {scale} is not between 0 and 10", str(scale))
    share = flag.rollout
    if share is not None and not (share.is_finite() and 0 <= share <= EVERYBODY and share == round(share, 3)):
        raise InvalidInput("FLAG_ROLLOUT", f"a rollout is a share from 0 to 100 percent with at most 3 decimals, not {share}", str(share))
    for bound in (flag.override_min, flag.override_max):
        if bound is not None:
            refuse_rounding(bound)
    if flag.override_min is not None and flag.override_max is not None and flag.override_min > flag.override_max:
        asked = f"{format_decimal(flag.override_min)} to {format_decimal(flag.override_max)}"
        raise InvalidInput("FLAG_OVERRIDE", f"an override from {asked} holds nothing", asked)
    if len(arms) > MAX_ARMS or len({arm.name for arm in arms}) != len(arms):
        raise InvalidInput("FLAG_ARMS", f"a flag has at most {MAX_ARMS} arms, no two of one name", "arms")
    for arm in arms:
        check_arm_name(arm.name)
        if not NAME.fullmatch(arm.name) or not 1 <= arm.weight <= MAX_ARM_WEIGHT:
            needs = f"a name of letters, digits, '-' and '_', and a weight from 1 to {MAX_ARM_WEIGHT}"
            raise InvalidInput("FLAG_ARMS", f"arm {arm.name!r} needs {needs}", arm.name)


def check_arm_name(name: str) -> None:
    """Raises: InvalidInput ARM_RESERVED."""
    if name.strip().casefold() in RESERVED_ARM_NAMES:
        message = f"an arm cannot be called {name!r}: OFREP says {' and '.join(RESERVED_ARM_NAMES)} of requests that are in no arm"
        raise InvalidInput("ARM_RESERVED", message, name)


def _check_choices(flag: InheritedFlag[Id], environment: Environment) -> None:
    """Everything that a flag which is on can give must be approved, and inside what was approved."""
    revisions = _check_revisions(flag.offered, environment)
    for arm in flag.choices:
        # Any other is a control: nothing steers it.
        if arm.revision_id in revisions:
            check_alphas(revisions[arm.revision_id], arm.alpha_scale, flag.override)


def _check_revisions(keys: Collection[str | None], environment: Environment) -> dict[str | None, ProfileRevision]:
    """These revisions, locked, if every one of them may steer in the environment.

    A transaction looks at each once, because a thousand flags of a batch may name the same. Should a later step invalidate it, the
    snapshot that ends the batch leaves it out.
    """
    checked, asked = in_progress().checked, {key for key in keys if key is not None}
    wanted = {key for key in asked if (environment.pk, key) not in checked}
    # Locked, so that none of them is retired between this look and the commit. An empty list asks the database nothing.
    rows = live_revisions(environment).select_for_update(of=("self",)).select_related("profile", "base_model")
    rows = rows.prefetch_related(Prefetch("components", COMPONENTS), Prefetch("covers", COVERS))
    for revision in rows.filter(pk__in=wanted).order_by("pk"):
        if not is_as_approved(revision_document(revision, revision.components.all(), revision.covers.all()), revision.digest):
            raise TransitionRefused("DIGEST_MISMATCH", f"{revision} is not what was approved; it steers nobody", str(revision))
        checked[environment.pk, str(revision.pk)] = revision
    for revision in ProfileRevision.objects.filter(pk__in=[key for key in wanted if (environment.pk, key) not in checked]).order_by("pk"):
        _refuse(revision, environment)
    return {key: checked[environment.pk, key] for key in asked if (environment.pk, key) in checked}


def _refuse(revision: ProfileRevision, environment: Environment) -> NoReturn:
    """Say why a revision may not steer."""
    if revision.state != RevisionState.APPROVED:
        raise TransitionRefused("FLAG_NOT_APPROVED", f"{revision} is {revision.state}; only an approved revision may steer", str(revision))
    check_served(environment, revision)
    raise TransitionRefused("FLAG_NOT_APPROVED", f"{revision} was approved, and may steer no longer", str(revision))


def check_alphas(revision: ProfileRevision, alpha_scale: Decimal, override: AlphaBounds | None = None) -> None:
    """Every scaled α, and what a request may ask for, stays inside the range that was approved. Zero is always inside.

    Raises: AlphaError ALPHA_RANGE.
    """
    components = revision.components.all()
    for component in components:
        scaled = component.alpha * alpha_scale
        if scaled != 0 and not component.allowed.holds(scaled):
            raise AlphaError(
                "ALPHA_RANGE",
                f"α {format_decimal(component.alpha)} × {format_decimal(alpha_scale)} is outside the approved range "
                f"{component.allowed} {component.unit}",
                format_decimal(alpha_scale),
            )
    if override is not None:
        first = components[0]
        if not first.allowed.covers(override):
            problem = f"requests may not ask for α {override}: the approved range of {revision} is {first.allowed} {first.unit}"
            raise AlphaError("ALPHA_RANGE", problem, str(override))
