"""The salts of a flag: which callers its share covers, and which arm each is in. They are drawn when a rollout or a test starts."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from secrets import token_hex
from typing import NamedTuple, Protocol

from registry.errors import InvalidInput
from registry.models import FlagField, ProfileRevision, TenantFlag
from registry.models.fields import NAME
from registry.reads.sides import is_new_rollout, is_new_test
from steernode.words import EVERYBODY

MAX_SALT = 40


class NamedArm(Protocol):
    """A row, or what a change states."""

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> ProfileRevision | None: ...


class Split(NamedTuple):
    """Among whom a flag split its callers before a change of it. `arms` are the profiles that they give, by their names."""

    profile: str | None = None
    rollout: Decimal | None = None
    arms: dict[str, str | None] = {}


def read_split(flag: TenantFlag, arms: Iterable[NamedArm]) -> Split:
    return Split(_profile_of(flag.revision), flag.rollout, _profiles_of(flag, arms))


def salt_flag(flag: TenantFlag, *, before: Split, arms: Sequence[NamedArm], rollout_salt: str | None, arms_salt: str | None) -> None:
    """Write the salts that are stated; draw those of what starts and states none; and leave the others.

    What splits nobody has none, so that a flag has the salts that somebody is placed by, and an export of it states them all. An empty
    one places callers as before there were salts.

    `before` is an empty split for a new flag, `arms` those that the flag has after the change. Raises: InvalidInput FLAG_SALT.
    """
    for salt, field in ((rollout_salt, FlagField.ROLLOUT), (arms_salt, FlagField.ARMS)):
        if salt and (not NAME.fullmatch(salt) or len(salt) > MAX_SALT or field in flag.inherits):
            needs = f"up to {MAX_SALT} letters, digits, '-' and '_', of {field.value} that are not inherited"
            raise InvalidInput("FLAG_SALT", f"{salt[:80]!r} is no salt: it has {needs}", f"{field.value}_salt")
    if flag.rollout is None or flag.rollout == EVERYBODY:
        flag.rollout_salt = ""
    elif rollout_salt is not None:
        flag.rollout_salt = rollout_salt
    elif is_new_rollout(before.rollout, flag.rollout, of_another_profile=before.profile != _profile_of(flag.revision)):
        flag.rollout_salt = token_hex(8)
    if FlagField.ARMS in flag.inherits or not arms:
        flag.arms_salt = ""
    elif arms_salt is not None:
        flag.arms_salt = arms_salt
    elif is_new_test(before.arms, _profiles_of(flag, arms)):
        flag.arms_salt = token_hex(8)


def _profile_of(revision: ProfileRevision | None) -> str | None:
    return revision.profile.name if revision else None


def _profiles_of(flag: TenantFlag, arms: Iterable[NamedArm]) -> dict[str, str | None]:
    return {arm.name: _profile_of(arm.revision or flag.revision) for arm in arms}
