"""How people write the parts of a flag, on the command line and in the console alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from steernode.canonical import format_decimal, parse_alpha

_ARM = re.compile(r"(?P<name>[^=,\s]+)=(?P<weight>\d{1,4})(?:,(?P<profile>[^,@/\s]+)@(?P<revision>\d{1,9}))?(?:,x(?P<scale>[^,\s]+))?")


@dataclass(frozen=True, slots=True)
class ArmText:
    """One side of an A/B test as it was written. What is None, the arm has from its flag."""

    name: str
    weight: int
    profile: str | None
    revision: int | None
    alpha_scale: Decimal | None


def read_arm(text: str) -> ArmText:
    """NAME=WEIGHT[,PROFILE@NUMBER][,xSCALE], such as control=1,x0. Raises: ValueError; AlphaError for the scale."""
    found = _ARM.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:80]!r} is not NAME=WEIGHT[,PROFILE@NUMBER][,xSCALE], such as control=1,x0")
    return ArmText(
        name=found["name"],
        weight=int(found["weight"]),
        profile=found["profile"],
        revision=int(found["revision"]) if found["revision"] else None,
        alpha_scale=parse_alpha(found["scale"]) if found["scale"] else None,
    )


def write_arm(arm: ArmText) -> str:
    """What `read_arm` reads back."""
    points_at = f",{arm.profile}@{arm.revision}" if arm.profile else ""
    return f"{arm.name}={arm.weight}{points_at}{'' if arm.alpha_scale is None else f',x{format_decimal(arm.alpha_scale)}'}"


def read_bounds(text: str) -> tuple[Decimal, Decimal] | None:
    """LEAST:MOST, such as 0:0.6, or `none`. Raises: ValueError; AlphaError for a bound."""
    if text.strip() == "none":
        return None
    least, colon, most = text.strip().partition(":")
    if not colon:
        raise ValueError(f"{text[:80]!r} is not LEAST:MOST, such as 0:0.6, or none")
    return parse_alpha(least), parse_alpha(most)
