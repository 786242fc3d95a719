"""kill -9 of worker, web and node at random moments during the demo's jobs, over and over: the end must always be the same.

The recipe's extraction goes on by itself to a validation and a draft revision, so a kill can fall between two jobs, too.

    python tests/e2e/kill_loop.py --rounds 20 [--seed 1]

A first round without kills gives the state to compare with. Exit 0 when every round ended in it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from demo.processes import BIN, Processes, forget, running, stop_postgres  # noqa: E402  (the repository's root must be importable first)
from steernode.errors import HubError, SteerError  # noqa: E402
from steernode.hub.client import HubClient  # noqa: E402
from steernode.proof.verify import verify_export  # noqa: E402

VAR = ROOT / "var/kill-loop"
VICTIMS = ("worker", "web", "node")
# Short leases, so that a lost attempt is taken over while the round still runs.
ENVIRONMENT = {"STEERHUB_LEASE_SECONDS": "5"}


def main() -> int:
    arguments = parse_arguments()
    print(f"seed {arguments.seed}", flush=True)
    dice = random.Random(arguments.seed)
    expected, seconds = play_round(None)
    print(f"without kills: {seconds:.0f} s, {json.dumps(expected)}", flush=True)
    failures = 0
    for number in range(1, arguments.rounds + 1):
        # Anywhere from the job's first moment to its last, in any order.
        moments = sorted((dice.uniform(0, seconds), victim) for victim in VICTIMS)
        try:
            state, taken = play_round(moments)
            problem = "" if state == expected else f"ended in {json.dumps(state)}"
        except (RuntimeError, SteerError, OSError) as error:
            problem, taken = f"{type(error).__name__}: {error}", 0.0
        failures += bool(problem)
        told = ", ".join(f"{victim} at {moment:.1f} s" for moment, victim in moments)
        print(f"round {number}: killed {told}; {taken:.0f} s; {problem or 'same final state'}", flush=True)
        if problem:
            shutil.copytree(VAR / "log", VAR.with_name(f"kill-loop-failed-{number}"), dirs_exist_ok=True)
    stop_postgres(VAR)
    print(f"{arguments.rounds - failures} of {arguments.rounds} rounds ended in the same final state", flush=True)
    return 1 if failures else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    return parser.parse_args()


def play_round(moments: list[tuple[float, str]] | None) -> tuple[dict[str, Any], float]:
    """The recipe from an empty record to its draft. The final state, and the seconds from the request to the end of the last job."""
    forget(VAR)
    with running(VAR, "web", "worker", "scheduler", environment=ENVIRONMENT) as processes:
        processes.wait_for(f"{processes.hub}/api/v1/healthz", "web")
        people = json.loads((VAR / "people.json").read_text())
        tokens = {name: person["token"] for name, person in people.items()}
        steer(processes, tokens["oscar"], "apply", "-f", "demo/manifests/operator.yaml")
        steer(processes, tokens["ada"], "apply", "-f", "demo/manifests/author.yaml")
        steer(processes, tokens["oscar"], "base-model", "move", "harbor-support", "--environment", "production", "--reason", "The loop.")
        processes.start("node")
        started = time.monotonic()
        killer = threading.Thread(target=kill_and_restart, args=(processes, moments or [], started))
        killer.start()
        wait_for_end(processes, tokens["ada"])
        seconds = time.monotonic() - started
        killer.join()
        return read_final_state(processes, tokens), seconds


def steer(processes: Processes, token: str, *arguments: str) -> None:
    environment = {**os.environ, "STEERHUB_URL": processes.hub, "STEERHUB_TOKEN": token}
    subprocess.run([str(BIN / "steer"), *arguments, "--yes"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def kill_and_restart(processes: Processes, moments: list[tuple[float, str]], started: float) -> None:
    for moment, victim in moments:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        processes.kill(victim)
        processes.start(victim)


def wait_for_end(processes: Processes, token: str, *, seconds: float = 600) -> None:
    """Until no job is left to do; the hub may be away in between."""
    client = HubClient(processes.hub, token)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            jobs = client.get("/jobs")["results"]
            # A job that goes on queues the next one with its own success.
            if all(job["state"] in ("succeeded", "failed", "cancelled") for job in jobs):
                return
        except HubError as error:
            if error.code != "HUB_UNREACHABLE":
                raise
        time.sleep(0.3)
    raise RuntimeError(f"the jobs did not end within {seconds} s")


def read_final_state(processes: Processes, tokens: dict[str, str]) -> dict[str, Any]:
    """What must not depend on who was killed when. The log itself tells of more attempts; that it verifies must not change."""
    processes.wait_for(f"{processes.hub}/api/v1/healthz", "web")
    processes.wait_for(f"{processes.node}/readyz", "node", seconds=90)
    client = HubClient(processes.hub, tokens["ada"])
    jobs = sorted(client.get("/jobs")["results"], key=lambda job: job["kind"])
    vectors = client.get("/vectors")["results"]
    export = VAR / "audit.jsonl"
    HubClient(processes.hub, tokens["iris"]).download("/audit/export?format=jsonl", export)
    verify_export(export)
    return {
        "jobs": [[job["kind"], job["state"], job["error_code"], job["drafted_revision"]] for job in jobs],
        "vectors": [[vector["name"], vector["version"], vector["digest"], vector["layer"], vector["proposed_alpha"]] for vector in vectors],
        "succeeded_events": export.read_text().count("job.succeeded"),
        "node_in_step": wait_for_node(processes, client),
        "audit_verified": True,
    }


def wait_for_node(processes: Processes, client: HubClient, *, seconds: float = 30) -> bool:
    head = client.get("/environments/production")["head_revision"]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if processes.applied_revision() == head:
            return True
        time.sleep(0.1)
    return False


if __name__ == "__main__":
    raise SystemExit(main())
