"""Causal tracing: patching gives back what was put in, finds a planted cause, and refuses pairs with nothing to trace."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from steernode.canonical import canonical_json, parse_strict
from steernode.engine.access.models import LoadedModel
from steernode.engine.searching.trace import GROUPS, SMALLEST_EFFECT, Patching, TracePair, _read_entering, trace_pair, trace_pairs
from steernode.engine.searching.traceplots import draw_trace
from steernode.engine.searching.tracereport import describe_trace, trace
from steernode.errors import EngineError, LayerError
from steernode.files.contrast import ContrastPair
from tests.support.rounding import tolerance
from tests.support.tiny_models import CONTEXT, ask, count_hooks, make_answered_pair, make_pair


def tokens(seed: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randint(7, 263, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def pair_of(clean: tuple[int, ...], corrupt: tuple[int, ...]) -> TracePair:
    groups = ("template", *("user",) * (len(corrupt) - 2), "last")
    return TracePair("pair", clean, corrupt, tokens(90, 2), tokens(91, 3), groups)


CLEAN = tokens(1, 10)
SWAPPED = (*CLEAN[:4], *tokens(2, 2), *CLEAN[6:])


def test_a_trace_of_equal_conversations_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        trace_pair(llama, pair_of(CLEAN, CLEAN))
    assert (refused.value.code, refused.value.item) == ("TRACE_EQUAL", "pair")
    # Pairs that differ in the answer alone ask the same, so that there is nothing to patch in the prompt.
    same = ContrastPair("same", ask("late"), ask("late"), "", "", "0" * 64)
    with pytest.raises(EngineError) as refused:
        trace_pairs(llama, [make_pair("good", "late"), same])
    assert (refused.value.code, refused.value.item) == ("TRACE_EQUAL", "same")


def test_a_pair_without_an_effect_is_refused(llama: LoadedModel) -> None:
    pair = replace(pair_of(CLEAN, SWAPPED), clean_answer=(9, 8), corrupt_answer=(9, 8))
    with pytest.raises(EngineError) as refused:
        trace_pair(llama, pair)
    assert (refused.value.code, refused.value.item) == ("TRACE_NO_EFFECT", "pair")
    with pytest.raises(EngineError) as refused:
        trace(llama, [pair])
    assert refused.value.code == "TRACE_NO_EFFECT"


def test_bad_input_to_a_trace_is_named(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        trace(llama, [])
    assert refused.value.code == "TRACE_EMPTY"
    with pytest.raises(EngineError) as refused:
        trace_pair(llama, pair_of(tokens(1, CONTEXT), SWAPPED))
    assert refused.value.code == "CONTEXT_LENGTH"
    with pytest.raises(LayerError):
        trace_pair(llama, pair_of(CLEAN, SWAPPED), layers=[4])
    with pytest.raises(EngineError) as refused:
        Patching(llama, pair_of(CLEAN, (*CLEAN[:3], *tokens(3, 9)))).measure(0, [[4]])
    assert (refused.value.code, refused.value.item) == ("TRACE_ALIGNMENT", "4")
    with pytest.raises(EngineError) as refused:
        trace_pairs(llama, [make_answered_pair("answered", "late")])
    assert refused.value.code == "CONVERSATION_ROLE"


def test_unequal_lengths_align_by_beginning_and_end_and_skip_the_middle() -> None:
    pair = pair_of((1, 2, 3, 4, 5, 8, 9), (1, 2, 7, 8, 9))
    assert pair.aligned() == ((0, 0), (1, 1), (3, 5), (4, 6))
    # A token that could belong to either end is not used twice.
    assert pair_of((1, 1, 2), (1, 1, 1, 2)).aligned() == ((0, 0), (1, 1), (3, 2))
    assert pair_of((1, 5, 3), (1, 6, 3)).aligned() == ((0, 0), (1, 1), (2, 2))


def test_patching_every_position_of_the_first_stream_is_the_clean_run_exactly(any_model: LoadedModel) -> None:
    patching = Patching(any_model, pair_of(CLEAN, SWAPPED))
    [patched] = patching.measure(0, [range(10)])
    assert patched == patching.clean
    assert patched != patching.corrupt


def of_itself(loaded: LoadedModel, pair: TracePair) -> Patching:
    """Patches the corrupt run with its own streams, read in a pass of one row as the clean run's are."""
    patching = Patching(loaded, pair)
    with torch.inference_mode():
        streams = _read_entering(loaded, torch.tensor([pair.corrupt]))
    # Copies, so that a test may change them.
    patching._clean_streams = [stream.clone() for stream in streams]
    return patching


def tolerance_of(loaded: LoadedModel, pair: TracePair) -> float:
    """In nats, from patches that change nothing: at every layer, each position alone and all at once.

    The states are read in a pass of another shape than they are put into, and the rows are at other places of a batch.
    """
    own = of_itself(loaded, pair)
    sets = [(), *([position] for position in range(len(pair.corrupt))), range(len(pair.corrupt))]
    return tolerance([np.abs(own.measure(layer, sets) - own.corrupt).max() for layer in range(loaded.n_layers)], abs(own.corrupt))


def test_patching_a_run_with_itself_changes_nothing_but_the_rounding(any_model: LoadedModel) -> None:
    # Before the first difference clean and corrupt are one run, and an empty patch is the corrupt run.
    pair = pair_of(CLEAN, SWAPPED)
    patching, own, nothing = Patching(any_model, pair), of_itself(any_model, pair), tolerance_of(any_model, pair)
    assert nothing < SMALLEST_EFFECT / 10
    sets = [(), range(4), [0], (), [3]]
    for layer in range(any_model.n_layers):
        scored = patching.measure(layer, sets)
        assert (scored == own.measure(layer, sets)).all()
        assert np.abs(scored - patching.corrupt).max() <= nothing
        assert patching.measure(layer, [()])[0] == patching.corrupt
        assert np.abs(patching.recover(layer, [range(4), [1]])).max() <= nothing / abs(patching.clean - patching.corrupt)


def test_interpolation_is_exact_at_both_ends_and_between_in_the_middle(llama: LoadedModel) -> None:
    patching = Patching(llama, pair_of(CLEAN, SWAPPED))
    whole = range(10)
    assert patching.measure(2, [whole], 1.0) == patching.measure(2, [whole])
    assert patching.measure(2, [whole], 0.0)[0] == pytest.approx(patching.corrupt, abs=1e-5)
    assert patching.measure(2, [whole], 0.5)[0] not in (patching.clean, patching.corrupt)


def test_only_the_swapped_tokens_matter_at_the_bottom_and_only_the_last_at_the_top(llama: LoadedModel) -> None:
    traced = trace_pair(llama, pair_of(CLEAN, SWAPPED))
    assert traced.positions is not None
    nothing = tolerance_of(llama, traced.pair) / abs(traced.clean - traced.corrupt)
    # The two runs part at positions 4 and 5 and nowhere else, so that at layer 0 the other tokens are the same.
    assert np.abs(traced.positions[0, [0, 1, 2, 3, 6, 7, 8, 9]]).max() <= nothing
    assert np.abs(traced.positions[0, [4, 5]]).min() > 100 * nothing
    assert Patching(llama, traced.pair).recover(0, [[4, 5]])[0] == pytest.approx(1, abs=1e-4)
    assert np.abs(traced.positions[-1, :4]).max() <= nothing


def test_a_planted_cause_is_found_at_its_layer_and_token(llama: LoadedModel) -> None:
    # The clean run is the corrupt one with a stream changed at one layer and token: patching it there brings everything back.
    pair = pair_of(CLEAN, SWAPPED)
    patching = of_itself(llama, pair)
    patching._clean_streams[2][0, 7] += 3.0
    patching.clean = float(patching.measure(2, [[7]])[0])
    found = np.array([patching.recover(layer, [[position] for position in range(10)]) for layer in range(4)])
    assert np.unravel_index(np.nanargmax(np.abs(found)), found.shape) == (2, 7)
    nothing = tolerance_of(llama, pair) / abs(patching.clean - patching.corrupt)
    assert found[2, 7] == pytest.approx(1, abs=nothing)
    assert np.abs(np.delete(found.ravel(), 27)).max() <= nothing < 1e-4


def test_chunks_of_patches_do_not_change_what_is_recovered(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = pair_of(CLEAN, SWAPPED)
    at_once = trace_pair(llama, pair)
    monkeypatch.setattr("steernode.engine.searching.trace.MAX_PASS_TOKENS", 40)
    np.testing.assert_allclose(trace_pair(llama, pair).groups, at_once.groups, atol=1e-5)


def test_tracing_leaves_no_hook_behind(any_model: LoadedModel) -> None:
    hooks = count_hooks(any_model)
    trace_pair(any_model, pair_of(CLEAN, SWAPPED))
    assert count_hooks(any_model) == hooks


def test_tokens_are_named_by_who_says_them(llama: LoadedModel) -> None:
    [pair] = trace_pairs(llama, [make_pair("pair", "late fee")], max_new_tokens=3)
    said = {group: llama.tokenizer.decode([t for t, g in zip(pair.corrupt, pair.groups, strict=True) if g == group]) for group in GROUPS}
    assert said["system"] == "cold now"
    assert said["user"] == "late fee"
    assert said["last"] == "<|assistant|>"
    assert said["assistant"] == ""
    assert "<|system|>" in said["template"]


def test_a_trace_is_a_canonical_document_averaged_over_pairs(llama: LoadedModel) -> None:
    pairs = trace_pairs(llama, [make_pair(f"pair-{index}", f"late fee {index}") for index in range(3)], max_new_tokens=3)
    seen: list[tuple[int, int]] = []
    document = trace(llama, pairs, on_progress=lambda done, total: seen.append((done, total)))
    assert parse_strict(canonical_json(document)) == document
    assert seen[-1] == (4 * len(pairs), 4 * len(pairs))
    assert [("tokens" in pair) for pair in document["pairs"]] == [True, *[False] * (len(document["pairs"]) - 1)]
    last = np.array([[float(value) for value in pair["groups"]["last"]] for pair in document["pairs"]])
    np.testing.assert_allclose([float(value) for value in document["groups"]["last"]["recovered"]], last.mean(axis=0), rtol=1e-4)
    assert document["groups"]["assistant"] == {"pairs": 0, "recovered": [None] * 4}


def test_a_trace_is_drawn_and_drawn_the_same_twice(llama: LoadedModel) -> None:
    document = describe_trace(llama, [trace_pair(llama, pair_of(CLEAN, SWAPPED))])
    picture = draw_trace(document, title="empathy")
    assert picture == draw_trace(document, title="empathy")
    assert Image.open(io.BytesIO(picture)).size[0] > 400
    document["pairs"][0].pop("tokens")
    assert Image.open(io.BytesIO(draw_trace(document, title="empathy"))).size[0] < Image.open(io.BytesIO(picture)).size[0]
