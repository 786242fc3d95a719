"""What a request gets from this node: `snapshot.resolve`, and what only a node knows. Pure: one frozen view in, one answer out.

So whatever answers requests, in whichever thread or loop, may ask at any time and without a lock:
`decide(follower.in_force, tenant, route, now=follower.now())`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from steernode.snapshot.records import Kill, Profile, Snapshot
from steernode.snapshot.resolve import Effective, resolve, unsteered


@dataclass(frozen=True, slots=True)
class InForce:
    """The snapshot that decides about requests, and what has been heard of it since. Replaced as a whole, never changed.

    `fingerprint` is of the files the engine loaded. `staged` is what the engine prepared for exactly this snapshot.
    """

    snapshot: Snapshot
    envelope: bytes
    etag: str
    accepted_at: datetime
    # When the hub last read in its record that it holds.
    last_contact_at: datetime
    fingerprint: str
    staged: Any = field(repr=False, compare=False)
    # Of the hub's last word, while it could not be applied. Its kills count all the same: they need nothing but trust.
    pending_kills: tuple[Kill, ...] = ()
    # By the stop statements that this node has heard, whatever its snapshot says.
    stopped: tuple[Kill, ...] = ()
    # Its environment serves other files now. This node refuses every later snapshot, kills included, so it may not steer on.
    is_left_behind: bool = False
    # The snapshot under all of them. Made once, because it is an index of all its flags.
    obeyed: Snapshot = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "obeyed", self.snapshot.under((*self.pending_kills, *self.stopped)))

    def is_past_staleness(self, profile: Profile, now: datetime) -> bool:
        """Whether the hub has vouched for the snapshot too long ago for this profile."""
        return now - self.last_contact_at > timedelta(seconds=profile.max_staleness_seconds)


def decide(in_force: InForce | None, tenant: str, route: str, *, now: datetime, key: str = "", alpha: Decimal | None = None) -> Effective:
    """What a request of this tenant on this route gets now, and why: with this rollout key, asking for this α.

    None is a node that has not accepted any snapshot yet. Raises: AlphaError OVERRIDE_NOT_ALLOWED, OVERRIDE_RANGE.
    """
    if in_force is None:
        return unsteered("no_snapshot")
    if in_force.is_left_behind:
        return unsteered("wrong_base_model")
    effective = resolve(in_force.obeyed, tenant, route, key=key, alpha=alpha)
    if effective.profile is None:
        return effective
    if effective.profile.base_model != in_force.fingerprint:
        return effective.without_steering("wrong_base_model")
    if effective.profile.stale_policy == "zero" and in_force.is_past_staleness(effective.profile, now):
        return effective.without_steering("stale")
    return effective
