"""Which callers a share covers, and which arm each caller is in: a stable hash of a key that the caller gives.

    place = the first 8 bytes of sha256("steerhub.rollout/1" NUL purpose NUL tenant NUL key), big endian, modulo 100,000

The purpose is `share` or `arm`, so that who is covered says nothing about who is in which arm. A share of 12.5 covers the
places below 12,500: a growing share only adds callers, and the same caller has the same place on every route, in every
environment and for every revision. The text is UTF-8. This never changes for `steerhub.rollout/1`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

PLACES = 100_000
# 100 % of the places, in steps of a thousandth of a percent.
_PLACES_PER_PERCENT = PLACES // 100


def place_of(key: str, *, tenant: str, purpose: str) -> int:
    """Where a caller stands on a line of 100,000 places."""
    digest = hashlib.sha256("\0".join(("steerhub.rollout/1", purpose, tenant, key)).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % PLACES


def is_in_share(key: str, *, tenant: str, share: Decimal) -> bool:
    """Whether a share, in percent, covers this caller."""
    return place_of(key, tenant=tenant, purpose="share") < share * _PLACES_PER_PERCENT


def choose_arm(key: str, *, tenant: str, weights: Sequence[int]) -> int:
    """The position of the caller's arm. The line is cut into pieces as long as the weights, in their order."""
    place = place_of(key, tenant=tenant, purpose="arm") * sum(weights)
    end = 0
    for position, weight in enumerate(weights):
        end += weight
        if place < end * PLACES:
            return position
    raise AssertionError("a place lies behind the last arm")
