"""Decoding in fixed buffers: what the growing cache writes, with steps that are the same work on the same memory whatever is steered."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from steernode.engine.access.batches import halve_on_oom, release_on_oom
from steernode.engine.access.cache import new_fixed_cache
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying import steppers
from steernode.engine.applying.components import Component
from steernode.engine.applying.fixed import Room, round_columns, round_rows
from steernode.engine.applying.fixedcheck import refuse_fixed
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.applying.schedules import make_schedule
from steernode.files.conversations import Message
from steernode.records.decoding import Sampling
from steernode.words import SCOPES
from tests.support.taping import record
from tests.support.tiny_models import ask, count_hooks

ANSWERED = (*ask("late"), Message("assistant", "sorry"), *ask("now"))
PROMPTS = [ask("the bill is late"), ask("refund"), ANSWERED, ask("sorry we help you now"), ask("a")]
# More than one prompt of each, so that they share the work on it.
REPEATED = [PROMPTS[0], PROMPTS[1], PROMPTS[0], PROMPTS[0], PROMPTS[1]]
SCHEDULES = (
    make_schedule("linear", {"tokens": 4}),
    make_schedule("exponential", {"half_life_tokens": 2}),
    make_schedule("window", {"first_token": 2, "last_token": 3}),
)
KINDS: dict[str, dict[str, Any]] = {
    "add": {"coefficient": 4.0},
    "add that keeps the norm": {"coefficient": 4.0, "preserve_norm": True},
    "ablate": {"operator": "ablate", "coefficient": 1.0},
    "clamp above": {"operator": "clamp", "coefficient": 0.8, "bound": 0.05},
    "clamp below": {"operator": "clamp", "coefficient": 1.0, "bound": -0.05, "preserve_norm": True},
}
Make = Callable[..., Room]


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed)), dim=0)


def written(replies: Sequence[Reply]) -> list[tuple[int, ...]]:
    return [reply.scored_token_ids for reply in replies]


@pytest.fixture
def fix(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Has a model decode in fixed buffers, on tape unless told otherwise; `fix(None)` puts the growing cache back."""

    def make(loaded: LoadedModel | None, capture: Any = record) -> Room | None:
        cache = loaded and new_fixed_cache(loaded.model, loaded.device)
        room = Room(cache, loaded.device, capture) if loaded and cache else None
        monkeypatch.setattr(steppers, "find_room", lambda _loaded: room)
        return room

    return make


def compare(fix: Make, loaded: LoadedModel, conversations: Sequence[Any], capture: Any = record, **asked: Any) -> list[Reply]:
    """The replies over a growing cache, after it was seen that fixed buffers give the same."""
    fix(None)
    grown = generate(loaded, conversations, max_new_tokens=10, **asked)
    fix(loaded, capture)
    hooks = count_hooks(loaded)
    fixed = generate(loaded, conversations, max_new_tokens=10, **asked)
    assert written(fixed) == written(grown)
    assert [reply.prompt_tokens for reply in fixed] == [reply.prompt_tokens for reply in grown]
    assert count_hooks(loaded) == hooks
    return grown


def test_a_tape_keeps_a_number_of_pythons_as_it_was() -> None:
    place, number = torch.zeros(2), [1.0]

    def step() -> None:
        place.add_(number[0]).mul_(2)

    def restore() -> None:
        place.zero_()

    play = record(step, restore)
    number[0] = 5.0
    play()
    assert place.tolist() == [2.0, 2.0]


def test_every_architecture_of_today_takes_fixed_buffers(every_model: LoadedModel) -> None:
    assert refuse_fixed(every_model) == ""


@pytest.mark.parametrize("capture", [record, None], ids=["on tape", "step by step"])
def test_every_architecture_writes_the_same_in_fixed_buffers(every_model: LoadedModel, fix: Make, capture: Any) -> None:
    components = [
        Component(unit(every_model), 1, 4.0, scope="all", schedule=SCHEDULES[0]),
        Component(unit(every_model, 1), 1, 1.0, site="attn_out", operator="ablate"),
        Component(unit(every_model, 2), 2, 0.0, site="mlp_out"),
    ]
    rows = torch.tensor([[4.0, 1.0, 0.0], [0.0, 0.0, 0.0], [-3.0, 0.5, 2.0], [0.0, 0.0, -2.0], [6.0, 0.0, 1.0]])
    compare(fix, every_model, PROMPTS, capture, components=components, row_coefficients=rows)
    compare(fix, every_model, PROMPTS[:1], capture)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", SCOPES)
def test_every_scope_and_kind_of_steering_writes_the_same(llama: LoadedModel, fix: Make, scope: str, kind: str) -> None:
    for schedule in (None, *SCHEDULES):
        component = Component(unit(llama), 1, scope=scope, **KINDS[kind])
        if schedule is not None:
            component = replace(component, schedule=schedule)
        compare(fix, llama, PROMPTS, components=[component])


@pytest.mark.parametrize("site", ["embedding", "resid_pre", "attn_out", "resid_mid", "mlp_out"])
def test_every_site_writes_the_same(llama: LoadedModel, fix: Make, site: str) -> None:
    layer = 0 if site == "embedding" else 2
    compare(fix, llama, PROMPTS, components=[Component(unit(llama), layer, 3.0, site=site), Component(unit(llama, 1), layer, 1.0)])


def test_rows_that_share_their_prompts_and_differ_in_alpha_write_the_same(any_model: LoadedModel, fix: Make) -> None:
    rows = torch.tensor([[0.0], [3.0], [6.0], [-6.0], [-3.0]])
    compare(fix, any_model, REPEATED, components=[Component(unit(any_model), 1, 0.0)], row_coefficients=rows)


def test_rows_that_end_at_different_times_leave_and_the_others_go_on(
    any_model: LoadedModel, fix: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = [*PROMPTS, *REPEATED, ask("card"), ask("five days")]
    plain = generate(any_model, conversations, max_new_tokens=10)
    ends = frozenset(reply.token_ids[step] for reply, step in zip(plain, (0, 1, 2, 4, 6), strict=False) if len(reply.token_ids) > step)
    monkeypatch.setattr(type(any_model), "end_token_ids", ends)
    rows = torch.linspace(-5, 5, len(conversations))[:, None]
    component = Component(unit(any_model), 1, 0.0, schedule=SCHEDULES[1], preserve_norm=True)
    ways = [Sampling(Decimal(index % 3) / 2, Decimal("0.9"), seed=index) for index in range(len(conversations))]
    for sampling in (None, ways):
        replies = compare(fix, any_model, conversations, components=[component], row_coefficients=rows, sampling=sampling)
        assert len({len(reply.token_ids) for reply in replies}) > 2


@pytest.mark.parametrize("top_p", ["1", "0.8"])
def test_rows_draw_the_same(any_model: LoadedModel, fix: Make, top_p: str) -> None:
    ways = [Sampling(Decimal("1.5") if seed else Decimal(0), Decimal(top_p), seed=seed) for seed in range(5)]
    compare(fix, any_model, PROMPTS, sampling=ways, components=[Component(unit(any_model), 1, 3.0)])


def test_alpha_rows_and_vectors_change_under_a_step_that_is_never_made_again(llama: LoadedModel, fix: Make) -> None:
    def ask_for(seed: int, alpha: float) -> dict[str, Any]:
        components = [
            Component(unit(llama, seed), 1, 0.0),
            Component(unit(llama, seed + 1), 1, 0.0, schedule=SCHEDULES[seed % 3]),
            Component(unit(llama, seed + 2), 2, 0.0, operator="clamp", bound=0.1 + seed),
        ]
        rows = torch.tensor([[alpha, 1.0, 0.5], [0.0, alpha, 0.0], [-alpha, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
        return {"components": components, "row_coefficients": rows[torch.randperm(5, generator=torch.Generator().manual_seed(seed))]}

    asked = [ask_for(seed, alpha) for seed, alpha in ((0, 3.0), (1, -8.0), (2, 0.5), (0, 3.0))]
    fix(None)
    grown = [written(generate(llama, PROMPTS, max_new_tokens=12, **each)) for each in asked]
    assert len({tuple(replies) for replies in grown}) == 3
    room = fix(llama)
    assert [written(generate(llama, PROMPTS, max_new_tokens=12, **each)) for each in asked] == grown
    builds = room.builds
    assert [written(generate(llama, PROMPTS, max_new_tokens=12, **each)) for each in reversed(asked)] == grown[::-1]
    assert room.builds == builds
    # Neither is it where fewer rows of other lengths come.
    fewer = generate(llama, [ask("refund"), ask("card")][:1] * 8, max_new_tokens=7, **{**asked[1], "row_coefficients": torch.ones(8, 3)})
    assert room.builds == builds
    fix(None)
    again = generate(llama, [ask("refund")] * 8, max_new_tokens=7, **{**asked[1], "row_coefficients": torch.ones(8, 3)})
    assert written(fewer) == written(again)


def test_what_another_batch_left_behind_does_not_reach_the_next(llama: LoadedModel, fix: Make) -> None:
    room = fix(llama)
    wild = Component(unit(llama), 0, 1e38)
    generate(llama, PROMPTS * 3, components=[wild, replace(wild, layer=1)], max_new_tokens=20)
    after = generate(llama, PROMPTS, max_new_tokens=12)
    fix(None)
    assert written(after) == written(generate(llama, PROMPTS, max_new_tokens=12))
    assert room.cache.tokens >= 15 * 20


def test_a_stop_within_a_reply_goes_on_as_the_unsteered_model(any_model: LoadedModel, fix: Make) -> None:
    def reason_after(asked: int) -> Callable[[], str]:
        times = iter(range(100))
        return lambda: "killed" if next(times) >= asked else ""

    component = Component(unit(any_model), 1, 6.0)
    for steps in (0, 1, 4):
        fix(None)
        [grown] = generate(any_model, PROMPTS[:1], components=[component], max_new_tokens=10, stop_reason=reason_after(steps))
        fix(any_model)
        [fixed] = generate(any_model, PROMPTS[:1], components=[component], max_new_tokens=10, stop_reason=reason_after(steps))
        assert fixed.scored_token_ids == grown.scored_token_ids
        assert fixed.stopped is not None
        assert (fixed.stopped.reason, fixed.stopped.from_token) == ("killed", steps)


def test_two_threads_take_turns(llama: LoadedModel, fix: Make) -> None:
    jobs = [[Component(unit(llama, seed), 1, 4.0 * seed)] for seed in range(4)]
    fix(None)
    grown = [written(generate(llama, PROMPTS, components=job, max_new_tokens=8)) for job in jobs]
    fix(llama)
    found: dict[int, Any] = {}

    def work(index: int) -> None:
        found[index] = written(generate(llama, PROMPTS, components=jobs[index], max_new_tokens=8))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == grown


def test_a_room_is_given_back_when_memory_runs_out_unless_it_is_in_use(llama: LoadedModel, fix: Make) -> None:
    room = fix(llama)
    release_on_oom(room)
    generate(llama, PROMPTS, max_new_tokens=4)
    assert room.cache.tokens

    def cramped(rows: Sequence[int]) -> int:
        if len(rows) > 1:
            raise torch.OutOfMemoryError("planted")
        return 0

    halve_on_oom([0, 1], cramped)
    assert room.cache.tokens == 0
    replies = generate(llama, PROMPTS, max_new_tokens=4)
    fix(None)
    assert written(replies) == written(generate(llama, PROMPTS, max_new_tokens=4))
    with room.lock:
        held = room.cache.tokens
        other = threading.Thread(target=room.release)
        other.start()
        other.join()
        assert room.cache.tokens == held


def test_steps_that_cannot_be_captured_are_launched_one_by_one(llama: LoadedModel, fix: Make, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(step: Callable[[], None], _restore: Callable[[], None]) -> Callable[[], None]:
        step()
        raise RuntimeError("operation not permitted when stream is capturing")

    compare(fix, llama, PROMPTS, refuse, components=[Component(unit(llama), 1, 3.0)])
    assert "cannot be captured" in caplog.text


def test_a_room_does_not_keep_its_model(model_folders: dict[str, Path], fix: Make) -> None:
    def refuse(_step: Callable[[], None], _restore: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing")

    for capture in (None, refuse):
        loaded = load_model(model_folders["llama"])
        room = fix(loaded, capture)
        generate(loaded, PROMPTS, components=[Component(unit(loaded), 1, 3.0)], max_new_tokens=4)
        model = weakref.ref(loaded.model)
        del loaded
        gc.collect()
        assert model() is None
        assert room.cache.tokens


def test_a_model_that_asks_the_device_for_values_keeps_a_growing_cache(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = type(llama.blocks[1].mlp).forward

    def curious(self: Any, stream: Tensor) -> Any:
        return forward(self, stream) if float(stream.sum()) else stream

    monkeypatch.setattr(type(llama.blocks[1].mlp), "forward", curious)
    assert "ask the device for values" in refuse_fixed(llama)


def test_a_cache_that_shows_a_step_something_else_is_refused(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Room, "mask", property(lambda room: torch.ones(room.cache.rows, room.cache.columns, dtype=torch.long)))
    assert "differ by" in refuse_fixed(llama)


def test_a_model_with_a_state_of_another_kind_keeps_a_growing_cache(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["full_attention", "linear_attention", "full_attention", "full_attention"]
    monkeypatch.setattr(llama.model.config, "layer_types", kinds, raising=False)
    assert "something else than keys and values" in refuse_fixed(llama)


def test_a_cpu_keeps_a_growing_cache(llama: LoadedModel) -> None:
    assert steppers.find_room(llama) is None


def test_sizes_are_rounded_up_by_little_and_to_few() -> None:
    assert [round_rows(rows) for rows in (1, 2, 3, 5, 64, 65, 128)] == [1, 2, 4, 8, 64, 128, 128]
    for columns in range(1, 9000, 7):
        rounded = round_columns(columns)
        assert rounded % 64 == 0
        assert columns <= rounded <= max(64 * -(-columns // 64), 1.25 * columns + 64)
    assert len({round_columns(columns) for columns in range(1, 9000)}) < 40
