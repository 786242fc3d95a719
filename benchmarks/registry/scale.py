"""How much is on record: the size that the claims are made for, and a hundredth of it to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.registry.names import ENVIRONMENTS


@dataclass(frozen=True)
class Scale:
    """`live_profiles` is how many different profiles steer in one environment: 5,000 flags share 200 of them."""

    name: str
    vectors: int
    profiles: int
    tenants: int
    flags: int
    events: int
    live_profiles: int

    @property
    def routes(self) -> int:
        """Flags of one tenant in one environment, the one for every other route included."""
        return self.flags // self.tenants // len(ENVIRONMENTS)


FULL = Scale("full", vectors=100_000, profiles=10_000, tenants=1_000, flags=20_000, events=1_000_000, live_profiles=200)
SMALL = Scale("small", vectors=10_000, profiles=1_000, tenants=100, flags=2_000, events=100_000, live_profiles=20)
# What the larger record is compared with.
BASE = Scale("base", vectors=1_000, profiles=100, tenants=10, flags=200, events=10_000, live_profiles=2)
SCALES = {scale.name: scale for scale in (FULL, SMALL, BASE)}
