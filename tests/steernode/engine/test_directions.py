"""Directions: the mean difference, of every layer in one pass, whatever the batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steernode.engine.access.encoding import encode_dialogue, encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.reading.capture import capture_spec, read_activations
from steernode.engine.reading.directions import extract_directions, read_direction, write_direction
from steernode.engine.reading.methods import mean_difference
from steernode.errors import ContrastSetError, EngineError, LayerError, SteerError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.files.vectors import read_vector
from steernode.words import METHODS
from tests.support.tiny_models import ask, count_hooks, make_answered_pair, make_pair, make_pairs


def stream_alone(loaded: LoadedModel, token_ids: tuple[int, ...], layer: int) -> torch.Tensor:
    """One conversation, full model, no batch: what capture must agree with."""
    seen: list[torch.Tensor] = []
    handle = visit_site(loaded, layer, "resid_post", lambda stream: seen.append(stream.clone()))
    with torch.inference_mode():
        loaded.model(input_ids=torch.tensor([token_ids]), use_cache=False)
    handle.remove()
    return seen[0][0]


def test_all_layers_in_one_pass_equal_a_loop_over_pairs(any_model: LoadedModel) -> None:
    pairs = make_pairs(7)
    for found in extract_directions(any_model, pairs):
        differences, norms = [], []
        for pair in pairs:
            sides = [
                stream_alone(any_model, encode_prompt(any_model, side).token_ids, found.layer)[-1]
                for side in (pair.positive, pair.negative)
            ]
            differences.append(sides[0] - sides[1])
            norms += [side.norm() for side in sides]
        expected = torch.stack(differences).mean(dim=0)
        torch.testing.assert_close(found.direction * found.norm, expected, rtol=0, atol=1e-5)
        assert found.direction.norm().item() == pytest.approx(1, abs=1e-6)
        assert found.mean_residual_norm == pytest.approx(torch.stack(norms).mean().item(), rel=1e-5)
        assert found.pairs == 7


def test_assistant_tokens_are_the_ones_the_template_marks(llama: LoadedModel) -> None:
    pairs = [make_answered_pair(f"pair-{index}", question) for index, question in enumerate(("late fee", "card"))]
    [found] = extract_directions(llama, pairs, read_position="assistant_tokens", layers=[2])
    differences = []
    for pair in pairs:
        means = []
        for side in (pair.positive, pair.negative):
            encoded = encode_dialogue(llama, side)
            text = llama.tokenizer.decode([t for t, marked in zip(encoded.token_ids, encoded.assistant_mask, strict=True) if marked])
            assert text == side[-1].content + "<|end|>"
            means.append(stream_alone(llama, encoded.token_ids, 2)[torch.tensor(encoded.assistant_mask)].mean(dim=0))
        differences.append(means[0] - means[1])
    torch.testing.assert_close(found.direction * found.norm, torch.stack(differences).mean(dim=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 100_000])
def test_batches_and_order_do_not_show_in_a_direction(any_model: LoadedModel, max_batch_tokens: int) -> None:
    pairs = make_pairs(9)
    reference = extract_directions(any_model, pairs)
    again = extract_directions(any_model, pairs[::-1], max_batch_tokens=max_batch_tokens)
    for one, other in zip(reference, again, strict=True):
        torch.testing.assert_close(one.direction * one.norm, other.direction * other.norm, rtol=0, atol=1e-5)


def test_swapped_sides_turn_a_direction_round(llama: LoadedModel) -> None:
    pairs = make_pairs(4)
    swapped = [replace(pair, positive=pair.negative, negative=pair.positive) for pair in pairs]
    for one, other in zip(extract_directions(llama, pairs), extract_directions(llama, swapped), strict=True):
        torch.testing.assert_close(one.direction, -other.direction)
        assert one.norm == pytest.approx(other.norm)


def test_a_layer_is_the_output_of_its_block_and_not_a_hidden_state_after_the_norm(llama: LoadedModel) -> None:
    encoded = encode_prompt(llama, ask("late fee"))
    spec = capture_spec(llama, layers=[llama.n_layers - 1])
    last = read_activations(llama, [encoded], spec)[0, 0]
    with torch.inference_mode():
        output = llama.model(input_ids=torch.tensor([encoded.token_ids]), output_hidden_states=True, use_cache=False)
    after_norm = output.hidden_states[-1][0, -1]
    assert not torch.allclose(last, after_norm, atol=1e-2)
    torch.testing.assert_close(llama.model.model.norm(last), after_norm)


def test_capture_stops_at_the_deepest_layer_and_leaves_no_hook(llama: LoadedModel) -> None:
    ran: list[int] = []
    before = count_hooks(llama)
    handles = [visit_site(llama, layer, "resid_pre", lambda _stream, layer=layer: ran.append(layer)) for layer in range(llama.n_layers)]
    try:
        read_activations(llama, [encode_prompt(llama, ask("hi"))], capture_spec(llama, layers=[0, 1]))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == [0, 1]
    assert count_hooks(llama) == before


def test_an_activation_that_is_not_finite_stops_the_extraction_and_names_the_pair(llama: LoadedModel) -> None:
    pairs = make_pairs(3)
    poisoned = encode_prompt(llama, pairs[1].negative).token_ids

    def poison(_module: object, args: tuple, output: torch.Tensor) -> torch.Tensor:
        ids = args[0]
        rows = [row for row in range(len(ids)) if ids[row, : len(poisoned)].tolist() == list(poisoned)]
        output[rows] = float("nan")
        return output

    handle = llama.decoder.embed_tokens.register_forward_hook(poison)
    try:
        with pytest.raises(EngineError) as refused:
            extract_directions(llama, pairs)
    finally:
        handle.remove()
    assert (refused.value.code, refused.value.item) == ("NON_FINITE", "pair-1")


def test_progress_counts_pairs_up_to_all_of_them(llama: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    extract_directions(llama, make_pairs(5), max_batch_tokens=60, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"method": "pca_centred"}, "METHOD_UNKNOWN"),
        ({"site": "embedding", "layers": [1]}, "SITE_LAYER"),
        ({"site": "nowhere"}, "SITE_UNKNOWN"),
        ({"read_position": "first"}, "READ_POSITION_UNKNOWN"),
        ({"read_position": "assistant_tokens"}, "CONVERSATION_ROLE"),
        ({"layers": [4]}, "LAYER_RANGE"),
        ({"layers": [-1]}, "LAYER_RANGE"),
        ({"layers": [True]}, "LAYER_RANGE"),
        ({"layers": []}, "LAYERS_EMPTY"),
        ({"site": "resid_pre", "layers": [0]}, "ZERO_DIRECTION"),
        ({"pairs": []}, "CONTRAST_EMPTY"),
        ({"pairs": [make_pair("long", "x" * 200)]}, "CONTEXT_LENGTH"),
        ({"pairs": [make_answered_pair("answered", "hi")]}, "CONVERSATION_ROLE"),
    ],
)
def test_an_extraction_that_cannot_be_made_is_refused_by_name(llama: LoadedModel, arguments: dict, code: str) -> None:
    wanted = {"pairs": make_pairs(2), **arguments}
    with pytest.raises((EngineError, LayerError, ContrastSetError)) as refused:
        extract_directions(llama, wanted.pop("pairs"), **wanted)
    assert refused.value.code == code


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_that_sees_no_difference_is_left_out_and_stops_no_other(loaded_models: dict, method: str) -> None:
    """Behind sliding windows of eight tokens the system message, more than ten back, is seen from the second layer on."""
    mistral = loaded_models["mistral"]
    pairs = [make_pair(question, question) for question in ("fee refund", "card reply", "bill sorry", "late reply")]
    found = extract_directions(mistral, pairs, method=method, layers=range(mistral.n_layers))
    assert [direction.layer for direction in found] == [1, 2]
    with pytest.raises(EngineError, match="at layer 0 ") as refused:
        extract_directions(mistral, pairs, method=method, layers=[0])
    assert refused.value.code == "ZERO_DIRECTION"


def test_a_template_without_assistant_marks_is_refused(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    monkeypatch.setattr(llama.tokenizer, "chat_template", bare)
    with pytest.raises(EngineError) as refused:
        extract_directions(llama, [make_answered_pair("pair", "hi")], read_position="assistant_tokens")
    assert refused.value.code == "NO_ASSISTANT_TOKENS"


def test_a_template_that_raises_is_an_error_with_a_code(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.tokenizer, "chat_template", "{{ raise_exception('no system messages here') }}")
    with pytest.raises(EngineError, match="no system messages here") as refused:
        encode_prompt(llama, ask("hi", "warm"))
    assert refused.value.code == "CHAT_TEMPLATE"


def test_a_direction_survives_its_vector_file(llama: LoadedModel) -> None:
    found = extract_directions(llama, make_pairs(3))[2]
    data = write_direction(found, base_model_fingerprint=llama.fingerprint, contrast_set_digest="a" * 64)
    back = read_direction(read_vector(data, d_model=llama.d_model))
    assert torch.equal(back.direction, found.direction)
    assert (back.layer, back.site, back.pairs) == (2, "resid_post", 3)
    assert back.norm == pytest.approx(found.norm, rel=1e-8)


@settings(max_examples=30, deadline=None)
@given(pairs=st.integers(1, 6), d_model=st.integers(1, 8), seed=st.integers(0, 2**20))
def test_mean_difference_is_linear_and_odd(pairs: int, d_model: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    positive, negative = torch.randn(2, pairs, d_model, generator=generator)
    direction = mean_difference(positive, negative)
    torch.testing.assert_close(direction, positive.mean(0) - negative.mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(mean_difference(negative, positive), -direction)
    assert torch.equal(mean_difference(positive, positive), torch.zeros(d_model))


@pytest.mark.parametrize(
    ("positive", "negative", "code"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 3), "CONTRAST_SHAPE"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "CONTRAST_SHAPE"),
        (torch.zeros(3), torch.zeros(3), "CONTRAST_SHAPE"),
        (torch.full((1, 3), float("inf")), torch.zeros(1, 3), "NON_FINITE"),
    ],
)
def test_mean_difference_refuses_what_it_cannot_average(positive: torch.Tensor, negative: torch.Tensor, code: str) -> None:
    with pytest.raises(SteerError) as refused:
        mean_difference(positive, negative)
    assert refused.value.code == code


def test_a_pair_may_differ_in_earlier_turns(llama: LoadedModel) -> None:
    history = (Message("user", "late fee"), Message("assistant", "sorry"), Message("user", "now"))
    cold = (Message("user", "late fee"), Message("assistant", "declined"), Message("user", "now"))
    found = extract_directions(llama, [ContrastPair("turns", history, cold, "en-US", "billing", "0" * 64)], layers=[1])
    assert found[0].norm > 0
