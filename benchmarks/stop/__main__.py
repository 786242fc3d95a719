"""From the moment that a kill is pressed to the first token that is not steered, within a reply that is under way.

    python -m benchmarks.stop [--tries 50] [--strict]

A hub and a node on the demo's model, each a process of its own, share the cores with the client. The model is kept from ending its
replies, so that every one has 200 tokens. In every try a tenant of its own is answered and killed over the REST API at a random moment in
the first half of the reply. The reply says from which token on it was not steered, and when that token was there; all go by one clock.
Prints the machine and the times; writes var/bench/stop.json. Exit 1 if a reply was steered to its end, or, with --strict, if the target
was missed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import describe_commit, describe_machine, machine_line
from benchmarks.stop.tenants import tenant_name
from benchmarks.timing import percentile, summarize
from tests.e2e.faults.rig import Process, Rig

TOKENS = 200
TARGET_SECONDS = 0.25
PROMPT = "Tell me everything about my refund."
BENCH = Path("var/bench")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--strict", action="store_true", help="exit 1 if the target was missed")
    arguments = parser.parse_args()
    machine = describe_machine()
    print(machine_line(machine), flush=True)
    rig = Rig.make(BENCH / "stop")
    try:
        rig.run("-m", "benchmarks.stop.tenants", str(arguments.tries))
        hub = rig.web()
        node = rig.node(hub, module=("benchmarks.stop.endless_node",))
        report = measure(rig, hub, node, arguments.tries)
    finally:
        rig.close()
    report = {"schema": "steerhub.bench-stop/1", "machine": machine, "commit": describe_commit(), **report}
    (BENCH / "stop.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    allowed = TARGET_SECONDS + report["token_s"]
    print(f"one token {report['token_s'] * 1000:.1f} ms; kill to neutral over {arguments.tries} tries:")
    times = {"median": report["neutral"]["median_s"], "95 %": report["p95_s"], "worst": report["worst_s"]}
    print("  " + ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in times.items()))
    print(f"  target: worst <= {allowed * 1000:.0f} ms: {'met' if report['worst_s'] <= allowed else 'MISSED'}")
    print(f"  steered to the end: {report['steered_to_the_end']}")
    return 1 if report["steered_to_the_end"] or (arguments.strict and report["worst_s"] > allowed) else 0


def measure(rig: Rig, hub: Process, node: Process, tries: int) -> dict[str, Any]:
    chance = random.Random(0)
    # The first reply of a process is slower than all others.
    for _ in range(2):
        started = time.monotonic()
        whole = ask(node, tenant_name(0))
        seconds = time.monotonic() - started
    assert whole["steering"] is not None
    assert whole["usage"]["completion_tokens"] == TOKENS
    times: list[float] = []
    from_tokens: list[int] = []
    missed = 0
    for number in range(tries):
        answers: list[dict[str, Any]] = []
        asking = threading.Thread(target=lambda tenant, into: into.append(ask(node, tenant)), args=(tenant_name(number), answers))
        asking.start()
        time.sleep(seconds * chance.uniform(0.05, 0.5))
        pressed = time.time()
        rig.kill("tenant", tenant_name(number), hub=hub)
        asking.join()
        stopped = (answers[0]["steering"] or {}).get("stopped")
        if stopped is None:
            missed += 1
            continue
        times.append(datetime.fromisoformat(stopped["at"]).timestamp() - pressed)
        from_tokens.append(stopped["from_token"])
    if not times:
        raise SystemExit("no reply was stopped at all")
    return {
        "tokens": TOKENS,
        "token_s": whole["milliseconds_per_token"] / 1000,
        "neutral": summarize(times),
        "p95_s": percentile(times, 95),
        "worst_s": max(times),
        "from_tokens": from_tokens,
        "steered_to_the_end": missed,
        "times_s": times,
    }


def ask(node: Process, tenant: str) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS}
    answer = httpx.post(f"{node.url}/v1/chat/completions", headers={"X-SteerHub-Tenant": tenant}, json=body, timeout=120)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


if __name__ == "__main__":
    sys.exit(main())
