"""Steering that ends within a reply: the rest is, token for token, what the unsteered model says after what is already there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import torch
from torch import Tensor

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.applying.schedules import make_schedule
from steernode.files.conversations import Message
from steernode.words import SCOPES
from tests.support.tiny_models import ask, count_hooks

PROMPT = ask("the bill is late", "warm")
TOKENS = 12


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return direction / direction.norm()


def steering(loaded: LoadedModel, scope: str = "generated") -> list[Component]:
    return [
        Component(unit(loaded), 1, 6.0, scope=scope),
        Component(unit(loaded, 1), 1, 1.0, site="attn_out", operator="ablate", scope=scope),
        Component(unit(loaded, 2), 2, 6.0, scope="generated", schedule=make_schedule("linear", {"tokens": 20})),
    ]


def before_token(place: int, reason: str = "killed_tenant") -> Callable[[], str]:
    """There is a reason from the moment before this token on."""
    asked = iter(range(10_000))
    return lambda: reason if next(asked) >= place else ""


def go_on_unsteered(loaded: LoadedModel, conversation: tuple[Message, ...], shown: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """What the library's own model says after the prompt and these tokens: one pass over them without a cache, then one for each token."""
    tokens = [*encode_prompt(loaded, conversation).token_ids, *shown]
    said: list[int] = []
    with torch.inference_mode():
        while len(shown) + len(said) < limit:
            said.append(int(loaded.model(input_ids=torch.tensor([tokens + said]), use_cache=False).logits[0, -1].argmax()))
            if said[-1] in loaded.end_token_ids:
                break
    return tuple(said)


def stopped_at(loaded: LoadedModel, place: int, components: list[Component], conversation: tuple[Message, ...] = PROMPT) -> Reply:
    [reply] = generate(loaded, [conversation], components=components, max_new_tokens=TOKENS, stop_reason=before_token(place))
    return reply


@pytest.mark.parametrize("place", [0, 1, 5, TOKENS - 1])
def test_what_follows_a_stop_is_the_unsteered_continuation_of_every_architecture(every_model: LoadedModel, place: int) -> None:
    components = steering(every_model, "all")
    [whole] = generate(every_model, [PROMPT], components=components, max_new_tokens=TOKENS)
    reply = stopped_at(every_model, place, components)
    assert reply.token_ids[:place] == whole.token_ids[:place]
    assert reply.scored_token_ids[place:] == go_on_unsteered(every_model, PROMPT, reply.token_ids[:place], TOKENS)
    assert reply.stopped is not None
    assert (reply.stopped.reason, reply.stopped.from_token) == ("killed_tenant", place)
    assert abs((datetime.now(UTC) - reply.stopped.at).total_seconds()) < 60


@pytest.mark.parametrize("scope", SCOPES)
def test_prompt_tokens_that_were_steered_are_read_again_unsteered(llama: LoadedModel, scope: str) -> None:
    conversation = (*ask("the bill is late"), Message("assistant", "sorry"), *ask("refund now"))
    reply = stopped_at(llama, 3, steering(llama, scope), conversation)
    assert reply.scored_token_ids[3:] == go_on_unsteered(llama, conversation, reply.token_ids[:3], TOKENS)


def test_the_steered_cache_would_have_gone_on_otherwise(llama: LoadedModel) -> None:
    """Else the tests above would pass without computing anything anew."""
    components = [Component(unit(llama), 1, 6.0, scope="prompt")]
    [whole] = generate(llama, [PROMPT], components=components, max_new_tokens=TOKENS)
    assert stopped_at(llama, 1, components).token_ids != whole.token_ids


def test_a_stop_that_never_comes_changes_no_token_and_is_asked_once_for_each(llama: LoadedModel) -> None:
    asked: list[None] = []

    def never() -> str:
        asked.append(None)
        return ""

    [plain] = generate(llama, [PROMPT], components=steering(llama), max_new_tokens=TOKENS)
    [reply] = generate(llama, [PROMPT], components=steering(llama), max_new_tokens=TOKENS, stop_reason=never)
    assert (reply.token_ids, reply.stopped) == (plain.token_ids, None)
    assert len(asked) == TOKENS


def test_a_reply_that_nothing_steers_is_never_asked_about(llama: LoadedModel) -> None:
    [reply] = generate(llama, [PROMPT], max_new_tokens=4, stop_reason=lambda: pytest.fail("asked"))
    assert reply.stopped is None


def test_every_row_of_a_batch_goes_on_from_its_own_tokens(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = [ask(text) for text in ("a", "the bill", "refund now please", "sorry we help you now")]
    components, rows = [Component(unit(llama), 1, 0.0, scope="all")], torch.tensor([[6.0], [-4.0], [0.0], [5.0]])
    alone = [
        generate(llama, [conversation], components=components, row_coefficients=rows[row : row + 1], max_new_tokens=TOKENS)[0]
        for row, conversation in enumerate(conversations)
    ]
    # The first reply ends before the stop, so that rows have left the batch by then.
    monkeypatch.setattr(type(llama), "end_token_ids", frozenset([alone[0].token_ids[1]]))
    together = generate(
        llama, conversations, components=components, row_coefficients=rows, max_new_tokens=TOKENS, stop_reason=before_token(4)
    )
    for conversation, reply, steered_reply in zip(conversations, together, alone, strict=True):
        if reply.stopped is None:
            assert reply.end_token_id is not None
            continue
        assert reply.token_ids[:4] == steered_reply.token_ids[:4]
        assert reply.scored_token_ids[4:] == go_on_unsteered(llama, conversation, reply.token_ids[:4], TOKENS)
    assert together[0].stopped is None
    assert any(reply.stopped for reply in together)


def test_no_hook_is_left_behind_by_a_stop(llama: LoadedModel) -> None:
    hooks = count_hooks(llama)
    stopped_at(llama, 2, steering(llama))
    assert count_hooks(llama) == hooks
