"""Power: which gates the items of a test split can show at all, worked out before anything is spent on measuring.

A bound that is met without a single loss takes so many independent items, whatever the candidate: with fewer the verdict is certain
beforehand. Free of torch, so that the hub can say so when a job is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, log
from statistics import NormalDist

from steernode.answers import cluster_of
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import prompt_key
from steernode.files.suites import SuiteFile
from steernode.gates import KINDS, OF_ONE_DIRECTION, OF_TURNS, Gate

CONFIDENCE = 0.95
TWO_SIDED = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
ONE_SIDED = NormalDist().inv_cdf(CONFIDENCE)
# Pairs of the test split whose completions are measured; more narrow the intervals little and cost seconds each.
TEST_PAIRS = 96
# Items that held without steering, asked again under each random direction.
HELD = 96
# Harmful requests that are asked again under each template of an attack: the half that must hold there shows two in a hundred.
ATTACKED = 300
# What each metric is counted over, and how its interval is made where that makes a bound hang on the count alone.
_COUNTED = {
    "facts": ("facts", "wilson"),
    "facts_net_lost": ("facts", "tango"),
    "facts_lost_over_random": ("facts under random directions", "tango"),
    "facts_lost": ("facts", "exact_one_sided"),
    "capability": ("capability items", "wilson"),
    "capability_lost": ("facts and capability items", "exact_one_sided"),
    "valid_json_lost": ("answers in JSON", "exact_one_sided"),
    **dict.fromkeys(OF_TURNS, ("conversations of several turns", "")),
    "refusals": ("requests to refuse or to answer", "wilson"),
    "harmful_refused": ("harmful requests", "wilson"),
    "harmful_compliance_gained": ("harmful requests", "exact_one_sided"),
    "refusals_lost_over_random": ("harmful requests under random directions", "tango"),
    "attack_success_rise": ("harmful requests under attack", "exact_one_sided"),
    "over_refusal": ("harmless look-alikes", "wilson"),
    "over_refusal_gained": ("harmless look-alikes", "exact_one_sided"),
    "behaviour": ("tickets", ""),
    "anti_steered": ("tickets", "wilson"),
    **dict.fromkeys(OF_ONE_DIRECTION, ("pairs", "")),
    "anti_steerable": ("pairs", "wilson"),
}


@dataclass(frozen=True, slots=True)
class Power:
    """One gate, the independent items that it is judged on, and how many it needs at least: with none lost, where it bounds a loss."""

    gate: Gate
    unit: str
    items: int
    needed: int
    # Gains count as well, so that fewer items may do.
    is_net: bool = False

    @property
    def missing(self) -> int:
        return max(0, self.needed - self.items)

    @property
    def is_certain(self) -> bool:
        """Whether the gate cannot be met whatever is measured."""
        return self.missing > 0 and (self.items == 0 or not self.is_net)

    @property
    def rule(self) -> str:
        return f"{self.gate['metric']} {self.gate['kind']} {self.gate['threshold']}"

    def __str__(self) -> str:
        unless = ", unless some are gained," if self.is_net else ""
        return f"{self.rule} needs {self.needed} independent {self.unit}{unless} and has {self.items}"


def items_needed(bound: float, method: str) -> int | None:
    """How many independent items without a single hit, or change, bring the upper bound of a share to `bound`; None if none can."""
    if not 0 < bound < 1:
        return None
    if method == "exact_one_sided":
        return ceil(log(1 - CONFIDENCE) / log(1 - bound))
    if method == "tango":
        return ceil(ONE_SIDED**2 * (1 - bound) / bound)
    if method == "wilson":
        return ceil(TWO_SIDED**2 * (1 - bound) / bound)
    return None


def bound_unseen(items: int, method: str) -> float | None:
    """The upper bound of a share of which nothing was seen on so many items, `items_needed` the other way round; None where the
    interval hangs on more than the count."""
    reach = {"tango": ONE_SIDED**2, "wilson": TWO_SIDED**2}
    if method == "exact_one_sided":
        return float(1 - (1 - CONFIDENCE) ** (1 / items)) if items else 1.0
    return reach[method] / (items + reach[method]) if method in reach else None


def count_items(suites: Mapping[str, SuiteFile], pairs: Sequence[ContrastPair] | None = None) -> dict[str, int]:
    """The independent items of the test split by what they are called: `suites` by kind, `pairs` those of the test part.

    Items that expect the same answer, and pairs that ask the same, are one. It is the most that there can be: what the model alone
    has wrong cannot be lost, and a pair whose two completions are the same says nothing.
    """
    split = {kind: suite.split("test") for kind, suite in suites.items()}
    requests = split.get("safety", ())
    facts, capability = ({cluster_of(item) for item in split.get(kind, ())} for kind in ("factual", "capability"))
    harmful = sum(bool(item.expect["refuse"]) for item in requests)
    return {
        "tickets": len(split.get("behaviour", ())),
        "facts": len(facts),
        "facts under random directions": min(HELD, len(facts)),
        "capability items": len(capability),
        "facts and capability items": len(facts | capability),
        "answers in JSON": sum("json" in item.expect for item in split.get("capability", ())),
        "conversations of several turns": sum(bool(item.turns) for item in split.get("fluency", ())),
        "requests to refuse or to answer": len(requests),
        "harmful requests": harmful,
        "harmful requests under attack": min(ATTACKED, harmful),
        "harmful requests under random directions": min(HELD, harmful),
        "harmless look-alikes": len(requests) - harmful,
        "pairs": min(TEST_PAIRS, len({prompt_key(pair.positive) for pair in pairs or ()})),
    }


def foresee(gates: Sequence[Gate], items: Mapping[str, int]) -> list[Power]:
    """For each gate whose verdict hangs on a count, in their order; `items` as `count_items` gives them."""
    counted = [(gate, *_COUNTED.get(gate["metric"], ("", ""))) for gate in gates]
    return [weigh(gate, items[unit], method, unit) for gate, unit, method in counted if unit]


def weigh(gate: Mapping[str, str], items: int, method: str, unit: str = "items") -> Power:
    """What a gate needs of its interval's method, beside what there is: the same before the measurement and after it."""
    return Power(dict(gate), unit, items, _least_items(gate, method), method == "tango")


def _least_items(gate: Mapping[str, str], method: str) -> int:
    """At least one item, for there to be a number at all."""
    kind, threshold = KINDS[gate["kind"]], Decimal(gate["threshold"])
    if kind.is_difference or kind.side == "value":
        return 1
    # The lower bound of a share that is always met is as far from one as the upper bound of one that never is from zero.
    return items_needed(float(threshold if kind.side == "high" else 1 - threshold), method) or 1
