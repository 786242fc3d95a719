"""The chapter in which a node serves the profile: replies before and after the flag, to requests that it is for and to others, and back."""

from __future__ import annotations

import time
from typing import Any

from demo import story
from demo.real.corpus.knowledge import SERVED
from demo.real.material import Row
from demo.real.stage import PROFILE, Stage
from demo.steps import Answer, ask, read_reply, wait_for_head
from steernode.answers import is_right
from steernode.files.suites import SuiteItem, parse_suite

TENANT = "harbor"
FLAG = f"/environments/production/flags/{TENANT}"
TICKETS, QUESTIONS, MAX_TOKENS = 3, 6, 48
NODE_SECONDS = 180


def serve(stage: Stage, revision: dict[str, Any]) -> dict[str, Any]:
    """From no flag to a flag and back: what customers read, and how long it took."""
    processes, oscar = stage.processes, stage.clients["oscar"]
    processes.start("node")
    processes.wait_for(f"{processes.node}/readyz", "node", seconds=NODE_SECONDS)
    off = {"profile": PROFILE, "revision": revision["number"], "alpha_scale": "1", "enabled": False}
    flags = oscar.get(f"/environments/production/flags?tenant={TENANT}")["results"]
    if any(flag["enabled"] for flag in flags):
        # An earlier start ended while it was on.
        oscar.put(FLAG, {**off, "reason": "The story goes on from before the flag."})
    wait_for_head(processes, oscar)
    asked = {name: [row["messages"] for row in pick(stage, name)] for name in ("billing", "general")}
    facts = _questions(stage)
    before = _ask_all(stage, asked, facts)
    started = time.monotonic()
    stage.apply("oscar", "flag")
    wait_for_head(processes, oscar)
    seconds = time.monotonic() - started
    story.tell(f"flag on: planned, applied, published and steering on the node {seconds:.2f} s after the command was typed")
    after = _ask_all(stage, asked, facts)
    for name, title in (("billing", "requests about billing"), ("general", "other requests")):
        story.tell(f"[bold]{title}:[/]")
        story.show_replies([messages[-1]["content"] for messages in asked[name]], *(_replies(each[name]) for each in (before, after)))
    story.tell_chapter("Roll back", "Oscar turns the flag off by hand: a new, higher revision with the content from before.")
    oscar.put(FLAG, {**off, "reason": "Rollback drill."})
    rollback_seconds = wait_for_head(processes, oscar)
    story.tell("the file still says on, and the drift is told until one follows the other:")
    drifted = stage.steer("oscar", "drift", "-f", stage.material.path("flag"), check=False) == 2
    rolled_back = _replies(_ask_all(stage, {"billing": asked["billing"]}, [])["billing"]) == _replies(before["billing"])
    story.tell(f"replies are {'byte-identical to the baseline' if rolled_back else 'NOT the baseline'} after {rollback_seconds:.2f} s")
    return {
        "requests": {name: _compare(before[name], after[name]) for name in asked},
        "facts_of_other_intents": {
            **_compare(before["facts"], after["facts"]),
            "right_before": _count_right(facts, before["facts"]),
            "right_after": _count_right(facts, after["facts"]),
        },
        "flag_on_seconds": round(seconds, 3),
        "drift_told": drifted,
        "rollback": {"identical": rolled_back, "seconds": round(rollback_seconds, 3)},
    }


def pick(stage: Stage, intent: str) -> list[Row]:
    """The first held-out tickets of an intent."""
    return [row for row in stage.material.read_rows("tickets") if row["split"] == "test" and row["intent"] == intent][:TICKETS]


def _questions(stage: Stage) -> list[SuiteItem]:
    """Held-out questions of fact that are not about billing."""
    suite = parse_suite((stage.material.data / "facts.jsonl").read_bytes(), "factual")
    return [item for item in suite.split("test") if item.intent != "billing"][:QUESTIONS]


def _ask_all(stage: Stage, asked: dict[str, list[list[dict[str, str]]]], facts: list[SuiteItem]) -> dict[str, list[Answer]]:
    questions = [[message.to_document() for message in item.messages] for item in facts]
    return {
        name: [ask(stage.processes, _put_under(messages), TENANT, MAX_TOKENS) for messages in conversations]
        for name, conversations in {**asked, "facts": questions}.items()
    }


def _put_under(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """As it is served, where the request has no system message of its own."""
    return messages if messages[0]["role"] == "system" else [{"role": "system", "content": SERVED}, *messages]


def _replies(answers: list[Answer]) -> list[str]:
    return [read_reply(answer) for answer in answers]


def _compare(before: list[Answer], after: list[Answer]) -> dict[str, Any]:
    """How many replies the flag changed, and what the node says of each."""
    pairs = zip(_replies(before), _replies(after), strict=True)
    return {"asked": len(after), "changed": sum(one != other for one, other in pairs), "said": [each["steering_reason"] for each in after]}


def _count_right(items: list[SuiteItem], answers: list[Answer]) -> int:
    return sum(is_right(item, reply) for item, reply in zip(items, _replies(answers), strict=True))
