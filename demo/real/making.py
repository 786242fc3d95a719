"""The chapters in which something is made: the record, the probe, the vector, its evidence."""

from __future__ import annotations

from typing import Any

from demo import story
from demo.figures import read_controls
from demo.real.stage import PROBE, Stage
from demo.steps import one, watch

ENVIRONMENT = "production"
# Of the replies that are kept.
SHOWN = 3


def declare(stage: Stage) -> dict[str, Any]:
    """Where steering may happen, what is demanded of it, and the data."""
    for person, manifest in (("oscar", "operator"), ("grace", "approver"), ("ada", "author")):
        stage.apply(person, manifest)
    ada = stage.clients["ada"]
    if not ada.get(f"/environments/{ENVIRONMENT}")["base_models"]:
        stage.steer("oscar", "base-model", "move", "smollm2", "--environment", ENVIRONMENT, "--reason", "Pilot.", "--yes")
    model, contrast_set = one(ada.get("/base-models?name=smollm2")), one(ada.get("/contrast-sets?name=empathy-smollm2"))
    story.tell(f"fingerprint {model['fingerprint'][:16]}…, {model['n_layers']} layers of {model['d_model']}")
    story.tell(f"{contrast_set['pair_count']} pairs sealed on the axis {contrast_set['axis']}")
    return {
        "model": {"fingerprint": model["fingerprint"], "layers": model["n_layers"], "d_model": model["d_model"]},
        "pairs": contrast_set["pair_count"],
    }


def train_probe(stage: Stage) -> dict[str, Any]:
    """Raises: RuntimeError if its classes do not separate."""
    job = stage.make("probe", "probe", PROBE, "probe")
    if job["state"] != "succeeded":
        raise RuntimeError(f"no probe of billing intent: {job['error_code']} {job['error_message']}")
    trained = job["trained_probe"]
    path = f"/probes/{trained['name']}/{trained['version']}"
    probe = stage.clients["ada"].get(path)
    held_out = {name: read_estimate(probe["held_out"][name]) for name in ("auc", "true_positive_rate", "false_positive_rate")}
    stage.clients["ada"].download(f"{path}/roc.png", stage.processes.var / "roc.png")
    said = ", ".join(f"{name.replace('_', ' ')} {say(each)}" for name, each in held_out.items())
    story.tell(f"it reads at layer {probe['layer']}; on prompts that it has not seen: {said}")
    return {"name": f"{trained['name']}@{trained['version']}", "layer": probe["layer"], **held_out}


def search(stage: Stage, vector: str, manifest: str) -> dict[str, Any]:
    """The vector that the search chose, or where no cell passes everything that decides what to change.

    Where it did not come to measure cells, because the model does not do what the pairs ask for, `nearest` is None too.
    """
    job = stage.make("extraction", "vector", vector, manifest)
    ada = stage.clients["ada"]
    if job["state"] == "succeeded":
        made = job["extracted_vector"]
        path = f"/vectors/{made['name']}/{made['version']}"
        row, sweep = ada.get(path), ada.get(f"{path}/sweep")
        chosen = {"layer": row["layer"], "alpha": row["proposed_alpha"], "unit": row["proposed_unit"]}
        picture = f"{path}/heatmap.png"
    elif job["sweep_digest"]:
        sweep, chosen = ada.get(f"/jobs/{job['id']}/sweep"), None
        picture = f"/jobs/{job['id']}/heatmap.png"
    else:
        said = f"{job['error_code']}: {job['error_message']}"
        story.tell(f"[yellow]the search ended before it measured a cell:[/] {said}")
        return {"job": job["id"], "chosen": None, "nearest": None, "cells": [], "cells_measured": 0, "sentence": said}
    ada.download(picture, stage.processes.var / f"{vector}.png")
    found = {
        "job": job["id"],
        "followed_by": job["followed_by"],
        "chosen": chosen,
        "cells_measured": len(sweep["cells"]),
        "finalists": sweep["finalists"],
        "ties": sweep.get("ties"),
        "findings": [finding["code"] for finding in sweep["diagnostics"]["findings"]],
        "instructions": {side: sweep["instructions"].get(side) for side in ("pairs", "positive", "negative", "difference")},
    }
    if chosen is None:
        found |= {"nearest": sweep["nearest"], "cells": [cell for cell in sweep["cells"] if cell["stage"] == "final"]}
    _show_search(stage, sweep, found)
    return found


def _show_search(stage: Stage, sweep: dict[str, Any], found: dict[str, Any]) -> None:
    shown = found["chosen"] or found["nearest"]
    place = (shown["layer"], shown["alpha"])
    for finding in sweep["diagnostics"]["findings"]:
        story.tell(f"{finding['severity']} about the pairs: {finding['sentence']}")
    story.show_heatmap(sweep["cells"], place)
    story.show_candidates(sweep["cells"], place)
    if found["ties"]:
        story.tell(found["ties"]["sentence"])
    if found["chosen"]:
        story.tell(f"chosen: layer {shown['layer']}, α = {shown['alpha']} {shown['unit']}")
        return
    story.tell(f"[yellow]no cell passes every gate:[/] {shown['sentence']}")
    show_replies(sweep["replies"])


def show_replies(replies: list[dict[str, Any]]) -> None:
    """A few of those that a search or an evidence keeps."""
    some = replies[:SHOWN]
    asked = [row["messages"][-1]["content"] for row in some]
    story.show_replies(asked, *([row[side]["text"] for row in some] for side in ("baseline", "steered")))


def validate(stage: Stage, found: dict[str, Any]) -> dict[str, Any]:
    """The evidence of the validation that follows the search. Raises: RuntimeError if it came to none."""
    ada = stage.clients["ada"]
    if found["followed_by"] is None:
        searched = ada.get(f"/jobs/{found['job']}")
        raise RuntimeError(f"no validation follows the search: {searched['note']}")
    job = watch(ada, found["followed_by"])
    evaluation = job["evaluation"]
    evidence = read_evidence(stage, evaluation["id"])
    story.show_gates(evidence["gates"])
    story.show_controls([(name.replace("_", " "), value) for name, value in read_controls(evidence["controls"]).items()])
    show_replies(evidence["replies"])
    if job["note"]:
        story.tell(job["note"])
    return {"evaluation": evaluation["id"], "digest": evaluation["digest"], "verdict": evaluation["verdict"]}


def read_evidence(stage: Stage, evaluation: str) -> dict[str, Any]:
    """The document that an approval names."""
    return stage.clients["ada"].get(f"/evaluations/{evaluation}/evidence")


def read_estimate(estimate: dict[str, Any]) -> dict[str, float]:
    return {name: float(estimate[name]) for name in ("value", "low", "high")}


def say(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
