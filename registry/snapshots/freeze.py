"""Whether one snapshot could steer any request more than another does. A freeze window refuses exactly that.

Judged for every tenant and route by what both snapshots would give each caller, so that it does not matter which change made the
difference: a flag, what a route inherits, or a whole batch. In doubt it counts as more: weights that move callers between arms
do, unless every arm gives at most what every arm gave; and so does another salt of a share, which covers other callers.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import product

from steernode.snapshot.records import AlphaBounds, Arm, Flag, Profile, Snapshot
from steernode.words import EVERYBODY

Dose = tuple[str, int, Decimal] | None


def find_increase(before: Snapshot, after: Snapshot) -> str | None:
    """The first thing that steers somebody more, in words; None if everybody gets at most what they got.

    Turning on, a larger scale, a larger share, a new arm, a wider override, another revision, or one that nodes with other files are
    steered by too. Kills are not looked at: they are in
    no snapshot, and a lift asks the freeze by itself. So what a kill holds back counts too: it may be lifted before the window is
    over, and nobody would be asked again.
    """
    if more := _find_other_files(before, after):
        return more
    for tenant, route in _slots(before, after):
        more = _compare(_find_flag(before, tenant, route), before, _find_flag(after, tenant, route), after)
        if more:
            return f"{tenant}{'/' + route if route else ''} would get {more}"
    return None


def _find_other_files(before: Snapshot, after: Snapshot) -> str | None:
    """An environment that begins to serve a form that a revision covers has more nodes steered by it, and no flag says so."""
    known = {(profile.id, profile.revision): set(_files(profile, before)) for profile in before.profiles}
    for profile in after.profiles:
        for fingerprint, name in _files(profile, after):
            served = known.get((profile.id, profile.revision))
            if served is not None and (fingerprint, name) not in served:
                return f"{profile.id} r{profile.revision} would steer nodes with {name} {fingerprint[:12]}, and steers none of these now"
    return None


def _files(profile: Profile, snapshot: Snapshot) -> list[tuple[str, str]]:
    return [(model.fingerprint, model.name) for model in snapshot.base_models if profile.is_for(model.fingerprint)]


def _slots(before: Snapshot, after: Snapshot) -> Iterator[tuple[str, str]]:
    """Every tenant that `after` could steer, on every route that either snapshot names, and on all others."""
    tenants = {flag.tenant for flag in after.flags}
    named = {(flag.tenant, flag.route) for flag in (*before.flags, *after.flags) if flag.tenant in tenants}
    yield from sorted(named | {(tenant, "") for tenant in tenants})


def _find_flag(snapshot: Snapshot, tenant: str, route: str) -> Flag | None:
    flag = snapshot.flag_for(tenant, route)
    return flag if flag is not None and flag.enabled and flag.rollout > 0 else None


def _compare(before: Flag | None, in_before: Snapshot, after: Flag | None, in_after: Snapshot) -> str | None:
    news = _doses(after, in_after)
    if after is None or not any(news):
        return None
    olds = _doses(before, in_before)
    if before is None or not any(olds):
        return "steering, and gets none"
    if after.rollout > before.rollout:
        return f"steering for {after.rollout} % of callers, instead of {before.rollout} %"
    if before.rollout < EVERYBODY and before.rollout_salt != after.rollout_salt:
        return "steering for other callers"
    if before.needs_key and not after.needs_key:
        return "steering without a rollout key"
    if after.override is not None and not (before.override and before.override.covers(after.override)):
        return f"α {after.override} by asking"
    for old, new in _pair(before, olds, after, news):
        if new is None:
            continue
        if old is None or old[:2] != new[:2]:
            return f"{new[0]} r{new[1]} where it is not served now"
        if new[2] > old[2]:
            return f"{new[0]} r{new[1]} at α × {new[2]}, instead of × {old[2]}"
    return None


def _pair(before: Flag, olds: list[Dose], after: Flag, news: list[Dose]) -> Iterable[tuple[Dose, Dose]]:
    """What some caller may have got, with what that caller may get."""
    if before.arms_salt == after.arms_salt:
        # Without a salt callers are placed by the order of the arms, with one by their names.
        keys = [
            [(arm.name if before.arms_salt else str(position), arm.weight) for position, arm in enumerate(flag.choices)]
            for flag in (before, after)
        ]
        if sorted(keys[0]) == sorted(keys[1]):
            of_old = dict(zip(keys[0], olds, strict=True))
            return [(of_old[key], new) for key, new in zip(keys[1], news, strict=True)]
    return product(olds, news)


def _doses(flag: Flag | None, snapshot: Snapshot) -> list[Dose]:
    """What each arm gives: profile, revision and scale; None for nothing."""

    def dose(arm: Arm, override: AlphaBounds | None) -> Dose:
        profile = snapshot.profile_of.get((arm.profile, arm.revision))
        # A scale of 0 steers all the same where a request may ask for another α.
        if profile is None or (arm.alpha_scale.is_zero() and override is None):
            return None
        return profile.id, profile.revision, arm.alpha_scale

    return [] if flag is None else [dose(arm, flag.override) for arm in flag.choices]
