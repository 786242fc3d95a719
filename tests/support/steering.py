"""Flags as the tests put them, and what a node would make of them."""

from decimal import Decimal

from registry.models import TenantFlag
from registry.reads.steering import head_snapshot
from registry.services.flags import set_flag
from registry.snapshots import read_snapshot
from steernode.snapshot.resolve import resolve


def reason_for(environment, tenant: str, route: str = "") -> str:
    head = head_snapshot(environment)
    assert head is not None
    return resolve(read_snapshot(head), tenant, route).reason


def put(environment, tenant, revision, actor, *, enabled: bool = True, scale: str = "1", route: str = "") -> TenantFlag:
    return set_flag(
        environment, tenant, revision=revision, enabled=enabled, alpha_scale=Decimal(scale), reason="test", actor=actor, route=route
    )
