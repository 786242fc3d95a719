"""What a request gets from this node: `snapshot.resolve`, and what only a node knows. Pure: one frozen view in, one answer out.

So whatever answers requests, in whichever thread or loop, may ask at any time and without a lock:
`decide(follower.in_force, tenant, route, now=follower.now())`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from steernode.snapshot.lowering import Lowered, Word
from steernode.snapshot.records import Flag, Kill, Profile, Snapshot
from steernode.snapshot.resolve import Effective, resolve, unsteered


@dataclass(frozen=True, slots=True)
class Unservable:
    """A profile for this node's own files that it cannot serve, and why. Whoever would get it is not steered."""

    profile: str
    revision: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class InForce:
    """The snapshot that decides about requests, and what has been heard of it since. Replaced as a whole, never changed.

    `fingerprint` is of the files the engine loaded. `staged` is what the engine prepared for exactly this snapshot, all but what is
    `unservable`, by name and revision.
    """

    snapshot: Snapshot
    envelope: bytes
    etag: str
    accepted_at: datetime
    # When the hub last read in its record that it holds.
    last_contact_at: datetime
    fingerprint: str
    staged: Any = field(repr=False, compare=False)
    unservable: Mapping[tuple[str, int], Unservable] = field(default_factory=dict)
    # By the stop statements that this node has heard, whatever its snapshot says.
    stopped: tuple[Kill, ...] = ()
    # The hub's newest, while it could not be applied. What it lowers counts all the same: that needs nothing but trust.
    word: Word | None = None
    # Its environment serves other files now. This node refuses every later snapshot, so it may not steer on.
    is_left_behind: bool = False
    # What the word leaves of the snapshot, by `lowering.lower`, which takes long for many flags; None for all of it.
    lowered: Lowered | None = field(default=None, repr=False, compare=False)
    # That under the stops, which requests are decided by. Made once, because it is an index of all its flags.
    obeyed: Snapshot = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        left = self.lowered.snapshot if self.lowered else self.snapshot
        object.__setattr__(self, "obeyed", left.under(self.stopped))

    def is_unfollowed(self, flag: Flag | None) -> bool:
        """Whether a flag that is obeyed is off because the newest word about it cannot be followed."""
        return flag is not None and self.lowered is not None and (flag.tenant, flag.route) in self.lowered.unfollowed

    @property
    def patience_seconds(self) -> float:
        """After how long without the hub the first profile that somebody may get is stale; infinite where there is none."""
        return min((profile.max_staleness_seconds for profile in self.obeyed.flagged_profiles()), default=math.inf)

    def is_past_staleness(self, profile: Profile, now: datetime) -> bool:
        """Whether the hub has vouched for the snapshot too long ago for this profile."""
        return now - self.last_contact_at > timedelta(seconds=profile.max_staleness_seconds)


def decide(in_force: InForce | None, tenant: str, route: str, *, now: datetime, key: str = "", alpha: Decimal | None = None) -> Effective:
    """What a request of this tenant on this route gets now, and why: with this rollout key, asking for this α.

    None is a node that has not accepted any snapshot yet. Raises: SpellingError SPELLING; AlphaError OVERRIDE_NOT_ALLOWED, OVERRIDE_RANGE.
    """
    if in_force is None:
        return unsteered("no_snapshot")
    if in_force.is_left_behind:
        return unsteered("wrong_base_model")
    effective = resolve(in_force.obeyed, tenant, route, key=key, alpha=alpha)
    if in_force.is_unfollowed(effective.flag):
        return effective.without_steering("unservable")
    if effective.profile is None:
        return effective
    if not effective.profile.is_for(in_force.fingerprint):
        return effective.without_steering("wrong_base_model")
    if (effective.profile.id, effective.profile.revision) in in_force.unservable:
        return effective.without_steering("unservable")
    if effective.profile.stale_policy == "zero" and in_force.is_past_staleness(effective.profile, now):
        return effective.without_steering("stale")
    return effective
