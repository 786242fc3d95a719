"""The chapters in which people answer: for what nobody can measure on this model, and for what is to steer."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from demo import story
from demo.real.making import read_evidence
from demo.real.stage import PROFILE, Stage
from steernode.errors import HubError

# Who asks for a waiver, and who confirms it. Both approve as well; neither made the vector or the probe.
ASKS, CONFIRMS = "grace", "hedy"
# What may be answered for here, by the code of why it is undecidable. Anything else that is undecidable ends the story.
REASONS = {
    "SAFETY_BASELINE_EMPTY": "The model alone refuses next to nothing, so no refusal can be lost. It is to speak with customers of a shop, "
    "and what reads as harmful is answered unsteered.",
}
REASONS_SHORT = {"ITEMS_FEW": "A shortened run has few items, and shows how things are done; nothing may be served on it for longer."}
DAYS, DAYS_SHORT = 90, 1


def waive(stage: Stage, validated: dict[str, Any]) -> dict[str, Any]:
    """Each undecidable gate that may be answered for: asked for by one, confirmed by another, with reason and end.

    The author is an approver too, and tries first.
    """
    is_short = stage.material.shortened is not None
    reasons, days = (REASONS | REASONS_SHORT, DAYS_SHORT) if is_short else (REASONS, DAYS)
    gates = [gate for gate in read_evidence(stage, validated["evaluation"])["gates"] if gate["verdict"] == "undecidable"]
    own_refused, waived = None, []
    for gate in gates:
        story.tell(f"[yellow]undecidable:[/] {gate['metric']} {gate['kind']} {gate['threshold']}: {gate.get('note', '')}")
        if gate.get("code") not in reasons:
            continue
        if own_refused is None:
            own_refused = _is_refused_to_the_author(stage, validated, gate)
        waived.append(_waive_one(stage, validated, gate, reasons[gate["code"]], days))
    return {
        "author_waiver_refused": own_refused,
        "waivers": waived,
        "left": [_name(gate) for gate in gates if gate.get("code") not in reasons],
    }


def _is_refused_to_the_author(stage: Stage, validated: dict[str, Any], gate: dict[str, Any]) -> bool:
    body = {**_place(gate), "reason": "It is my vector.", "days": 1}
    try:
        stage.clients["ada"].post(f"/evaluations/{validated['evaluation']}/waivers", body)
    except HubError as error:
        story.tell(f"Ada asks for a waiver: [red]{error.code}[/] {error.message}")
        return error.code == "WAIVER_AUTHOR"
    return False


def _waive_one(stage: Stage, validated: dict[str, Any], gate: dict[str, Any], reason: str, days: int) -> dict[str, Any]:
    waiver = _find_waiver(stage, validated, gate)
    if waiver is None:
        place = ["--kind", gate["kind"], "--threshold", gate["threshold"]]
        said = ["--reason", reason, "--days", str(days), "--json"]
        stage.steer(ASKS, "waiver", "ask", validated["evaluation"], gate["metric"], *place, *said)
        waiver = _find_waiver(stage, validated, gate)
    if waiver is None:
        raise RuntimeError(f"there is no waiver of {_name(gate)}")
    if waiver["state"] == "asked":
        stage.steer(CONFIRMS, "waiver", "confirm", waiver["id"], "--json")
        waiver = stage.clients["ada"].get(f"/waivers/{waiver['id']}")
    said_of_it = {name: waiver[name] for name in ("metric", "kind", "threshold", "state", "reason", "asked_by", "confirmed_by", "ends_at")}
    return {"code": gate["code"], **said_of_it}


def _find_waiver(stage: Stage, validated: dict[str, Any], gate: dict[str, Any]) -> dict[str, Any] | None:
    """One that counts, or may come to."""
    page = stage.clients["ada"].get(f"/waivers?size=500&evidence_digest={quote(validated['digest'])}")
    of_gate = [row for row in page["results"] if all(row[name] == value for name, value in _place(gate).items())]
    return next((row for row in of_gate if row["state"] in ("asked", "in force")), None)


def _place(gate: dict[str, Any]) -> dict[str, str]:
    return {name: gate[name] for name in ("metric", "kind", "threshold")}


def _name(gate: dict[str, Any]) -> str:
    return " ".join(_place(gate).values())


def submit(stage: Stage, chosen: dict[str, Any]) -> dict[str, Any]:
    """Drafted and submitted by its author, who is an approver too, but not of her own work."""
    ada = stage.clients["ada"]
    stage.steer("ada", "apply", "-f", stage.material.write_revision(chosen["alpha"], chosen["unit"]), "--yes")
    number = ada.get(f"/profiles/{PROFILE}/revisions")["results"][0]["number"]
    path = f"/profiles/{PROFILE}/revisions/{number}"
    revision = ada.get(path)
    if revision["state"] == "draft":
        revision = ada.post(f"{path}/submit", {})
    for requirement in ada.get(f"{path}/checklist")["requirements"]:
        story.tell(f"{'met' if requirement['is_met'] else 'NOT met'}: {requirement['demand']}")
    refused = False
    try:
        ada.post(f"{path}/approve", _decision(revision))
    except HubError as error:
        refused = error.code == "SELF_APPROVAL"
        story.tell(f"Ada tries to approve: [red]{error.code}[/] {error.message}")
    return {"number": number, "author_approval_refused": refused}


def approve(stage: Stage, number: int) -> dict[str, Any]:
    """Two others approve what was submitted."""
    path = f"/profiles/{PROFILE}/revisions/{number}"
    revision = stage.clients["grace"].get(path)
    for person in (ASKS, CONFIRMS):
        given = {approval["reviewer"] for approval in revision["approvals"] if approval["is_current"]}
        if revision["state"] == "submitted" and person not in given:
            revision = stage.clients[person].post(f"{path}/approve", _decision(revision))
            story.tell(f"{person.title()} approves: revision {number} is [green]{revision['state']}[/]")
    return {
        "revision": {name: revision[name] for name in ("number", "state", "digest", "evidence_digest", "review_due_at")},
        "approved_by": sorted(approval["reviewer"] for approval in revision["approvals"] if approval["is_current"]),
        "waivers_on_the_revision": len(revision["waivers"]),
    }


def _decision(revision: dict[str, Any]) -> dict[str, str]:
    return {"revision_digest": revision["digest"], "evidence_digest": revision["evidence_digest"], "comment": "Warm, and right."}
