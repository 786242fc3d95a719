"""Power: a validation whose verdict is certain before any work is not begun."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry.errors import InvalidInput
from registry.reads.material import Material
from registry.services.conditions import read_facts_condition
from steernode.gates import load_gates
from steernode.power import Power, count_items, foresee

Gates = str | Sequence[Mapping[str, str]]
# Where the candidate acts, as its recipe states it.
Stated = Mapping[str, Any] | None


def foresee_power(gates: Gates, material: Material, condition: Stated = None) -> list[Power]:
    """What the test split can show of each gate whose verdict hangs on a count of items."""
    files, parts = {file.kind: file for file in material.files.values()}, material.parts
    return foresee(load_gates(gates), count_items(files, parts["test"], parts["extract"], read_facts_condition(condition)))


def refuse_certain(powers: Iterable[Power]) -> None:
    """Raises: InvalidInput POWER_MISSING naming every gate that no result on these items could meet, and how many are missing."""
    if missing := find_missing(powers):
        listed = "; ".join(f"{power}, so {power.missing} are missing" for power in missing)
        raise InvalidInput(
            "POWER_MISSING",
            f"whatever is measured, the test split cannot show what the gates ask: {listed}; add items, or ask less",
            missing[0].gate["metric"],
        )


def find_missing(powers: Iterable[Power]) -> list[Power]:
    return [power for power in powers if power.is_certain]


def notice_power(powers: Sequence[Power]) -> list[dict[str, str]]:
    """The whole table as one notice, and what is missing as another."""
    found = []
    if bounds := [power for power in powers if power.needed > 1]:
        found.append({"code": "POWER", "sentence": f"what the test split has for the bounds: {'; '.join(map(str, bounds))}"})
    if missing := find_missing(powers):
        listed = "; ".join(f"{power.rule} lacks {power.missing} of {power.needed} {power.unit}" for power in missing)
        found.append({"code": "POWER_MISSING", "sentence": f"a validation by these gates and suites would be refused: {listed}"})
    return found
