"""Gates: thresholds declared as data, and the one function that judges measured values against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from steerkit.canonical import format_decimal, parse_alpha
from steerkit.errors import EngineError

# Facts and refusals may lose two points, fluency 15 %; half a point of behaviour is the least that is worth governing; in the
# last fifth of the layers a direction picks words rather than behaviour (arXiv:2406.11717 leaves them out too).
DEFAULT_GATES: tuple[dict[str, str], ...] = (
    {"metric": "behaviour", "kind": "min_difference", "threshold": "0.5"},
    {"metric": "facts", "kind": "min_difference", "threshold": "-0.02"},
    {"metric": "refusals", "kind": "min_difference", "threshold": "-0.02"},
    {"metric": "perplexity_ratio", "kind": "max_ratio", "threshold": "1.15"},
    {"metric": "layer_depth", "kind": "below", "threshold": "0.8"},
)
METRICS = ("behaviour", "facts", "refusals", "perplexity_ratio", "repetition", "layer_depth")
# min_difference compares with the baseline; max_ratio is for a metric that already is a ratio to it; below excludes the threshold.
KINDS = ("min_difference", "max_ratio", "min", "max", "below")


def check_gates(gates: Sequence[Mapping[str, str]]) -> None:
    """Raises: EngineError GATE_INVALID naming the gate; AlphaError if a threshold is no plain decimal."""
    for gate in gates:
        if set(gate) != {"metric", "kind", "threshold"} or gate["metric"] not in METRICS or gate["kind"] not in KINDS:
            raise EngineError(
                "GATE_INVALID",
                f"gate {dict(gate)} needs metric ({', '.join(METRICS)}), kind ({', '.join(KINDS)}) and threshold",
                str(dict(gate)),
            )
        parse_alpha(gate["threshold"])


def judge_gates(gates: Sequence[Mapping[str, str]], values: Mapping[str, str], baseline: Mapping[str, str]) -> list[dict[str, str]]:
    """One verdict per gate: the gate, the value it looked at (a difference for min_difference) and 'pass' or 'fail'.

    Exact: the comparison is of decimals as written in the document, so that anybody who reads it reaches the same verdict.
    """
    check_gates(gates)
    return [_judge(gate, values, baseline) for gate in gates]


def _judge(gate: Mapping[str, str], values: Mapping[str, str], baseline: Mapping[str, str]) -> dict[str, str]:
    value, threshold = Decimal(values[gate["metric"]]), Decimal(gate["threshold"])
    if gate["kind"] == "min_difference":
        value -= Decimal(baseline[gate["metric"]])
    passes = {
        "min_difference": value >= threshold,
        "min": value >= threshold,
        "max": value <= threshold,
        "max_ratio": value <= threshold,
        "below": value < threshold,
    }[gate["kind"]]
    return {**gate, "value": format_decimal(value), "verdict": "pass" if passes else "fail"}


def choose_cell(cells: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, str]] = DEFAULT_GATES) -> dict[str, Any]:
    """The cell with the highest behaviour among those of the final stage that pass every gate.

    Ties go to the lower perplexity ratio, then the smaller |α|, then the lower layer, so that the choice repeats.

    Raises: EngineError NO_CELL_PASSES saying for each gate how many cells it stopped, and CELLS_MISSING without a baseline.
    """
    baseline = next((cell for cell in cells if cell["stage"] == "final" and cell["layer"] is None), None)
    candidates = [cell for cell in cells if cell["stage"] == "final" and cell["layer"] is not None]
    if baseline is None or not candidates:
        raise EngineError("CELLS_MISSING", "the final stage has no baseline or no steered cell; finish the sweep before choosing")
    verdicts = [judge_gates(gates, cell, baseline) for cell in candidates]
    passing = [dict(cell) for cell, judged in zip(candidates, verdicts, strict=True) if all(v["verdict"] == "pass" for v in judged)]
    if not passing:
        raise EngineError("NO_CELL_PASSES", f"none of {len(candidates)} cells passes every gate: {_explain_failures(verdicts)}")
    return min(passing, key=_preference)


def _preference(cell: Mapping[str, Any]) -> tuple[Decimal, Decimal, Decimal, int]:
    return -Decimal(cell["behaviour"]), Decimal(cell["perplexity_ratio"]), abs(Decimal(cell["alpha"])), int(cell["layer"])


def _explain_failures(verdicts: Sequence[Sequence[Mapping[str, str]]]) -> str:
    sentences = []
    for gate in zip(*verdicts, strict=True):
        failed = [judged for judged in gate if judged["verdict"] == "fail"]
        if failed:
            # The nearest miss tells whether a finer α grid could help or the vector is hopeless.
            nearest = min(failed, key=lambda judged: abs(Decimal(judged["value"]) - Decimal(judged["threshold"])))
            rule = f"{nearest['metric']} {nearest['kind']} {nearest['threshold']}"
            sentences.append(f"{rule} stops {len(failed)}, the nearest at {nearest['value']}")
    return "; ".join(sentences)
