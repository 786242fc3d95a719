"""Packing: every shared prefix once, every prompt as if it were alone."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.engine.access.encoding import EncodedConversation
from steernode.engine.access.learned import Learned
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.reading import packing, selfcheck
from steernode.engine.reading import window as window_module
from steernode.engine.reading.capture import EncodedPair, capture_encoded, capture_spec, read_activations
from steernode.engine.reading.packing import PassCost, batch_blocks, pack_prompts
from steernode.engine.reading.selfcheck import check_packable
from steernode.engine.reading.window import CaptureStats

FREE_ATTENTION = PassCost(token=1e9, seen=1.0, masked=1.0)
Prompt = tuple[int, ...]


def make_prompts(count: int, generator: random.Random) -> list[tuple[Prompt, Prompt]]:
    """Pairs behind one of two long roots; half of them differ in the last token alone."""

    def some(length: int) -> Prompt:
        return tuple(generator.randrange(7, 263) for _ in range(length))

    roots = [some(16), some(11)]
    pairs = []
    for index in range(count):
        asked = roots[index % 3 == 0] + some(generator.randint(1, 9))
        pairs.append((asked + some(1), asked + some(1 if index % 2 else generator.randint(1, 12))))
    return pairs


def encode(pairs: list[tuple[Prompt, Prompt]]) -> list[EncodedPair]:
    return [EncodedPair(str(i), *(EncodedConversation(side, (False,) * len(side)) for side in pair)) for i, pair in enumerate(pairs)]


def read_all(loaded: LoadedModel, pairs: list[EncodedPair], position: str = "last_prompt_token") -> tuple[torch.Tensor, CaptureStats]:
    stats = CaptureStats()
    spec = capture_spec(loaded, read_position=position)
    windows = [
        torch.stack([captured.positive, captured.negative], dim=1)
        for captured in capture_encoded(loaded, pairs, spec, max_batch_tokens=400, stats=stats)
    ]
    return torch.cat(windows), stats


def read_by_hand(loaded: LoadedModel, token_ids: Prompt) -> torch.Tensor:
    """(layers, d_model): the last token of one prompt after every block, by a whole pass of the model that nothing shortens."""
    seen: list[torch.Tensor] = []
    handles = [
        visit_site(loaded, layer, "resid_post", lambda stream: seen.append(stream[0, -1].clone())) for layer in range(loaded.n_layers)
    ]
    with torch.inference_mode():
        loaded.model(input_ids=torch.tensor([token_ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


def test_plain_states_are_those_of_each_prompt_alone(every_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_module, "_PACK_BELOW", 0.0)
    pairs = encode(make_prompts(5, random.Random(4)))
    plain, stats = read_all(every_model, pairs)
    assert stats.plain_windows == 1
    alone = torch.stack([read_by_hand(every_model, side.token_ids) for pair in pairs for side in (pair.positive, pair.negative)])
    largest = alone.abs().max()
    torch.testing.assert_close(plain.flatten(0, 1) / largest, alone / largest, rtol=0, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    prompts=st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 1), min_size=1, max_size=9)).map(
            lambda drawn: tuple([7, 8, 9] * 3 if drawn[0] else []) + tuple(drawn[1])
        ),
        min_size=1,
        max_size=20,
    ),
    masked=st.sampled_from([1.0, 1e6, 1e12]),
    overhead=st.sampled_from([0, 20, 10_000]),
    data=st.data(),
)
def test_a_node_sees_exactly_its_ancestors_and_every_prompt_is_a_path(
    prompts: list[Prompt], masked: float, overhead: int, data: st.DataObject
) -> None:
    first_reads = [data.draw(st.integers(0, len(prompt) - 1)) for prompt in prompts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "ROOT_OVERHEAD_TOKENS", overhead)
        groups = pack_prompts(prompts, first_reads, PassCost(1e9, 1.0, masked))
    found = []
    for group in groups:
        for block in group.blocks:
            visible, depths = block.visible(), block.depths()
            for row, path in zip(block.rows, block.paths, strict=True):
                found.append(row)
                assert group.root + tuple(block.token_ids[node] for node in path) == prompts[row]
                assert len(group.root) <= first_reads[row]
                assert depths[path].tolist() == list(range(len(path)))
                for depth, node in enumerate(path):
                    assert sorted(np.flatnonzero(visible[node])) == sorted(path[: depth + 1])
        batches = batch_blocks(group, 30)
        assert [block for batch in batches for block in batch.blocks] == sorted(group.blocks, key=lambda block: -len(block.token_ids))
        assert all(len(batch.blocks) == 1 or len(batch.blocks) * batch.columns <= 30 for batch in batches)
    assert sorted(found) == list(range(len(prompts)))
    if masked == 1.0 and overhead == 10_000:
        assert sum(group.nodes for group in groups) == len({prompt[: end + 1] for prompt in prompts for end in range(len(prompt))})


def test_packed_states_are_those_of_each_prompt_alone(every_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "ROOT_OVERHEAD_TOKENS", 16)
    pairs = encode(make_prompts(9, random.Random(5)))
    packed, stats = read_all(every_model, pairs)
    alone = torch.stack([read_by_hand(every_model, side.token_ids) for pair in pairs for side in (pair.positive, pair.negative)])
    largest = alone.abs().max()
    torch.testing.assert_close(packed.flatten(0, 1) / largest, alone / largest, rtol=0, atol=1e-5)
    if check_packable(every_model).is_packable:
        assert stats.packed_windows == 1
        assert stats.computed_tokens < 0.7 * stats.asked_tokens
    else:
        assert stats.packed_windows == 0
        assert len(stats.reasons) == 1


def test_only_attention_that_knows_no_position_of_ours_is_read_plain(loaded_models: dict[str, LoadedModel]) -> None:
    # ALiBi counts columns, and in a packed block a column is not a position.
    packability = check_packable(loaded_models["falcon_sequential"])
    assert not packability.is_packable
    assert "refused a packed pass" in packability.reason


@pytest.mark.parametrize("position", ["all", "trigger:tokens=7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22"])
def test_what_is_read_inside_a_shared_prefix_is_computed_in_a_block(llama: LoadedModel, position: str) -> None:
    pairs = encode([((7, *one, 8), (7, *other, 8)) for one, other in make_prompts(6, random.Random(6))])
    packed, stats = read_all(llama, pairs, position)
    assert stats.packed_windows == 1
    spec = capture_spec(llama, read_position=position)
    alone = torch.stack([read_activations(llama, [side], spec)[0] for pair in pairs for side in (pair.positive, pair.negative)])
    torch.testing.assert_close(packed.flatten(0, 1), alone, rtol=1e-4, atol=1e-5)


def test_prompts_that_share_nothing_are_read_plain_and_the_record_says_so(llama: LoadedModel) -> None:
    generator = random.Random(7)
    sides = [tuple(generator.randrange(7, 263) for _ in range(20)) for _ in range(12)]
    _, stats = read_all(llama, encode(list(zip(sides[::2], sides[1::2], strict=True))))
    assert (stats.packed_windows, stats.plain_windows, stats.reasons) == (0, 1, ("the prompts share too little",))
    assert stats.computed_tokens == stats.asked_tokens == 240
    assert stats.pairs == 6


def test_a_model_that_ignores_its_mask_is_never_packed(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_known", Learned())
    read_packed = selfcheck.read_packed

    def without_ancestors(loaded: LoadedModel, root: Prompt, blocks: list[packing.PackedBlock], *rest: object) -> torch.Tensor:
        return read_packed(loaded, root, [selfcheck._Blind.of(block) for block in blocks], *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(selfcheck, "read_packed", without_ancestors)
    packability = check_packable(llama)
    assert not packability.is_packable
    assert "differ" in packability.reason
    pairs = encode(make_prompts(6, random.Random(8)))
    _, stats = read_all(llama, pairs)
    assert stats.packed_windows == 0
    assert "differ" in stats.reasons[0]


def test_whoever_asks_a_model_with_other_arguments_shares_what_was_found_of_it(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_known", Learned())
    tried = []
    monkeypatch.setattr(selfcheck, "_try_packing", lambda loaded: tried.append(loaded) or selfcheck.Packability(True))
    assert check_packable(llama) == check_packable(llama.asked_with({})) == check_packable(llama.asked_today())
    assert tried == [llama]


def test_a_window_too_long_to_check_limits_what_is_packed(loaded_models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "_known", Learned())
    monkeypatch.setattr(selfcheck, "_MAX_CHECKED_COLUMNS", 10)
    mistral = loaded_models["mistral"]
    assert check_packable(mistral).max_columns == 8
    _, stats = read_all(mistral, encode(make_prompts(6, random.Random(9))))
    assert stats.packed_windows == 0
    assert "sliding window" in stats.reasons[0]


@pytest.mark.parametrize(("name", "place", "pack_below"), [("read_plain", 1, 0.0), ("read_packed", 2, 10.0)])
def test_out_of_memory_halves_a_batch_and_changes_no_state(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch, name: str, place: int, pack_below: float
) -> None:
    monkeypatch.setattr(window_module, "_PACK_BELOW", pack_below)
    pairs = encode(make_prompts(8, random.Random(10)))
    expected, _ = read_all(llama, pairs)
    real, refused = getattr(window_module, name), []

    def read_one_at_most(*arguments: Any) -> torch.Tensor:
        if len(arguments[place]) > 1:
            refused.append(len(arguments[place]))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return cast(torch.Tensor, real(*arguments))

    monkeypatch.setattr(window_module, name, read_one_at_most)
    found, _ = read_all(llama, pairs)
    assert refused
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_order_does_not_show(llama: LoadedModel) -> None:
    pairs = encode(make_prompts(10, random.Random(11)))
    forward, _ = read_all(llama, pairs)
    backward, _ = read_all(llama, pairs[::-1])
    torch.testing.assert_close(forward, backward.flip(0), rtol=1e-4, atol=1e-5)


def test_packing_a_thousand_prompts_behind_one_root_stays_cheap() -> None:
    generator = random.Random(12)
    root = tuple(range(40))
    prompts = [root + tuple(generator.randrange(100) for _ in range(20)) for _ in range(1000)]
    [group] = [group for group in pack_prompts(prompts, [59] * 1000, FREE_ATTENTION) if group.root]
    assert len(group.root) >= 40
    assert group.nodes <= 20 * 1000
