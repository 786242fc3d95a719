"""The report: what the run found, whichever way it went, and the sentence that says which way."""

from __future__ import annotations

from typing import Any

from demo.figures import read_controls, read_interval, read_verdicts

Chapter = dict[str, Any]
SIDES = ("baseline", "prompt", "steered")
FIGURES = ("behaviour", "facts", "refusals", "perplexity")
# What is held against the prompt, or against other directions, beside the figures.
AGAINST = (
    "behaviour_share",
    "perplexity_over_prompt",
    "kl_over_prompt",
    "facts_net_lost",
    "facts_lost",
    "slope_over_random",
    "slope_over_unrelated",
    "stability",
)
APPROVED, NO_WINDOW, FAILED, UNDECIDED = "approved", "no window", "gates failed", "undecided"


def judge(search: Chapter, evidence: Chapter | None, waived: Chapter | None) -> tuple[str, str]:
    """Which way it went, and the sentence that says so with numbers."""
    if evidence is None and search["nearest"] is None:
        return NO_WINDOW, f"the search ended before it measured a cell: {search['sentence']}"
    if evidence is None:
        return NO_WINDOW, f"no cell passes every gate on the select split: {search['nearest']['sentence']}"
    blocking = [gate for gate in evidence["gates"] if gate["verdict"] == "fail"]
    if blocking:
        stopped = "; ".join(f"{gate['metric']} {gate['value']} against {gate['kind']} {gate['threshold']}" for gate in blocking)
        place = f"layer {search['chosen']['layer']} at α {search['chosen']['alpha']}"
        return FAILED, f"no window on the test split: {place} was chosen, and there {len(blocking)} gates fail: {stopped}"
    if waived and waived["left"]:
        return UNDECIDED, f"nothing failed, and nothing can be concluded on {', '.join(waived['left'])}"
    many = len(waived["waivers"]) if waived else 0
    return APPROVED, f"every gate passed on the test split, but for {many} that nothing can be concluded on and two people answer for"


def describe_evidence(evidence: dict[str, Any]) -> dict[str, Any]:
    """Its figures with and without steering and under the prompt alone, with intervals."""
    metrics = evidence["metrics"]
    known = [name for name in FIGURES if name in metrics]
    return {
        **{name: {side: _value(metrics, name, side) for side in SIDES} for name in known},
        "perplexity_ratio": _value(metrics, "perplexity_ratio", "steered"),
        "perplexity_ratio_of_the_prompt": _value(metrics, "perplexity_ratio", "prompt"),
        "intervals": {
            name: {side: read_interval(metrics, name, side) for side in SIDES if side in metrics[name]}
            for name in (*known, "perplexity_ratio")
        },
        "differences": {
            name: [_value(metrics, name, "difference"), *read_interval(metrics, name, "difference")]
            for name in known
            if "difference" in metrics[name]
        },
        "against_the_controls": {
            name: [_value(metrics, name, "steered"), *read_interval(metrics, name)] for name in AGAINST if name in metrics
        },
        "acting": evidence.get("acting"),
        "dose": evidence.get("dose"),
        "ms_per_token": {side: float(value) for side, value in evidence["speed"]["milliseconds_per_token"].items()},
        "controls": read_controls(evidence["controls"]) if evidence.get("controls") else None,
        "gates": read_verdicts(evidence["gates"]),
    }


def describe_nearest(search: Chapter) -> dict[str, Any]:
    """Of a search in which no cell passes: the unsteered model and the nearest cell, on the select split. No prompt is asked there."""
    nearest = search["nearest"]
    if nearest is None:
        nothing = {name: dict.fromkeys(SIDES) for name in FIGURES}
        return {**nothing, "perplexity_ratio": None, "intervals": {}, "nearest": None, "gates": {}}
    baseline = next(cell for cell in search["cells"] if cell["layer"] is None)
    steered = next(cell for cell in search["cells"] if (cell["layer"], cell["alpha"]) == (nearest["layer"], nearest["alpha"]))
    cells = {"baseline": baseline, "prompt": {}, "steered": steered}

    def ends(name: str) -> dict[str, list[float]]:
        known = {side: [cell.get(f"{name}_{end}") for end in ("low", "high")] for side, cell in cells.items()}
        return {side: [float(end) for end in both] for side, both in known.items() if None not in both}

    return {
        **{name: {side: float(cell[name]) if name in cell else None for side, cell in cells.items()} for name in FIGURES},
        "perplexity_ratio": float(steered["perplexity_ratio"]),
        "intervals": {name: ends(name) for name in (*FIGURES, "perplexity_ratio")},
        "nearest": nearest,
        "gates": {f"{gate['metric']} {gate['kind']} {gate['threshold']}": "fail" for gate in nearest["stopped_by"]},
    }


def describe_second_axis(search: Chapter, evidence: Chapter | None) -> dict[str, Any]:
    """Its verdict by the same gates, in short: nobody asks for an approval."""
    if evidence is None:
        return {"verdict": NO_WINDOW, "sentence": judge(search, None, None)[1], "chosen": None, **describe_nearest(search)}
    undecidable = [name for name, verdict in read_verdicts(evidence["gates"]).items() if verdict == "undecidable"]
    verdict, sentence = judge(search, evidence, {"left": undecidable, "waivers": []})
    return {"verdict": verdict, "sentence": sentence, "chosen": search["chosen"], **describe_evidence(evidence)}


def _value(metrics: dict[str, Any], name: str, side: str) -> float | None:
    """None where that side was not measured."""
    estimate = metrics.get(name, {}).get(side)
    return None if estimate is None else float(estimate["value"])
