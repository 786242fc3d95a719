"""Environments and tenants. Default: no steering."""

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.locks import Lock, hold
from registry.models import ApiToken, Environment, Snapshot, Tenant, User
from registry.reads.steering import head_snapshot
from registry.services.base_model_moves import serve_newest
from registry.services.names import check_new_name
from registry.services.transition import publish_at_end, transition
from registry.snapshots import publish_snapshot


@transition
def create_environment(name: str, *, actor: User) -> Environment:
    """A new environment with its first snapshot, which steers nothing. It serves the newest fingerprint of every base model.

    Raises: InvalidInput NAME, NAME_CASE.
    """
    hold(Lock.NAMES)
    known = Environment.objects.filter(name=name).first()
    if known is not None:
        return known
    check_new_name(Environment, name)
    environment = Environment.objects.create(name=name)
    serve_newest(environment, actor=actor)
    record(Action.ENVIRONMENT_CREATED, actor=actor, subject=environment, environment=name)
    publish_at_end(environment, cause=Action.ENVIRONMENT_CREATED, actor=actor)
    return environment


@transition
def reissue_before_expiry(environment_name: str) -> Snapshot | None:
    """Sign the same content anew once half of its life has passed, so that a quiet environment does not expire."""
    environment = Environment.objects.select_for_update(no_key=True).get(name=environment_name)
    head = head_snapshot(environment)
    if head is None or timezone.now() < head.issued_at + (head.expires_at - head.issued_at) / 2:
        return None
    return publish_snapshot(environment, cause=Action.SNAPSHOT_PUBLISHED, actor="scheduler", force=True, only_lowers=True)


@transition
def create_tenant(name: str, *, title: str = "", actor: User) -> Tenant:
    """A new tenant, unsteered until a flag says otherwise. Raises: InvalidInput NAME, NAME_CASE."""
    known = Tenant.objects.filter(name=name).first()
    if known is not None:
        return known
    check_new_name(Tenant, name)
    tenant = Tenant.objects.create(name=name, title=title)
    record(Action.TENANT_CREATED, actor=actor, subject=tenant, tenant=name)
    return tenant


@transition
def rename_tenant(name: str, *, title: str, actor: User) -> Tenant:
    """The name that people read. The one that requests carry stays as it is."""
    tenant = Tenant.objects.select_for_update(no_key=True).get(name=name)
    before, tenant.title = tenant.title, title
    tenant.save(update_fields=["title"])
    record(Action.TENANT_RENAMED, actor=actor, subject=tenant, tenant=name, details={"before": before, "after": title})
    return tenant


@transition
def delete_tenant(name: str, *, actor: User) -> None:
    """A tenant without flags goes, if no kill and no token names it. Raises: TransitionRefused TENANT_IN_USE."""
    tenant = Tenant.objects.select_for_update().get(name=name)
    if tenant.flags.exists() or tenant.kills.exists() or ApiToken.objects.filter(tenant=tenant).exists():
        raise TransitionRefused("TENANT_IN_USE", f"{tenant} has flags, or a kill or a token names it", name)
    record(Action.TENANT_DELETED, actor=actor, subject=tenant, tenant=name)
    tenant.delete()
