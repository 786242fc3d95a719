"""Removals: what may go again because nothing that stays on record refers to it. Everything else is turned off, or retired."""

from uuid import UUID

from django.db.models import Q

from registry.audit import Action, record
from registry.audit.transition import transition
from registry.errors import TransitionRefused
from registry.models import ApiToken, Environment, Profile, Tenant, TenantFlag, User
from registry.reads.documents import flag_document
from registry.snapshots import lock_environments, publish_snapshot


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
        Action.FLAG_DELETED,
        actor=actor,
        subject=flag,
        tenant=flag.tenant.name,
        environment=environment.name,
        details=flag_document(flag),
    )
    flag.delete()
    publish_snapshot(environment, cause=Action.FLAG_DELETED, actor=actor)


@transition
def delete_tenant(name: str, *, actor: User) -> None:
    """A tenant without flags goes, if no kill and no token names it. Raises: TransitionRefused TENANT_IN_USE."""
    tenant = Tenant.objects.select_for_update().get(name=name)
    if tenant.flags.exists() or tenant.kills.exists() or ApiToken.objects.filter(tenant=tenant).exists():
        raise TransitionRefused("TENANT_IN_USE", f"{tenant} has flags, or a kill or a token names it", name)
    record(Action.TENANT_DELETED, actor=actor, subject=tenant, tenant=name)
    tenant.delete()


@transition
def delete_profile(name: str, *, actor: User) -> None:
    """A profile without revisions goes. Raises: TransitionRefused PROFILE_IN_USE."""
    profile = Profile.objects.select_for_update().get(name=name)
    if profile.revisions.exists() or profile.kills.exists():
        raise TransitionRefused("PROFILE_IN_USE", f"{profile} has revisions, or kills name it", name)
    record(Action.PROFILE_DELETED, actor=actor, subject=profile)
    profile.delete()
