"""Power: a validation whose verdict is certain before any work is not begun."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from registry.blobs import get_blob
from registry.errors import InvalidInput
from registry.models import ContrastSet, EvalSuite
from registry.services.conditions import read_facts_condition
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import parse_suite
from steernode.gates import load_gates
from steernode.power import Power, count_items, foresee

Gates = str | Sequence[Mapping[str, str]]
# Where the candidate acts, as its recipe states it.
Stated = Mapping[str, Any] | None


def foresee_power(gates: Gates, suites: Iterable[EvalSuite], contrast_set: ContrastSet | None, condition: Stated = None) -> list[Power]:
    """What the test split can show of each gate whose verdict hangs on a count of items."""
    files = {suite.kind: parse_suite(get_blob(suite.digest), suite.kind) for suite in suites}
    parts = split_pairs(parse_pairs(get_blob(contrast_set.digest)).pairs) if contrast_set else {"test": (), "extract": ()}
    return foresee(load_gates(gates), count_items(files, parts["test"], parts["extract"], read_facts_condition(condition)))


def refuse_certain(gates: Gates, suites: Iterable[EvalSuite], contrast_set: ContrastSet | None, condition: Stated = None) -> None:
    """Raises: InvalidInput POWER_MISSING naming every gate that no result on these items could meet, and how many are missing."""
    missing = find_missing(foresee_power(gates, suites, contrast_set, condition))
    if missing:
        listed = "; ".join(f"{power}, so {power.missing} are missing" for power in missing)
        raise InvalidInput(
            "POWER_MISSING",
            f"whatever is measured, the test split cannot show what the gates ask: {listed}; add items, or ask less",
            missing[0].gate["metric"],
        )


def find_missing(powers: Iterable[Power]) -> list[Power]:
    return [power for power in powers if power.is_certain]


def notice_power(
    gates: Gates, suites: Iterable[EvalSuite], contrast_set: ContrastSet | None, condition: Stated = None
) -> list[dict[str, str]]:
    """The whole table as one notice, and what is missing as another."""
    table = foresee_power(gates, suites, contrast_set, condition)
    missing = find_missing(table)
    found = []
    if bounds := [power for power in table if power.needed > 1]:
        found.append({"code": "POWER", "sentence": f"what the test split has for the bounds: {'; '.join(map(str, bounds))}"})
    if missing:
        listed = "; ".join(f"{power.rule} lacks {power.missing} of {power.needed} {power.unit}" for power in missing)
        found.append({"code": "POWER_MISSING", "sentence": f"a validation by these gates and suites would be refused: {listed}"})
    return found
