"""Environments and tenants. Default: no steering."""

from registry.audit import Action, record
from registry.models import Environment, Tenant, User
from registry.services.moves import serve_newest
from registry.snapshots import publish_snapshot
from registry.transitions import transition


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
