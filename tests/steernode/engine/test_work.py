"""What is kept of a call gives the bits of a call that keeps nothing, whichever batches of it were kept."""

from __future__ import annotations

import inspect
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch

from steernode.engine.access.work import digest_inputs
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import Reply, generate, pack_replies, unpack_replies
from steernode.engine.measuring.forced import ForcedText, score_forced
from steernode.engine.measuring.metrics import measure_surprisal
from steernode.files.conversations import Message
from tests.support.kept_work import Kept

CONVERSATIONS = [(Message("user", "Where is my parcel" + " please" * more),) for more in range(6)]
TEXTS = [ForcedText((5, 6, 7, *range(8, 8 + more)), (9, 10, 11)) for more in range(6)]


@pytest.fixture
def two_lanes():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def component(loaded) -> Component:
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(3))
    return Component(direction / direction.norm(), layer=1, coefficient=2.0)


def measure_all(loaded) -> list[Any]:
    steered = component(loaded)
    replies = generate(loaded, CONVERSATIONS, components=[steered], max_new_tokens=6, max_batch_rows=2)
    scores = score_forced(loaded, TEXTS, [(), [steered]])
    nats, tokens = measure_surprisal(loaded, CONVERSATIONS, replies)
    said = [replace(reply, milliseconds_per_token=0.0) for reply in replies]
    return [said, scores.log_likelihood, *scores.kl, nats, tokens]


def is_same(one: list[Any], other: list[Any]) -> bool:
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("share", [1, 2, 3])
def test_a_call_of_which_some_batches_are_kept_gives_the_same_bits(llama, two_lanes, monkeypatch, share):
    monkeypatch.setattr("steernode.engine.measuring.forced.MAX_PASS_TOKENS", 24)
    monkeypatch.setattr("steernode.engine.measuring.metrics._MAX_BATCH_TOKENS", 64)
    whole, work = measure_all(llama), Kept()
    assert is_same(measure_all(replace(llama, work=work)), whole)
    assert len(work.done) > 6
    left = {place for index, place in enumerate(sorted(work.kept)) if index % share == 0}
    work.kept, work.done = {place: data for place, data in work.kept.items() if place not in left}, []
    assert is_same(measure_all(replace(llama, work=work)), whole)
    assert set(work.done) == left


def test_replies_are_kept_to_the_last_bit():
    replies = [Reply("Grüße\ud800\n", (3, 4), 7, 12, 0.1 + 0.2), Reply("", (), None, 1, 1e-300)]
    assert unpack_replies(pack_replies(replies)) == replies


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (generate, {"conversations", "components", "row_coefficients", "max_new_tokens", "max_batch_rows", "sampling"}),
        (score_forced, {"texts", "variants"}),
    ],
)
def test_every_parameter_that_a_result_depends_on_is_among_the_inputs_of_its_call(function, known):
    """Whoever adds one adds it to `inputs` of the call, and here."""
    heard = {"loaded", "on_progress", "stop_reason"}
    assert set(inspect.signature(function).parameters) - heard == known


def test_a_reply_that_may_be_stopped_is_not_kept(llama):
    work = Kept()
    generate(replace(llama, work=work), CONVERSATIONS[:1], max_new_tokens=2, stop_reason=lambda: "")
    assert not work.kept


def test_inputs_are_told_apart_by_every_bit_and_type(llama):
    one = component(llama)
    inputs: list[Any] = [
        Decimal(1), Decimal("1.0"),
        None, True, 1, 1.0, "1", b"1", [1], [True], [[1]], {"1": 1}, [1, 2], [12], ["1", "2"], ["12"], "é", "e\u0301", -0.0, 0.0,
        one, replace(one, coefficient=np.nextafter(2.0, 3.0).item()), replace(one, scope="all"), replace(one, direction=-one.direction),
        torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor(0.0), torch.tensor(0),
        CONVERSATIONS[0], CONVERSATIONS[1],
    ]  # fmt: skip
    assert len({digest_inputs(each) for each in inputs}) == len(inputs)
    assert digest_inputs(replace(one, direction=one.direction.clone())) == digest_inputs(one)
    with pytest.raises(TypeError, match="told apart"):
        digest_inputs(object())


def test_whoever_has_no_more_use_for_a_reply_ends_it_between_two_tokens(llama):
    class Ended(Exception):
        """The job was called off."""

    class Work(Kept):
        asked = 0

        def check(self) -> None:
            self.asked += 1
            if self.asked == 3:
                raise Ended

    work = Work()
    with pytest.raises(Ended):
        generate(replace(llama, work=work), CONVERSATIONS[:1], max_new_tokens=20)
    assert (work.asked, work.done) == (3, [])
