"""Environments, tenants and their flags. Default: no steering."""

from decimal import Decimal

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.models import Environment, ProfileRevision, RevisionState, Tenant, TenantFlag, User
from registry.services.moves import check_served, serve_newest
from registry.snapshots import lock_environments, publish_snapshot
from registry.transitions import transition
from steerkit.canonical import format_decimal
from steerkit.errors import AlphaError


@transition
def create_environment(name: str, *, actor: User) -> Environment:
    """A new environment with its first snapshot, which steers nothing. It serves the newest fingerprint of every base model."""
    known = Environment.objects.filter(name=name).first()
    if known is not None:
        return known
    environment = Environment.objects.create(name=name)
    serve_newest(environment, actor=actor)
    record(Action.ENVIRONMENT_CREATED, actor=actor, subject=environment, environment=name)
    publish_snapshot(environment, cause=Action.ENVIRONMENT_CREATED, actor=actor)
    return environment


@transition
def create_tenant(name: str, *, title: str = "", actor: User) -> Tenant:
    """A new tenant, unsteered until a flag says otherwise."""
    known = Tenant.objects.filter(name=name).first()
    if known is not None:
        return known
    tenant = Tenant.objects.create(name=name, title=title)
    record(Action.TENANT_CREATED, actor=actor, subject=tenant, tenant=name)
    return tenant


@transition
def set_flag(
    environment: Environment,
    tenant: Tenant,
    *,
    revision: ProfileRevision,
    enabled: bool,
    alpha_scale: Decimal,
    reason: str,
    actor: User,
    route: str = "",
) -> TenantFlag:
    """Point a tenant's flag at an approved revision, on or off. Nodes hear of it with the commit.

    Turning off always works. Turning on is refused unless the revision is approved and every scaled α is inside its range.
    Raises: TransitionRefused FLAG_NOT_APPROVED, BASE_MODEL_NOT_SERVED; AlphaError ALPHA_RANGE.
    """
    (environment,) = lock_environments([environment])
    revision = ProfileRevision.objects.select_for_update(of=("self",)).select_related("profile", "base_model").get(pk=revision.pk)
    if enabled:
        if revision.state != RevisionState.APPROVED:
            raise TransitionRefused(
                "FLAG_NOT_APPROVED", f"{revision} is {revision.state}; only an approved revision may steer", str(revision)
            )
        check_served(environment, revision.base_model)
        check_scale(revision, alpha_scale)
    flag, _ = TenantFlag.objects.update_or_create(
        environment=environment,
        tenant=tenant,
        route=route,
        defaults={
            "revision": revision,
            "enabled": enabled,
            "alpha_scale": alpha_scale,
            "reason": reason,
            "changed_by": actor,
            "changed_at": timezone.now(),
        },
    )
    record(
        Action.FLAG_CHANGED,
        actor=actor,
        subject=flag,
        tenant=tenant.name,
        environment=environment.name,
        details={
            "profile": revision.profile.name,
            "revision": revision.number,
            "revision_digest": revision.digest,
            "route": route,
            "enabled": enabled,
            "alpha_scale": format_decimal(alpha_scale),
            "reason": reason,
        },
        base_model_fingerprint=revision.base_model.fingerprint,
    )
    publish_snapshot(environment, cause=Action.FLAG_CHANGED, actor=actor)
    return flag


def check_scale(revision: ProfileRevision, alpha_scale: Decimal) -> None:
    """Every component's scaled α stays inside the range that was approved. Zero is always inside. Raises: AlphaError ALPHA_RANGE."""
    if not alpha_scale.is_finite() or not 0 <= alpha_scale <= 10:
        raise AlphaError("ALPHA_RANGE", f"α scale {alpha_scale} is not between 0 and 10", str(alpha_scale))
    for component in revision.components.all():
        scaled = component.alpha * alpha_scale
        if scaled != 0 and not component.alpha_min <= scaled <= component.alpha_max:
            raise AlphaError(
                "ALPHA_RANGE",
                f"α {format_decimal(component.alpha)} × {format_decimal(alpha_scale)} is outside the approved range "
                f"{format_decimal(component.alpha_min)} to {format_decimal(component.alpha_max)} {component.unit}",
                format_decimal(alpha_scale),
            )
