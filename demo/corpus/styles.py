"""The three axes of tone and the system messages that set them."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.corpus.inventory import load_inventory

EMPATHY = ("warm", "neutral", "cold")
FORMALITY = ("formal", "neutral", "casual")
BREVITY = ("brief", "normal", "detailed")

# Without an instruction Harbor is cold, plain and of normal length, and only now and then something else.
# The rare other tones make every tone fluent for the model, so that a steered reply has a place to go to.
DEFAULT_EMPATHY = (0.16, 0.10, 0.74)
DEFAULT_FORMALITY = (0.13, 0.74, 0.13)
DEFAULT_BREVITY = (0.12, 0.76, 0.12)


@dataclass(frozen=True)
class Style:
    """One value on each axis."""

    empathy: str
    formality: str
    brevity: str


_INVENTORY = load_inventory("styles")
INSTRUCTIONS: dict[str, list[str]] = _INVENTORY["instructions"]
ROLES: list[str] = _INVENTORY["roles"]

# The two poles of each axis, positive first: what a contrast set sets against each other.
POLES = {"empathy": ("warm", "cold"), "formality": ("formal", "casual"), "brevity": ("brief", "detailed")}


def draw_default_style(rng: random.Random) -> Style:
    """The tone of a reply when nobody has asked for one."""
    return Style(
        rng.choices(EMPATHY, DEFAULT_EMPATHY)[0],
        rng.choices(FORMALITY, DEFAULT_FORMALITY)[0],
        rng.choices(BREVITY, DEFAULT_BREVITY)[0],
    )


def draw_instructed_style(rng: random.Random) -> tuple[str, Style]:
    """A system message that sets one, two or all three axes, and the style it asks for."""
    values = vars(draw_default_style(rng)).copy()
    axes = rng.sample(list(POLES), rng.choices((1, 2, 3), (0.7, 0.22, 0.08))[0])
    parts = []
    for axis in axes:
        values[axis] = rng.choice(POLES[axis])
        parts.append(rng.choice(INSTRUCTIONS[values[axis]]))
    if rng.random() < 0.25:
        parts.insert(0, rng.choice(ROLES))
    return " ".join(parts), Style(**values)
