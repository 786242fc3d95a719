"""A node's reply from the moment that its steering must end: by a kill, a flag, its stale policy, or a move of its environment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from steernode.canonical import sha256_hex
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.directions import extract_directions, write_direction
from steernode.engine.reading.probes import train_probe
from steernode.files.conversations import Message
from steernode.integrations.transformers import TransformersEngine
from steernode.node.report import describe_steering
from steernode.node.responder import DECIDE_AGAIN_SECONDS, Generation, Responder
from steernode.snapshot.resolve import Effective
from tests.support.hub_simulator import make_component, make_content, make_flag, make_kill, make_profile
from tests.support.node_rig import effective
from tests.support.serving import wait_until
from tests.support.tiny_models import ask, make_pairs
from tests.support.tiny_words import WORDS

PROMPT = ask("refund please, the bill is late")
TOKENS, STOPPED_AT = 12, 5


class Interrupted:
    """An engine to which something happens before a certain token of a reply."""

    def __init__(self, engine: TransformersEngine) -> None:
        self._engine = engine
        self.happens: Callable[[], object] = lambda: None
        self.at = STOPPED_AT

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, messages: Sequence[Message], effective: Effective, *, stop_reason: Callable[[], str] | None, **options: Any
    ) -> Generation:
        tokens = count()

        def interrupt() -> str:
            if next(tokens) == self.at:
                self.happens()
            return stop_reason() if stop_reason else ""

        return self._engine.generate(messages, effective, stop_reason=stop_reason and interrupt, **options)


@pytest.fixture(scope="module")
def vector(llama: LoadedModel) -> bytes:
    direction = extract_directions(llama, make_pairs(4))[2]
    return write_direction(direction, base_model_fingerprint=llama.fingerprint, contrast_set_digest="c" * 64)


@pytest.fixture(scope="module")
def engine(model_folders: Any) -> TransformersEngine:
    return TransformersEngine(model_folders["llama"])


class Rig:
    """A node on the tiny model: `hub` publishes for it, `reply` is harbor's."""

    def __init__(self, hub: Any, make_node: Any, engine: TransformersEngine, vectors: dict[str, bytes], clock: Any) -> None:
        self.hub, self.clock, self.engine = hub, clock, Interrupted(engine)
        self.vectors = vectors
        self.components = [self.component(scope="all")]
        self.node = make_node(engine=self.engine)
        self.responder = Responder(self.node, self.engine)

    def component(self, **changes: Any) -> dict[str, Any]:
        vector = self.vectors["steering"]
        entry = {"sha256": sha256_hex(vector), "bytes": len(vector), "dtype": "F32", "shape": [32]}
        strong = {"alpha": "30", "alpha_max": "40", "unit": "absolute", "layer": 2}
        return make_component(**strong | changes) | {"vector": entry}

    def publish(self, revision: int, **changes: Any) -> None:
        fingerprint = self.engine.fingerprint
        content = make_content(
            base_models=[{"name": "tiny", "fingerprint": fingerprint}],
            profiles=[make_profile(base_model=fingerprint, components=self.components)],
            capabilities=sorted(self.engine.capabilities),
        )
        self.hub.publish(revision, content=content | changes)

    def reply(self, **asked: Any) -> tuple[Effective, Generation]:
        return self.responder.generate(PROMPT, tenant="harbor", route="", max_tokens=TOKENS, **asked)

    def hear(self) -> None:
        """The node's own thread asks the hub: a swap waits for the reply that is under way, what lowers does not."""
        threading.Thread(target=self.node.poll, daemon=True).start()
        wait_until(lambda: effective(self.node).profile is None)


@pytest.fixture
def rig(hub: Any, make_node: Any, engine: TransformersEngine, vector: bytes, clock: Any) -> Rig:
    hub.blobs[sha256_hex(vector)] = vector
    rig = Rig(hub, make_node, engine, {"steering": vector}, clock)
    rig.publish(1)
    rig.node.poll()
    return rig


def stop(rig: Rig) -> None:
    """By its own road, which waits for no reply."""
    rig.hub.publish_stop(make_kill())
    rig.node.stops.ask(rig.node.client)


def kill(rig: Rig) -> None:
    """In a snapshot of the form before stops had a road of their own."""
    rig.publish(2, kills=[{"kind": "tenant", "target": "harbor"}])
    rig.hear()


def turn_off(rig: Rig) -> None:
    rig.publish(2, flags=[make_flag(enabled=False)])
    rig.hear()


def turn_off_in_what_cannot_be_followed(rig: Rig) -> None:
    rig.publish(2, flags=[make_flag(enabled=False)], capabilities=[*rig.engine.capabilities, "telepathy"])
    rig.hear()


def lose_the_hub(rig: Rig) -> None:
    rig.clock.advance(seconds=901)
    time.sleep(DECIDE_AGAIN_SECONDS)


def move_away(rig: Rig) -> None:
    rig.publish(2, base_models=[{"name": "other", "fingerprint": "11" * 32}], profiles=[], flags=[])
    rig.hear()


STOPS = {
    stop: "killed_tenant",
    kill: "killed_tenant",
    turn_off: "flag_off",
    turn_off_in_what_cannot_be_followed: "flag_off",
    lose_the_hub: "stale",
    move_away: "wrong_base_model",
}


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
def test_a_reply_under_way_is_not_steered_from_the_next_token_on_and_says_so(rig: Rig, llama: LoadedModel, stop: Any) -> None:
    _, whole = rig.reply()
    rig.engine.happens = lambda: stop(rig)
    steered_by, reply = rig.reply()
    assert reply.text != whole.text
    assert reply.completion_tokens == whole.completion_tokens == TOKENS
    said = describe_steering(steered_by)
    assert said is not None
    assert steered_by.reason == "flag_on"
    assert (said["profile"], said["stopped"]["reason"], said["stopped"]["from_token"]) == ("harbor-empathy", STOPS[stop], STOPPED_AT)
    assert said["stopped"]["at"].endswith("Z")
    assert rig.responder.counters["requests_stopped"] == 1
    after, _ = rig.reply()
    assert (after.profile, after.reason) == (None, STOPS[stop])


def test_a_stop_before_the_first_token_leaves_a_reply_that_was_never_steered(rig: Rig) -> None:
    rig.engine.at = 0
    rig.engine.happens = lambda: kill(rig)
    steered_by, reply = rig.reply()
    assert (steered_by.profile, steered_by.reason) == (None, "killed_tenant")
    assert reply.text == rig.reply()[1].text
    assert rig.responder.counters["requests_stopped"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"flags": [make_flag(alpha_scale="0.5")]},
        {"flags": [make_flag(override={"alpha_min": "0", "alpha_max": "1"})]},
        {"kills": [{"kind": "tenant", "target": "atlas"}]},
    ],
)
def test_what_leaves_the_request_steered_does_not_touch_its_reply(rig: Rig, change: dict[str, Any]) -> None:
    rig.publish(2, flags=[make_flag(override={"alpha_min": "0", "alpha_max": "40"})])
    rig.node.poll()
    _, whole = rig.reply(alpha=Decimal(30))
    rig.publish(3, **change)

    def hear() -> None:
        threading.Thread(target=rig.node.poll, daemon=True).start()
        wait_until(lambda: rig.node.in_force.word is not None)

    rig.engine.happens = hear
    steered_by, reply = rig.reply(alpha=Decimal(30))
    assert (reply.text, steered_by.stopped) == (whole.text, None)


def test_a_profile_that_its_probe_let_steer_is_stopped_likewise(rig: Rig, llama: LoadedModel) -> None:
    about, other = [ask(f"refund {word}") for word in WORDS[:12]], [ask(f"{word} the bill") for word in WORDS[:12]]
    probe = train_probe(llama, about, other, layer=1, read_position="all")
    rig.hub.blobs[sha256_hex(probe.vector_file)] = probe.vector_file
    rig.components = [rig.component(condition=probe.condition), rig.component(layer=1)]
    rig.publish(2)
    rig.node.poll()
    rig.engine.happens = lambda: (rig.publish(3, kills=[{"kind": "everything", "target": ""}]), rig.hear())
    steered_by, _ = rig.reply()
    assert steered_by.stopped is not None
    assert (steered_by.stopped.reason, steered_by.stopped.from_token) == ("killed_everything", STOPPED_AT)
