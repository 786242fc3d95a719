"""Judging gates: measured values against declared thresholds, by one comparison. What gates there are is in `steernode.gates`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from steernode.canonical import format_decimal
from steernode.errors import EngineError
from steernode.gates import FAIL, KINDS, PASS, UNDECIDABLE, check_gates, load_gates, passes
from steernode.power import Power, bound_unseen, weigh

DEFAULT_GATES = load_gates("selection")
# Points of the rubric's 1 to 5 that its scorer cannot tell apart.
BEHAVIOUR_TOLERANCE = Decimal("0.1")
# What a metric says of itself where its value is that of no measurement, so that there is nothing to compare.
MEANINGLESS = ("PROMPT_NO_GAIN", "PROMPT_NO_SHIFT")
# Documents round to six digits.
_ROUNDING = 1 + 1e-5


def judge_gates(gates: Sequence[Mapping[str, str]], values: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[dict[str, str]]:
    """One verdict for each gate that a cell of the search can judge: the gate, the value it looked at, and 'pass' or 'fail'.

    A cell has points and no intervals. A gate on a bound is judged by the point there: a bound is never kinder than the point it
    lies around, so that a cell which fails would fail in the evidence too, and one which passes is judged again there. A gate
    about a metric that cells do not measure has no verdict; the evidence gives it one, or is refused.

    Exact: the comparison is of decimals as written in the document, so that anybody who reads it reaches the same verdict.
    """
    check_gates(gates)
    verdicts = []
    for gate in gates:
        metric = gate["metric"]
        if metric in values:
            point = Decimal(values[metric])
            change = point - Decimal(baseline[metric]) if KINDS[gate["kind"]].is_difference else point
            verdicts.append(judge_value(gate, change))
    return verdicts


def judge_evidence(gates: Sequence[Mapping[str, str]], metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One verdict per gate from the estimates of an evidence document: metric -> {"steered", "difference"?}.

    `value` is the number that was compared; a gate on a bound also says the `point`. A gate is `undecidable`, with a `code` and a
    `note`, where its value means nothing, and where nothing that was seen speaks against it and these items cannot speak for it: the
    metric says itself why (`undecidable`), or its items are fewer than the gate needs (`power.weigh`), code ITEMS_FEW. An item is
    one that could have been lost; where there is none, nothing is compared. What fails by its point fails, and so does a bound after a
    loss that was seen, however few the items: fewer would not make it better.

    Raises: EngineError GATE_UNMEASURED naming the metric; GATE_INVALID.
    """
    check_gates(gates)
    return [_judge_estimate(gate, metrics) for gate in gates]


def refuse_unmeasurable(gates: Iterable[Mapping[str, str]], missing: Mapping[str, str]) -> None:
    """Before any work: raises EngineError GATE_UNMEASURED for a gate about a metric of `missing`, which says what each one lacks."""
    for gate in gates:
        if gate["metric"] in missing:
            raise EngineError(
                "GATE_UNMEASURED", f"the gate on {gate['metric']} cannot be judged: {missing[gate['metric']]}", gate["metric"]
            )


def _judge_estimate(gate: Mapping[str, str], metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    metric, kind = gate["metric"], KINDS[gate["kind"]]
    estimate = metrics.get(metric, {}).get("difference" if kind.is_difference else "steered")
    if estimate is None:
        what = "no change from the baseline" if metric in metrics else "nothing"
        raise EngineError("GATE_UNMEASURED", f"{what} was measured for the gate {metric} {gate['kind']}", metric)
    why = metrics[metric].get("undecidable")
    verdict: dict[str, Any] = {**judge_value(gate, Decimal(estimate[kind.side]))}
    power = weigh(gate, estimate["clusters"], estimate["method"])
    is_unopposed = _is_unopposed(gate, estimate)
    if kind.side != "value":
        verdict["point"] = estimate["value"]
        whole, seen = (0, "seen") if kind.side == "high" else (1, "missed")
        is_counted = bound_unseen(estimate["clusters"], estimate["method"]) is not None
        if is_unopposed and is_counted and power.needed > 1 and Decimal(estimate["value"]) == whole:
            verdict["items_needed"] = power.needed
            verdict["note"] = f"none {seen} on {power.items} independent items; {power.needed} without one show {gate['threshold']}"
    is_met = verdict["verdict"] == PASS
    is_meaningless = power.items == 0 or (why is not None and why["code"] in MEANINGLESS)
    if is_meaningless or is_met or is_unopposed:
        verdict |= _doubt(why, power, is_met=is_met)
    return verdict


def _is_unopposed(gate: Mapping[str, str], estimate: Mapping[str, Any]) -> bool:
    """Whether nothing that was seen speaks against the gate: its point passes, and a bound that hangs on the count of items is no
    worse than as many items give of which none is lost."""
    kind, unseen = KINDS[gate["kind"]], bound_unseen(estimate["clusters"], estimate["method"])
    if not passes(gate, Decimal(estimate["value"])):
        return False
    if kind.is_difference or kind.side == "value" or unseen is None:
        return True
    bound = float(estimate["high"]) if kind.side == "high" else 1 - float(estimate["low"])
    return bound <= unseen * _ROUNDING


def _doubt(why: Mapping[str, str] | None, power: Power, *, is_met: bool) -> dict[str, Any]:
    """What makes a verdict undecidable, if anything does."""
    if why:
        return {"verdict": UNDECIDABLE, "code": why["code"], "note": why["reason"]}
    if not power.missing or (is_met and not power.is_certain):
        return {}
    missing = f"{power.missing} independent items more are needed: {power.items} there are, {power.needed} without a loss show it"
    if not power.items:
        missing = f"there is no item that could have been lost; {power.needed} show it"
    return {"verdict": UNDECIDABLE, "code": "ITEMS_FEW", "items_needed": power.needed, "note": missing}


def judge_whole(verdicts: Iterable[Mapping[str, Any]]) -> str:
    """The verdict of evidence: one failed gate fails it, and else one that is undecidable leaves it so."""
    found = {judged["verdict"] for judged in verdicts}
    return FAIL if FAIL in found else UNDECIDABLE if UNDECIDABLE in found else PASS


def judge_value(gate: Mapping[str, str], value: Decimal) -> dict[str, str]:
    """The gate with the number that it looked at and `PASS` or `FAIL`."""
    return {**gate, "value": format_decimal(value), "verdict": PASS if passes(gate, value) else FAIL}


def choose_cell(cells: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, str]] = DEFAULT_GATES) -> dict[str, Any]:
    """Of the cells of the final stage that pass every gate and come within `BEHAVIOUR_TOLERANCE` of the best one's behaviour, the
    one with the least perplexity ratio.

    The best of many cells is partly the luckiest, and the last tenth of a point is bought with the most collateral: among cells
    that differ by less than the score resolves, less steering is better (the one-standard-error rule of Breiman et al., 1984).
    Ties go to the smaller |α|, then the higher behaviour, then the lower layer, so that the choice repeats.

    Raises: EngineError NO_CELL_PASSES saying for each gate how many cells it stopped, and CELLS_MISSING without a baseline.
    """
    baseline = next((cell for cell in cells if cell["stage"] == "final" and cell["layer"] is None), None)
    candidates = [cell for cell in cells if cell["stage"] == "final" and cell["layer"] is not None]
    if baseline is None or not candidates:
        raise EngineError("CELLS_MISSING", "the final stage has no baseline or no steered cell; finish the sweep before choosing")
    verdicts = [judge_gates(gates, cell, baseline) for cell in candidates]
    passing = [dict(cell) for cell, judged in zip(candidates, verdicts, strict=True) if all(v["verdict"] == PASS for v in judged)]
    if not passing:
        raise EngineError("NO_CELL_PASSES", f"none of {len(candidates)} cells passes every gate: {_explain_failures(verdicts)}")
    enough = max(Decimal(cell["behaviour"]) for cell in passing) - BEHAVIOUR_TOLERANCE
    return min((cell for cell in passing if Decimal(cell["behaviour"]) >= enough), key=_preference)


def _preference(cell: Mapping[str, Any]) -> tuple[Decimal, Decimal, Decimal, int]:
    return Decimal(cell["perplexity_ratio"]), abs(Decimal(cell["alpha"])), -Decimal(cell["behaviour"]), int(cell["layer"])


def _explain_failures(verdicts: Sequence[Sequence[Mapping[str, str]]]) -> str:
    sentences = []
    for gate in zip(*verdicts, strict=True):
        failed = [judged for judged in gate if judged["verdict"] == FAIL]
        if failed:
            # The nearest miss tells whether a finer α grid could help or the vector is hopeless.
            nearest = min(failed, key=lambda judged: abs(Decimal(judged["value"]) - Decimal(judged["threshold"])))
            rule = f"{nearest['metric']} {nearest['kind']} {nearest['threshold']}"
            sentences.append(f"{rule} stops {len(failed)}, the nearest at {nearest['value']}")
    return "; ".join(sentences)
