"""Which callers a share covers, and which arm each caller is in: a stable hash of a key that the caller gives.

Of `steerhub.rollout/2`, which never changes:

    number(words...) = the first bytes of sha256("steerhub.rollout/2" NUL words, each after a NUL), big endian; texts are UTF-8
    place  = number("share", salt, tenant, key) of 8 bytes, modulo 100,000; a share of 12.5 covers the places below 12,500
    u(arm) = (number("arm", salt, tenant, name of the arm, key) of 4 bytes + 1) / 2**32
    the caller's arm is the one with the greatest u(arm) ** (1 / weight); of equals the one whose name comes first

So each arm gets its weight's part of the callers (weighted rendezvous hashing). Arms are told apart by name: their order moves nobody, a
new arm takes its part evenly from the others and moves nobody between those, and one that goes gives its own away. A growing share only
adds callers. Every rollout and every test has a salt, drawn when it starts: with another salt everybody's place is another, so that two
tests are independent, and not every rollout begins with the same people. The share and the arms have a salt each, so who is covered says
nothing of who is in which arm.

u(a) ** (1 / v) > u(b) ** (1 / w) is decided as u(a) ** w > u(b) ** v, in whole numbers: every implementation decides alike.

An empty salt is `steerhub.rollout/1`, of flags from before there were salts. Nobody is moved until their test ends:

    place = the first 8 bytes of sha256("steerhub.rollout/1" NUL purpose NUL tenant NUL key), big endian, modulo 100,000

with the purpose `share` or `arm`; the line of places is cut into pieces as long as the weights of the arms, in their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from math import gcd

PLACES = 100_000
# 100 % of the places, in steps of a thousandth of a percent.
_PLACES_PER_PERCENT = PLACES // 100
_DRAW_BITS = 32


def place_of(key: str, *, tenant: str, salt: str = "", purpose: str = "share") -> int:
    """Where a caller stands on a line of 100,000 places."""
    words = ("steerhub.rollout/2", purpose, salt, tenant, key) if salt else ("steerhub.rollout/1", purpose, tenant, key)
    return _number(words, 8) % PLACES


def is_in_share(key: str, *, tenant: str, share: Decimal, salt: str = "") -> bool:
    """Whether a share, in percent, covers this caller."""
    return place_of(key, tenant=tenant, salt=salt) < share * _PLACES_PER_PERCENT


def choose_arm(key: str, *, tenant: str, arms: Sequence[tuple[str, int]], salt: str = "") -> int:
    """The position of the caller's arm. `arms` are names and weights."""
    if not salt:
        return _cut_line(key, tenant, [weight for _, weight in arms])
    if len(arms) == 1:
        return 0
    common = gcd(*[weight for _, weight in arms])
    best, best_draw, best_weight = 0, 0, 1
    for position in sorted(range(len(arms)), key=lambda position: arms[position][0]):
        name, weight = arms[position][0], arms[position][1] // common
        draw = _number(("steerhub.rollout/2", "arm", salt, tenant, name, key), _DRAW_BITS // 8) + 1
        # draw ** (1 / weight) > best ** (1 / best_weight), of draws that are parts of 2 ** 32.
        if draw**best_weight << (_DRAW_BITS * weight) > best_draw**weight << (_DRAW_BITS * best_weight):
            best, best_draw, best_weight = position, draw, weight
    return best


def _cut_line(key: str, tenant: str, weights: Sequence[int]) -> int:
    place = place_of(key, tenant=tenant, purpose="arm") * sum(weights)
    end = 0
    for position, weight in enumerate(weights):
        end += weight
        if place < end * PLACES:
            return position
    raise AssertionError("a place lies behind the last arm")


def _number(words: tuple[str, ...], size: int) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode("utf-8")).digest()[:size], "big")
