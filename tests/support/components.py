"""Components as an author states them."""

from decimal import Decimal
from typing import Any

from registry.models import Component, SteeringVector
from steernode.snapshot.records import STATED


def add(vector: SteeringVector, alpha: str) -> Component:
    """The vector added at α mean differences, in a range from 0 to it."""
    return Component(vector=vector, alpha=Decimal(alpha), alpha_max=Decimal(alpha), unit="mean_difference")


def restate(component: Component, **changes: Any) -> Component:
    """The same, but for these changes, as a row that is not written."""
    stated = {name: getattr(component, name) for name in ("vector", *(each.name for each in STATED))}
    return Component(**stated | changes)
