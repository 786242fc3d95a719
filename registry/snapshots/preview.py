"""What nodes would be told by the record as it is at this moment of a transaction: nothing is signed, numbered or published."""

from datetime import UTC, datetime

from registry.models import Environment, Tenant
from registry.snapshots.compile import compile_content
from steernode.snapshot.records import Snapshot

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def preview_snapshot(environment: Environment, *, of: Tenant | None = None) -> Snapshot:
    """The whole environment, or one tenant of it, for comparing with another such look."""
    content = compile_content(environment, of=of)
    return Snapshot(
        environment=environment.name,
        revision=0,
        content_digest=content.digest,
        rollback_of=None,
        issued_at=_NEVER,
        expires_at=_NEVER,
        base_models=tuple(entry.record for entry in content.base_models),
        profiles=tuple(entry.record for entry in content.profiles),
        flags=tuple(flag for tenant in content.tenants for flag in tenant.flags),
        kills=(),
        limits=content.limits.record,
        capabilities=tuple(content.capabilities),
    )
