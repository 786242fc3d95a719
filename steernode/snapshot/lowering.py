"""What a later snapshot takes away from the one in force, from each tenant on its own, even where it cannot be followed.

A node refuses a snapshot as a whole: for a field that it does not know, a wrong clock, a limit. What the hub's word lowers needs none of
that to be understood. So of a snapshot that is the hub's word (`trust` says which refusals leave it that), each tenant and route gets the
less of what is in force and what the word says, and nothing where the word says something about it that cannot be followed: what cannot
be followed never keeps anybody steered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, TypeVar

from steernode.errors import FieldError
from steernode.snapshot.readers import read_flag, read_kill, read_profile
from steernode.snapshot.records import AlphaBounds, Flag, Kill, ProfileIndex, Snapshot, index_profiles

_T = TypeVar("_T")
# A tenant and a route; the name of a profile and its revision.
Slot = tuple[str, str]
_Revision = tuple[str, int | None]


@dataclass(frozen=True)
class Word:
    """What is known of the newest snapshot of the hub, read entry by entry.

    `unreadable` are the tenants of whom it says something that this version cannot read. `is_coming` while it is being prepared to be
    in force: until then, who gets something else by it keeps what they have, unless it says less.
    """

    revision: int
    content_digest: str
    flag_of: Mapping[Slot, Flag]
    profile_of: ProfileIndex
    kills: tuple[Kill, ...]
    unreadable: frozenset[str] = frozenset()
    is_coming: bool = False

    @classmethod
    def of(cls, snapshot: Snapshot, *, is_coming: bool = False) -> Word:
        """The word of a snapshot that could be read whole."""
        return cls(
            snapshot.revision,
            snapshot.content_digest,
            snapshot.flag_of,
            snapshot.profile_of,
            snapshot.kills,
            is_coming=is_coming,
        )

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Word:
        """The word of a document with an identity (`document.parse_document`), whatever else is wrong with it.

        A profile that cannot be read is one that is not listed. A flag that cannot be read, or is there twice, makes its tenant
        unreadable; one that does not even say whose it is, is missing.
        """
        flag_of: dict[Slot, Flag] = {}
        unreadable: set[str] = set()
        for value in _list(document.get("flags")):
            try:
                flag = read_flag(value, "flags[]")
            except FieldError:
                if isinstance(value, dict) and isinstance(value.get("tenant"), str):
                    unreadable.add(value["tenant"])
                continue
            if flag_of.setdefault((flag.tenant, flag.route), flag) is not flag:
                unreadable.add(flag.tenant)
        return cls(
            document["revision"],
            document["content_digest"],
            flag_of,
            index_profiles(tuple(_read_each(document.get("profiles"), read_profile))),
            tuple(_read_each(document.get("kills"), read_kill)),
            frozenset(unreadable),
        )

    def flag_for(self, tenant: str, route: str) -> Flag | None:
        """As `Snapshot.flag_for`."""
        return self.flag_of.get((tenant, route)) or self.flag_of.get((tenant, ""))


@dataclass(frozen=True)
class Lowered:
    """A snapshot to obey, and the flags of it that are off because the newest word about them cannot be followed."""

    snapshot: Snapshot
    unfollowed: frozenset[Slot] = frozenset()


def lower(snapshot: Snapshot, word: Word | None) -> Lowered:
    """What is left of the snapshot in force by this word. Nobody gets more of it than of the snapshot, nor than of the word."""
    if word is None:
        return Lowered(snapshot)
    is_same = cache(partial(_is_same_profile, snapshot.profile_of, word.profile_of))
    flags: list[Flag] = []
    unfollowed: set[Slot] = set()
    for tenant, route in dict.fromkeys([*snapshot.flag_of, *word.flag_of]):
        given, said = snapshot.flag_for(tenant, route), word.flag_for(tenant, route)
        if given is None:
            continue
        given = given if given.route == route else replace(given, route=route)
        if given.enabled:
            least = None if tenant in word.unreadable else _least(given, said, is_same)
            if least is None and not word.is_coming:
                unfollowed.add((tenant, route))
                least = replace(given, enabled=False)
            given = least or given
        flags.append(given)
    if tuple(flags) != snapshot.flags:
        snapshot = replace(snapshot, flags=tuple(flags))
    return Lowered(snapshot.under(word.kills), frozenset(unfollowed))


def _least(given: Flag, said: Flag | None, is_same: Callable[[_Revision, _Revision], bool]) -> Flag | None:
    """The less of a flag that is on and what the word says in its place; None if that differs in more than amounts."""
    if said is None or not said.enabled:
        return replace(given, enabled=False)
    said = _in_order_of(given, said)
    override = _overlap(given.override, said.override)
    for arm, other in zip(given.choices, said.choices, strict=False):
        # Who is a control by the word gets nothing whatever it names, unless requests may ask.
        is_control = other.alpha_scale.is_zero() and override is None
        if not is_control and not is_same((arm.profile, arm.revision), (other.profile, other.revision)):
            return None
    if given == said:
        return given
    if len(given.arms) != len(said.arms) or _with_amounts_of(given, said) != said:
        return None
    pairs = zip(given.arms, said.arms, strict=True)
    return replace(
        given,
        alpha_scale=min(given.alpha_scale, said.alpha_scale),
        rollout=min(given.rollout, said.rollout),
        override=override,
        arms=tuple(replace(arm, alpha_scale=min(arm.alpha_scale, other.alpha_scale)) for arm, other in pairs),
    )


def _in_order_of(given: Flag, said: Flag) -> Flag:
    """What the word says, its arms as the flag orders them. A salt places callers by the names of arms; without one their order does."""
    places = {arm.name: place for place, arm in enumerate(given.arms)}
    if not said.arms_salt or [arm.name for arm in said.arms] == list(places):
        return said
    return replace(said, arms=tuple(sorted(said.arms, key=lambda arm: places.get(arm.name, len(places)))))


def _with_amounts_of(given: Flag, said: Flag) -> Flag:
    """Equal to what the word says if they differ in amounts alone. Which revision is meant is asked of the profiles."""
    pairs = zip(given.arms, said.arms, strict=True)
    return replace(
        given,
        route=said.route,
        # With arms, what the flag itself names gives nobody anything.
        profile=said.profile if said.arms else given.profile,
        revision=said.revision,
        alpha_scale=said.alpha_scale,
        rollout=said.rollout,
        override=said.override,
        arms=tuple(replace(arm, alpha_scale=other.alpha_scale, revision=other.revision) for arm, other in pairs),
    )


def _is_same_profile(ours: ProfileIndex, theirs: ProfileIndex, revision: _Revision, other: _Revision) -> bool:
    """Whether both give one profile, the same in all of it, or neither gives any."""
    return ours.get(revision) == theirs.get(other)


def _overlap(ours: AlphaBounds | None, theirs: AlphaBounds | None) -> AlphaBounds | None:
    if ours is None or theirs is None:
        return None
    least, most = max(ours.alpha_min, theirs.alpha_min), min(ours.alpha_max, theirs.alpha_max)
    return AlphaBounds(least, most) if least <= most else None


def _read_each(values: Any, read: Callable[[Any, str], _T]) -> Iterable[_T]:
    for value in _list(values):
        with suppress(FieldError):
            yield read(value, "entry")


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []
