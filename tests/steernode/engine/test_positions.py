"""Steering lands on the same tokens whatever the cache, the padding, the beams and the neighbours in the batch.

Every measurement is a hook of our own, registered after the steering; tokens written are compared only where the cache is the
library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache, StaticCache

from steernode.engine.access.encoding import EncodedConversation, encode_prompt, pad_left, pad_right
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.applying.components import Component, union_components
from steernode.engine.applying.generate import generate
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.schedules import CONSTANT, Schedule, make_schedule
from steernode.engine.applying.steer import steered
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.words import SCOPES
from tests.support.tiny_models import ask

LAYER = 1
REPLY = 6
ANSWERED = (Message("user", "late"), Message("assistant", "sorry"), Message("user", "the bill"))
PROMPTS = (ask("refund in five days"), ANSWERED, ask("a"))
SCHEDULES = (
    CONSTANT,
    make_schedule("linear", {"tokens": 4}),
    make_schedule("exponential", {"half_life_tokens": 2}),
    make_schedule("window", {"first_token": 2, "last_token": 3}),
)


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return direction / direction.norm()


def encode(loaded: LoadedModel, prompts: Sequence[Any] = PROMPTS) -> list[EncodedConversation]:
    return [encode_prompt(loaded, prompt, mark_assistant=True) for prompt in prompts]


def make_component(loaded: LoadedModel, operator: str = "add", **changes: Any) -> Component:
    values = {"coefficient": 3.0 if operator == "add" else 1.0, "bound": 0.05 if operator == "clamp" else None, **changes}
    return Component(unit(loaded), LAYER, operator=operator, **values)


def measure(
    loaded: LoadedModel,
    prompts: Sequence[EncodedConversation],
    components: Sequence[Component],
    *,
    cache: Any = None,
    rows: Tensor | None = None,
    layer: int = LAYER,
    chunks: Sequence[int] | None = None,
) -> Tensor:
    """What comes out of the layer (rows, columns, d_model) for left-padded prompts and a reply given in advance, in one pass
    without a cache, or in `chunks` of columns through one."""
    batch = pad_left([prompt.token_ids for prompt in prompts], loaded)
    reply = torch.arange(20, 20 + REPLY).repeat(len(prompts), 1)
    token_ids = torch.cat([batch.token_ids, reply], dim=1)
    mask = torch.cat([batch.attention_mask, torch.ones_like(reply)], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    seen: list[Tensor] = []
    start = 0
    with torch.inference_mode(), steered(loaded, components, PromptLayout.of(prompts), row_coefficients=rows):
        handle = visit_site(loaded, layer, "resid_post", lambda stream: seen.append(stream.clone()))
        try:
            for length in chunks or [token_ids.shape[1]]:
                chunk = slice(start, start + length)
                loaded.model(
                    input_ids=token_ids[:, chunk],
                    attention_mask=mask[:, : start + length],
                    position_ids=positions[:, chunk],
                    past_key_values=cache,
                    use_cache=cache is not None,
                )
                start += length
        finally:
            handle.remove()
    return torch.cat(seen, dim=1)


def expected_factors(scope: str, schedule: Schedule, prompts: Sequence[EncodedConversation]) -> Tensor:
    """(rows, columns) by the definition of each scope, token by token."""
    longest = max(len(prompt.token_ids) for prompt in prompts)
    table = torch.zeros(len(prompts), longest + REPLY)
    for row, prompt in enumerate(prompts):
        first = longest - len(prompt.token_ids)
        for column in range(first, longest + REPLY):
            token = column - (longest - 1)
            in_prompt, from_last = token <= 0, token >= 0
            covered = {
                "generated": from_last,
                "assistant": from_last or prompt.assistant_mask[column - first],
                "prompt": in_prompt,
                "all": True,
            }[scope]
            table[row, column] = schedule.factor(token) if covered else 0.0
    return table


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
@pytest.mark.parametrize("scope", SCOPES)
def test_exactly_the_tokens_of_the_scope_move_by_exactly_the_schedule(llama: LoadedModel, scope: str, schedule: Schedule) -> None:
    prompts = encode(llama)
    component = make_component(llama, scope=scope, schedule=schedule)
    moved = measure(llama, prompts, [component]) - measure(llama, prompts, [])
    factors = expected_factors(scope, schedule, prompts)
    torch.testing.assert_close(moved, factors[:, :, None] * 3.0 * component.direction, rtol=0, atol=1e-5)
    assert torch.equal(moved.any(dim=-1), factors != 0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
@pytest.mark.parametrize("operator", ["add", "ablate", "clamp"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_cache_of_any_kind_changes_nothing(llama: LoadedModel, scope: str, operator: str, schedule: Schedule) -> None:
    prompts = encode(llama)
    component = make_component(llama, operator, scope=scope, schedule=schedule)
    columns = max(len(prompt.token_ids) for prompt in prompts)
    whole = measure(llama, prompts, [component])
    token_by_token = measure(llama, prompts, [component], cache=DynamicCache(), chunks=[columns, *[1] * REPLY])
    # Chunks that end inside the prompt, and one that holds its end and some of the reply.
    in_chunks = measure(llama, prompts, [component], cache=DynamicCache(), chunks=[5, columns - 6, 3, REPLY - 2])
    static = StaticCache(llama.model.config, max_cache_len=columns + REPLY)
    in_static = measure(llama, prompts, [component], cache=static, chunks=[columns, *[1] * REPLY])
    real = expected_factors("all", CONSTANT, prompts) != 0
    for other in (token_by_token, in_chunks, in_static):
        torch.testing.assert_close(other[real], whole[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", SCOPES)
def test_right_padding_steers_the_tokens_that_left_padding_steers(llama: LoadedModel, scope: str) -> None:
    prompts = encode(llama)
    reply = list(range(20, 20 + REPLY))
    schedule = make_schedule("linear", {"tokens": 5})
    component = make_component(llama, scope=scope, schedule=schedule)
    seen: list[Tensor] = []
    token_ids = pad_right([[*prompt.token_ids, *reply] for prompt in prompts], llama)
    with torch.inference_mode(), steered(llama, [component], PromptLayout.right_padded(prompts)):
        handle = visit_site(llama, LAYER, "resid_post", lambda stream: seen.append(stream.clone()))
        try:
            llama.model(input_ids=token_ids, use_cache=False)
        finally:
            handle.remove()
    left = measure(llama, prompts, [component])
    for row, prompt in enumerate(prompts):
        length = len(prompt.token_ids) + REPLY
        torch.testing.assert_close(seen[0][row, :length], left[row, -length:], rtol=1e-4, atol=1e-4)


def test_a_schedule_does_not_go_on_from_a_cache_of_right_padded_prompts(llama: LoadedModel) -> None:
    prompts = encode(llama)
    component = make_component(llama, schedule=SCHEDULES[1])
    cache = DynamicCache()
    with torch.inference_mode(), steered(llama, [component], PromptLayout.right_padded(prompts)):
        llama.model(input_ids=pad_right([prompt.token_ids for prompt in prompts], llama), past_key_values=cache, use_cache=True)
        with pytest.raises(EngineError, match="pad them on the left") as refused:
            llama.model(input_ids=torch.full((3, 1), 20), past_key_values=cache, use_cache=True)
    assert refused.value.code == "LAYOUT_MISMATCH"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    scope=st.sampled_from(SCOPES),
    schedule=st.sampled_from(SCHEDULES),
    operator=st.sampled_from(["add", "ablate", "clamp"]),
    preserve_norm=st.booleans(),
)
def test_a_row_in_any_batch_is_the_row_alone(
    llama: LoadedModel, lengths: list[int], scope: str, schedule: Schedule, operator: str, preserve_norm: bool
) -> None:
    prompts = encode(llama, [ask("refund now"[:length]) for length in lengths])
    component = make_component(llama, operator, scope=scope, schedule=schedule, preserve_norm=preserve_norm)
    together = measure(llama, prompts, [component])
    for row, prompt in enumerate(prompts):
        [alone] = measure(llama, [prompt], [component])
        torch.testing.assert_close(together[row, -len(alone) :], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scope", ["generated", "all"])
@pytest.mark.parametrize("implementation", ["dynamic", "static"])
def test_the_librarys_generate_writes_what_ours_writes(any_model: LoadedModel, scope: str, implementation: str) -> None:
    prompts = encode(any_model)
    component = make_component(
        any_model, scope=scope, coefficient=6.0, schedule=make_schedule("window", {"first_token": 0, "last_token": 3})
    )
    batch = pad_left([prompt.token_ids for prompt in prompts], any_model)
    with steered(any_model, [component], PromptLayout.of(prompts)):
        theirs = any_model.model.generate(
            batch.token_ids,
            attention_mask=batch.attention_mask,
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=2,
            cache_implementation=implementation,
        )
    ours = generate(any_model, PROMPTS, components=[component], max_new_tokens=8)
    for row, reply in enumerate(ours):
        written = theirs[row, batch.token_ids.shape[1] :].tolist()
        assert written[: len(reply.scored_token_ids)] == list(reply.scored_token_ids)


def test_beams_of_a_batch_are_each_steered_as_their_row(llama: LoadedModel) -> None:
    prompts = encode(llama)
    component = make_component(llama)
    rows = torch.tensor([[0.0], [5.0], [-5.0]])
    batch = pad_left([prompt.token_ids for prompt in prompts], llama)
    ask_for = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False, "pad_token_id": 2}
    seen: list[Tensor] = []
    with steered(llama, [component], PromptLayout.of(prompts), row_coefficients=rows, beams=3):
        handle = visit_site(llama, LAYER, "resid_post", lambda stream: seen.append(stream.clone()))
        together = llama.model.generate(batch.token_ids, attention_mask=batch.attention_mask, **ask_for)
        handle.remove()
    assert {stream.shape[0] for stream in seen} == {9}
    for row, prompt in enumerate(prompts):
        ids = torch.tensor([prompt.token_ids])
        with steered(llama, [component], PromptLayout.of([prompt]), row_coefficients=rows[row : row + 1], beams=3):
            alone = llama.model.generate(ids, attention_mask=torch.ones_like(ids), **ask_for)
        length = alone.shape[1] - ids.shape[1]
        assert together[row, batch.token_ids.shape[1] :][:length].tolist() == alone[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("beams", [0, -1, True, 1.5])
def test_beams_that_are_no_number_of_beams_are_refused(llama: LoadedModel, beams: Any) -> None:
    with pytest.raises(EngineError) as refused, steered(llama, [], PromptLayout.of(encode(llama)), beams=beams):
        pass
    assert refused.value.code == "BEAMS_INVALID"


def test_a_batch_of_another_size_is_refused_and_never_guessed_at(llama: LoadedModel) -> None:
    prompts = encode(llama)
    batch = pad_left([prompt.token_ids for prompt in prompts], llama)
    with steered(llama, [make_component(llama)], PromptLayout.of(prompts)), pytest.raises(EngineError) as refused:
        llama.model.generate(batch.token_ids, attention_mask=batch.attention_mask, max_new_tokens=2, num_beams=2, pad_token_id=2)
    assert (refused.value.code, refused.value.item) == ("LAYOUT_MISMATCH", "3")


def test_rows_of_different_profiles_share_a_batch(any_model: LoadedModel) -> None:
    warm, brief, plain = unit(any_model, 1), unit(any_model, 2), unit(any_model, 3)
    profiles = [
        [Component(warm, 1, 5.0), Component(brief, 2, -4.0, schedule=SCHEDULES[1])],
        [],
        [Component(plain, 1, 1.0, operator="ablate"), Component(warm, 1, 2.0)],
        [Component(brief, 2, -4.0, schedule=SCHEDULES[1]), Component(warm, 2, 3.0, scope="all")],
    ]
    conversations = [*PROMPTS, PROMPTS[0]]
    components, rows = union_components(profiles)
    together = generate(any_model, conversations, components=components, row_coefficients=rows, max_new_tokens=8)
    for row, profile in enumerate(profiles):
        [alone] = generate(any_model, [conversations[row]], components=profile, max_new_tokens=8)
        assert together[row].token_ids == alone.token_ids


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0])), max_size=4), min_size=1, max_size=4))
def test_a_union_gives_every_row_its_own_components_in_their_order(rows: list[list[tuple[int, float]]]) -> None:
    directions = [torch.ones(2) * seed for seed in range(4)]
    profiles = [[Component(directions[which], 0, value) for which, value in row] for row in rows]
    components, table = union_components(profiles)
    for row, values in zip(rows, table.tolist(), strict=True):
        got = [(component.direction, value) for component, value in zip(components, values, strict=True) if value]
        assert [value for _, value in got] == [value for _, value in row]
        assert all(direction is directions[which] for (direction, _), (which, _) in zip(got, row, strict=True))
    assert len(components) <= sum(len(row) for row in rows)
