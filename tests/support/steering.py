"""Flags as the tests put them, and what a node would make of them."""

from decimal import Decimal

from registry.audit import Action
from registry.models import Environment, TenantFlag
from registry.services.flags import set_flag
from registry.services.transition import lock_environments, transition
from registry.snapshots import publish_snapshot, read_head
from steernode.snapshot.resolve import resolve


def reason_for(environment, tenant: str, route: str = "") -> str:
    _, snapshot = read_head(environment)
    return resolve(snapshot, tenant, route).reason


@transition
def publish_again(environment: Environment) -> None:
    """The next revision of the environment, whatever it says."""
    (locked,) = lock_environments([environment])
    publish_snapshot(locked, cause=Action.SNAPSHOT_PUBLISHED, actor="tests", force=True)


def put(environment, tenant, revision, actor, *, enabled: bool = True, scale: str = "1", route: str = "") -> TenantFlag:
    return set_flag(
        environment, tenant, revision=revision, enabled=enabled, alpha_scale=Decimal(scale), reason="test", actor=actor, route=route
    )
