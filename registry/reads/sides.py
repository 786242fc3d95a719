"""Which callers a flag steers and by which arm: when that begins anew, and how many callers change sides with a change of it."""

from collections.abc import Mapping
from decimal import Decimal

from registry.reads.inheritance import InheritedFlag, Key
from steernode.snapshot.rollout import choose_arm, is_in_share
from steernode.words import EVERYBODY

# Callers that a change is tried on. What is said of all of them is right to a percent or two.
_SAMPLE = [f"caller-{number}" for number in range(2000)]
# Stands for a salt that is left to the registry. No salt on record is written so.
NOT_DRAWN = "?"


def is_new_rollout(before: Decimal | None, after: Decimal, *, of_another_profile: bool) -> bool:
    """Whether a share covers callers of its own, and not more or fewer of those before. `before` is None where none was stated.

    From everybody to some of them is a beginning: of another revision, as a rule, and those who were first before are first no longer.
    """
    return after < EVERYBODY and (before is None or before == EVERYBODY or of_another_profile)


def is_new_test(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> bool:
    """Whether arms are the sides of another test: no arm of that name gives that profile already. Both are profiles by names of arms."""
    return bool(after) and not before.items() & after.items()


def count_changing_sides(before: InheritedFlag[Key], after: InheritedFlag[Key], *, tenant: str) -> int:
    """How many percent of the callers are covered that were not, are covered no longer, or are in another arm, of two flags that steer."""

    def side(flag: InheritedFlag[Key], key: str) -> str | None:
        if not is_in_share(key, tenant=tenant, share=flag.rollout, salt=flag.rollout_salt):
            return None
        arms = [(arm.name, arm.weight) for arm in flag.choices]
        return arms[choose_arm(key, tenant=tenant, arms=arms, salt=flag.arms_salt)][0]

    def split(flag: InheritedFlag[Key]) -> tuple[object, ...]:
        return flag.rollout, flag.rollout_salt, flag.arms_salt, [(arm.name, arm.weight) for arm in flag.choices]

    if split(before) == split(after):
        return 0
    changing = sum(side(before, key) != side(after, key) for key in _SAMPLE)
    # Somebody is not nobody.
    return max(1, round(changing * 100 / len(_SAMPLE))) if changing else 0
