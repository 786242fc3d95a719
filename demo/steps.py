"""What the stories do between their chapters: run `steer`, follow a job, ask the node, and prove the audit log."""

import os
import subprocess
import time
from typing import Any

import httpx

from demo import story
from demo.processes import BIN, ROOT, Processes
from steernode.hub.client import HubClient

Answer = dict[str, Any]
# An event that every story leaves, of which one letter is changed.
_TAMPERED = b"job.requested"
_FINISHED = ("succeeded", "failed", "cancelled")


def steer(processes: Processes, token: str, *arguments: str, check: bool = True) -> int:
    """Run the command line as a person would, and show what it prints."""
    story.console.print(f"  [dim]$ steer {' '.join(arguments)}")
    environment = {**os.environ, "STEERHUB_URL": processes.hub, "STEERHUB_TOKEN": token}
    return subprocess.run([str(BIN / "steer"), *arguments], cwd=ROOT, env=environment, check=check).returncode


def one(page: dict[str, Any]) -> dict[str, Any]:
    """The first row of a list."""
    return page["results"][0]


def watch(client: HubClient, job_id: str) -> dict[str, Any]:
    """Follow a job to its end. Raises: RuntimeError when it does not succeed."""
    job = follow(client, job_id)
    if job["state"] != "succeeded":
        raise RuntimeError(f"job {job_id} {job['state']}: {job['error_code']} {job['error_message']}")
    return job


def follow(client: HubClient, job_id: str) -> dict[str, Any]:
    """Follow a job to its end, whichever it is."""
    with story.job_progress() as progress:
        bar = progress.add_task("queued", total=None)
        while True:
            job = client.get(f"/jobs/{job_id}")
            total = job["progress_total"] or None
            progress.update(bar, description=_say_stage(job), completed=job["progress_done"], total=total)
            if job["state"] in _FINISHED:
                return job
            time.sleep(0.25)


def _say_stage(job: dict[str, Any]) -> str:
    """With what is left, where that is a while."""
    minutes = round((job["seconds_left"] or 0) / 60)
    return f"{job['stage'] or 'queued'}{f', {minutes} min left' if minutes > 1 else ''}"


def ask(processes: Processes, messages: list[dict[str, str]], tenant: str, max_tokens: int) -> Answer:
    """What the node answers a customer of the tenant, and what it says of how it did."""
    body = {"messages": messages, "max_tokens": max_tokens}
    answer = httpx.post(f"{processes.node}/v1/chat/completions", json=body, headers={"X-SteerHub-Tenant": tenant}, timeout=60)
    answer.raise_for_status()
    return answer.json()


def read_reply(answer: Answer) -> str:
    return answer["choices"][0]["message"]["content"]


def wait_for_head(processes: Processes, oscar: HubClient, *, seconds: float = 30) -> float:
    """Until the node serves with the environment's head revision; the seconds it took."""
    head = oscar.get("/environments/production")["head_revision"]
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        if processes.applied_revision() == head:
            return time.monotonic() - started
        time.sleep(0.02)
    raise RuntimeError(f"the node did not apply revision {head} within {seconds} s; see {processes.var}/log/node.log")


def prove(processes: Processes, token: str) -> dict[str, Any]:
    """The audit log is exported and verified offline; then one byte is changed."""
    export = processes.var / "audit.jsonl"
    steer(processes, token, "audit", "export", "--format", "jsonl", "--out", str(export))
    verified = steer(processes, "", "verify", str(export), check=False) == 0
    data = bytearray(export.read_bytes())
    data[data.index(_TAMPERED)] ^= 1
    tampered = export.with_name("audit-tampered.jsonl")
    tampered.write_bytes(data)
    detected = steer(processes, "", "verify", str(tampered), check=False) == 1
    events = sum(1 for _ in export.open("rb")) - 1
    return {"events": events, "verified": verified, "tamper_detected": detected}
