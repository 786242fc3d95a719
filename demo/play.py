"""make demo: the Harbor story on a real model, with processes that are really separate.

Every step goes through the REST API, the fleet protocol or `steer`, as the person or program that would do it. The story is
in `main`; what it shows is checked at the end, and the exit status says whether all of it came true.
"""

import json
import time
from typing import Any

from demo import story
from demo.check_report import find_shortfalls
from demo.figures import read_controls, read_interval, read_metric, read_verdicts
from demo.processes import ROOT, Processes, forget, running
from demo.steps import ask, one, prove, read_reply, steer, wait_for_head, watch
from steernode.errors import HubError
from steernode.hub.client import HubClient

# The demo keeps a hub of its own, so that playing it never touches another embedded hub's record.
VAR = ROOT / "var/demo"
TICKETS = 5
MAX_TOKENS = 64


def main() -> int:
    started = time.monotonic()
    story.tell_chapter(
        "Harbor Support", "A billing assistant answers correctly but coldly. Its company wants warm replies, and no surprises."
    )
    forget(VAR)
    story.tell("starting web, worker, scheduler on embedded PostgreSQL ...")
    with running(VAR, "web", "worker", "scheduler") as processes:
        processes.wait_for(f"{processes.hub}/api/v1/healthz", "web")
        report = play(processes)
    shortfalls = find_shortfalls(report)
    (VAR / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    summarise(report, time.monotonic() - started)
    for claim in shortfalls:
        story.console.print(f"[red]not shown: {claim}")
    return 1 if shortfalls else 0


def play(processes: Processes) -> dict[str, Any]:
    people = json.loads((VAR / "people.json").read_text())
    clients = {name: HubClient(processes.hub, person["token"]) for name, person in people.items()}
    ada, grace, oscar = (clients[name] for name in ("ada", "grace", "oscar"))
    model, contrast_set, repeated = declare(processes, people, ada)
    processes.start("node")
    job, vector, sweep = extract(ada)
    draft, evidence = validate(ada, job)
    refused, revision = decide(ada, grace, draft)
    answers = serve(processes, people, oscar, revision)
    story.tell_chapter("7. Prove", "Iris, auditor, exports the log and verifies it offline; then one byte is changed.")
    audit = prove(processes, people["iris"]["token"])
    metrics = evidence["metrics"]
    return {
        "model": {"fingerprint": model["fingerprint"], "layers": model["n_layers"], "d_model": model["d_model"]},
        "pairs": contrast_set["pair_count"],
        "chosen": {"layer": vector["layer"], "alpha": vector["proposed_alpha"], "unit": vector["proposed_unit"]},
        **{name: read_metric(metrics, name) for name in ("behaviour", "facts", "refusals")},
        "perplexity_ratio": float(metrics["perplexity_ratio"]["steered"]["value"]),
        "ms_per_token": {side: float(value) for side, value in evidence["speed"]["milliseconds_per_token"].items()},
        "cells_measured": len(sweep["cells"]),
        "intervals": {name: read_interval(metrics, name) for name in ("behaviour", "facts", "refusals", "perplexity_ratio", "slope")},
        "controls": read_controls(evidence["controls"]),
        "gates": read_verdicts(evidence["gates"]),
        "trace": {"picture": "var/demo/trace.png", "recovered": read_trace(sweep["trace"])},
        "findings": [finding["code"] for finding in sweep["diagnostics"]["findings"]],
        "author_approval_refused": refused,
        "second_apply_is_a_no_op": repeated,
        **answers,
        "audit": audit,
    }


def declare(processes: Processes, people: dict[str, Any], ada: HubClient) -> tuple[dict[str, Any], dict[str, Any], bool]:
    story.tell_chapter(
        "1. Declare", "Oscar, operator, declares where steering may happen; Ada, ML engineer, declares model, data and recipe."
    )
    for name, file in (("oscar", "operator"), ("ada", "author")):
        steer(processes, people[name]["token"], "apply", "-f", f"demo/manifests/{file}.yaml", "--yes")
    story.tell("Registering a model publishes nothing. That production and staging serve it is Oscar's step:")
    for environment in ("production", "staging"):
        move = ("base-model", "move", "harbor-support", "--environment", environment, "--reason", "Pilot.", "--yes")
        steer(processes, people["oscar"]["token"], *move)
    story.tell("the same again changes nothing, and a plan of it ends with 0 where changes end with 2:")
    steer(processes, people["ada"]["token"], "apply", "-f", "demo/manifests/author.yaml", "--yes")
    repeated = steer(processes, people["ada"]["token"], "plan", "-f", "demo/manifests/author.yaml", check=False) == 0
    model = one(ada.get("/base-models?name=harbor-support"))
    contrast_set = one(ada.get("/contrast-sets?name=empathy"))
    story.tell(f"fingerprint {model['fingerprint'][:16]}…, {model['n_layers']} layers of {model['d_model']}")
    story.tell(f"{contrast_set['pair_count']} pairs sealed on the axis {contrast_set['axis']}")
    return model, contrast_set, repeated


def extract(ada: HubClient) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    story.tell_chapter(
        "2. Extract and search",
        "A worker reads the pairs at every layer, screens layers and coefficients, and replies with the best.",
    )
    job = watch(ada, one(ada.get("/jobs?kind=extraction"))["id"])
    vector = job["extracted_vector"]
    path = f"/vectors/{vector['name']}/{vector['version']}"
    vector, sweep = ada.get(path), ada.get(f"{path}/sweep")
    for finding in sweep["diagnostics"]["findings"]:
        story.tell(f"{finding['severity']} about the pairs: {finding['sentence']}")
    chosen = (vector["layer"], vector["proposed_alpha"])
    story.show_heatmap(sweep["cells"], chosen)
    story.show_candidates(sweep["cells"], chosen)
    story.tell(f"chosen: layer {vector['layer']}, α = {vector['proposed_alpha']} {vector['proposed_unit']}")
    for picture in ("heatmap.png", "trace.png"):
        ada.download(f"{path}/{picture}", VAR / picture)
    story.tell("the search and the causal trace are drawn in var/demo/heatmap.png and var/demo/trace.png")
    return job, vector, sweep


def validate(ada: HubClient, extraction: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    story.tell_chapter("3. Validate", "The recipe names a profile: the next job opens the test split, once, and leaves a draft revision.")
    job = watch(ada, extraction["followed_by"])
    evidence = ada.get(f"/evaluations/{job['evaluation']['id']}/evidence")
    story.show_gates(evidence["gates"])
    story.show_controls([(name.replace("_", " "), value) for name, value in read_controls(evidence["controls"]).items()])
    draft = job["drafted_revision"]
    story.tell(f"drafted: {draft['profile']} r{draft['number']}")
    return draft, evidence


def decide(ada: HubClient, grace: HubClient, draft: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    story.tell_chapter("4. Decide", "Ada submits the draft with its evidence. She is an approver too, but not of her own work; Grace can.")
    path = f"/profiles/{draft['profile']}/revisions/{draft['number']}"
    revision = ada.post(f"{path}/submit", {})
    decision = {"revision_digest": revision["digest"], "evidence_digest": revision["evidence_digest"], "comment": "Warm, and right."}
    refused = False
    try:
        ada.post(f"{path}/approve", decision)
    except HubError as error:
        refused = error.code == "SELF_APPROVAL"
        story.tell(f"Ada tries to approve: [red]{error.code}[/] {error.message}")
    revision = grace.post(f"{path}/approve", decision)
    story.tell(f"Grace approves: revision {revision['number']} is [green]{revision['state']}[/]")
    return refused, revision


def serve(processes: Processes, people: dict[str, Any], oscar: HubClient, revision: dict[str, Any]) -> dict[str, Any]:
    story.tell_chapter(
        "5. Flag, pull, steer", "Oscar, operator, applies the flag of the tenant harbor. The node pulls, verifies and answers."
    )
    token, flag_file = people["oscar"]["token"], "demo/manifests/flag.yaml"
    processes.wait_for(f"{processes.node}/readyz", "node", seconds=90)
    tickets = read_tickets()
    wait_for_head(processes, oscar)
    before = {tenant: ask_all(processes, tickets, tenant) for tenant in ("harbor", "atlas")}
    started = time.monotonic()
    steer(processes, token, "apply", "-f", flag_file, "--yes")
    wait_for_head(processes, oscar)
    seconds = time.monotonic() - started
    story.tell(f"flag on: planned, applied, published and steering on the node {seconds:.2f} s after the command was typed")
    after = {tenant: ask_all(processes, tickets, tenant) for tenant in ("harbor", "atlas")}
    story.show_replies(tickets, before["harbor"], after["harbor"])
    steered = all(cold != warm for cold, warm in zip(before["harbor"], after["harbor"], strict=True))
    identical = before["atlas"] == after["atlas"] == before["harbor"]
    story.tell(f"harbor is {'steered' if steered else 'NOT steered'}; atlas gets {'byte-identical' if identical else 'DIFFERENT'} replies")
    story.tell_chapter("6. Roll back", "Oscar turns the flag off by hand: a new, higher revision with the content from before.")
    flag = {"profile": "harbor-empathy", "revision": revision["number"], "alpha_scale": "1"}
    oscar.put("/environments/production/flags/harbor", {**flag, "enabled": False, "reason": "Rollback drill."})
    rollback_seconds = wait_for_head(processes, oscar)
    story.tell("the file still says on, and the drift is told until one follows the other:")
    drifted = steer(processes, token, "drift", "-f", flag_file, check=False) == 2
    rolled_back = ask_all(processes, tickets, "harbor") == before["harbor"]
    story.tell(f"replies are {'byte-identical to the baseline' if rolled_back else 'NOT the baseline'} after {rollback_seconds:.2f} s")
    return {
        "tenants": {"harbor": "steered" if steered else "unsteered", "atlas": "identical" if identical else "different"},
        "flag_on_seconds": round(seconds, 3),
        "drift_told": drifted,
        "rollback": {"identical": rolled_back, "seconds": round(rollback_seconds, 3)},
    }


def summarise(report: dict[str, Any], seconds: float) -> None:
    chosen = report["chosen"]
    story.show_summary(
        [
            ("model", f"{report['model']['fingerprint'][:16]}…, {report['model']['layers']} layers of {report['model']['d_model']}"),
            ("vector", f"layer {chosen['layer']}, α = {chosen['alpha']} {chosen['unit']}, from {report['pairs']} pairs"),
            ("behaviour, 1 to 5", f"{report['behaviour']['baseline']:.2f} → {report['behaviour']['steered']:.2f}"),
            ("facts", f"{report['facts']['baseline']:.1%} → {report['facts']['steered']:.1%}"),
            ("refusals", f"{report['refusals']['baseline']:.1%} → {report['refusals']['steered']:.1%}"),
            ("perplexity ratio", f"{report['perplexity_ratio']:.3f}"),
            ("ms per token", f"{report['ms_per_token']['baseline']:.2f} → {report['ms_per_token']['steered']:.2f}"),
            ("tenants", f"harbor {report['tenants']['harbor']}, atlas {report['tenants']['atlas']}"),
            ("author's own approval", "refused" if report["author_approval_refused"] else "NOT refused"),
            ("rollback", f"{'identical' if report['rollback']['identical'] else 'DIFFERENT'} after {report['rollback']['seconds']:.2f} s"),
            ("audit", f"{report['audit']['events']} events, {'verified' if report['audit']['verified'] else 'NOT verified'} offline"),
            ("whole story", f"{seconds:.0f} s; report in var/demo/report.json; open the console with: make run"),
        ]
    )


def read_tickets() -> list[str]:
    """The first held-out tickets of the billing product."""
    lines = (ROOT / "demo/data/tickets.jsonl").read_text().splitlines()
    items = [item for item in map(json.loads, lines) if item["split"] == "test" and item["product"] == "billing"]
    return [item["messages"][-1]["content"] for item in items[:TICKETS]]


def ask_all(processes: Processes, tickets: list[str], tenant: str) -> list[str]:
    """What a customer of the tenant reads."""
    return [read_reply(ask(processes, [{"role": "user", "content": ticket}], tenant, MAX_TOKENS)) for ticket in tickets]


def read_trace(trace: dict[str, Any]) -> dict[str, list[float]]:
    """By group of tokens: the share of the behaviour that comes back when the group's states are patched, layer by layer."""
    return {name: [float(value) for value in group["recovered"]] for name, group in trace["groups"].items() if group["pairs"]}


if __name__ == "__main__":
    raise SystemExit(main())
