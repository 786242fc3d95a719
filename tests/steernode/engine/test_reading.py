"""Reading: which tokens, encoded how, in whatever numbers; and what is refused, by name."""

from __future__ import annotations

import io
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steernode.engine.access.encoding import EncodedConversation, encode_dialogues, encode_prompt, encode_prompts, encode_texts
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.reading import capture as capture_module
from steernode.engine.reading import packing as packing_module
from steernode.engine.reading import window as window_module
from steernode.engine.reading.capture import capture_pairs, capture_spec, encode_pairs, read_activations
from steernode.engine.reading.directions import extract_directions, extract_encoded, extract_methods
from steernode.engine.reading.spool import ActivationSpool
from steernode.engine.reading.triggers import parse_read_position, read_columns, trigger_function, trigger_regex, trigger_tokens
from steernode.engine.reading.window import CaptureStats
from steernode.errors import ContrastSetError, EngineError, SteerError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from tests.support.tiny_models import ask, make_answered_pair, make_pair, make_pairs
from tests.support.tiny_words import WORDS


def tokens_of(loaded: LoadedModel, encoded: EncodedConversation, columns: tuple[int, ...]) -> str:
    return str(loaded.tokenizer.decode([encoded.token_ids[column] for column in columns]))


@pytest.mark.parametrize(
    ("read_position", "code", "item"),
    [
        ("trigger:regex=zebra", "TRIGGER_EMPTY", "pair-0"),
        ("trigger:tokens=262", "TRIGGER_EMPTY", "pair-0"),
        (trigger_function("nothing", lambda _encoded: ()), "TRIGGER_EMPTY", "pair-0"),
        (trigger_function("outside", lambda _encoded: (10_000,)), "TRIGGER_INVALID", "pair-0"),
        ("trigger:regex=(", "TRIGGER_INVALID", "("),
        ("trigger:regex=x*", "TRIGGER_INVALID", "x*"),
        ("trigger:tokens=", "TRIGGER_INVALID", "token_ids"),
        ("trigger:tokens=-4", "TRIGGER_INVALID", "token_ids"),
        ("trigger:lines=3", "READ_POSITION_UNKNOWN", "trigger:lines=3"),
        ("first", "READ_POSITION_UNKNOWN", "first"),
        ("assistant_tokens", "CONVERSATION_ROLE", "pair-0"),
    ],
)
def test_a_read_position_that_reads_nothing_is_refused(llama: LoadedModel, read_position: Any, code: str, item: str) -> None:
    with pytest.raises(EngineError) as refused:
        extract_directions(llama, make_pairs(3), read_position=read_position)
    assert (refused.value.code, refused.value.item) == (code, item)


@pytest.mark.parametrize(
    ("pair", "read_position", "code"),
    [
        (make_pair("bad", "x" * 200), "last_prompt_token", "CONTEXT_LENGTH"),
        (make_answered_pair("bad", "hi"), "last_prompt_token", "CONVERSATION_ROLE"),
        (ContrastPair("bad", (Message("system", "warm"),), ask("hi"), "", "", "0" * 64), "all", "CONVERSATION_ROLE"),
        (ContrastPair("bad", (), ask("hi"), "", "", "0" * 64), "last_prompt_token", "CONVERSATION_ROLE"),
    ],
)
def test_a_pair_that_cannot_be_read_is_named(llama: LoadedModel, pair: ContrastPair, read_position: str, code: str) -> None:
    with pytest.raises(EngineError, match="bad") as refused:
        extract_directions(llama, [*make_pairs(3), pair], read_position=read_position)
    assert (refused.value.code, refused.value.item) == (code, "bad")


def test_the_conversation_that_the_template_refuses_is_named(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    picky = (
        "{% for m in messages %}{% if m['content'] == 'card' %}{{ raise_exception('no cards') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    monkeypatch.setattr(llama.tokenizer, "chat_template", picky)
    with pytest.raises(EngineError, match=r"third: .*no cards") as refused:
        encode_prompts(llama, [ask("late"), ask("fee"), ask("card")], names=["first", "second", "third"])
    assert refused.value.code == "CHAT_TEMPLATE"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_overflow_in_half_precision_names_pair_and_layer(llama: LoadedModel, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    rare = llama.tokenizer("Z", add_special_tokens=False)["input_ids"][0]
    pairs = [*make_pairs(2), make_pair("loud", "Z")]

    def overflow(_module: object, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        loud = (args[0] == rare)[:, :, None]
        return torch.where(loud, (torch.full_like(output, largest).to(dtype) * 2).to(output.dtype), output)

    handle = llama.decoder.embed_tokens.register_forward_hook(overflow)
    try:
        with pytest.raises(EngineError, match="layer 0") as refused:
            extract_directions(llama, pairs)
    finally:
        handle.remove()
    assert (refused.value.code, refused.value.item) == ("NON_FINITE", "loud")


def test_no_pairs_is_an_error_however_they_come(llama: LoadedModel) -> None:
    for empty in ([], iter(())):
        with pytest.raises(ContrastSetError) as refused:
            extract_directions(llama, empty)
        assert refused.value.code == "CONTRAST_EMPTY"
    with pytest.raises(SteerError) as failed:
        extract_encoded(llama, [])
    assert failed.value.code == "CONTRAST_EMPTY"


def test_a_text_without_a_token_is_refused(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        encode_texts(llama, ["late fee", ""])
    assert (refused.value.code, refused.value.item) == ("TEXT_EMPTY", "text 1")


def test_encoding_many_is_bit_for_bit_what_the_template_gives_for_each(llama: LoadedModel) -> None:
    generator = random.Random(2)
    conversations = [ask(" ".join(generator.choices(WORDS, k=generator.randint(1, 9))) + "é\n 漢 <|enf|>", "warm") for _ in range(30)]
    for encoded, messages in zip(encode_prompts(llama, conversations), conversations, strict=True):
        expected = llama.tokenizer.apply_chat_template(
            [message.to_document() for message in messages], add_generation_prompt=True, return_dict=True
        )
        assert list(encoded.token_ids) == expected["input_ids"]
    dialogues = [(*messages, Message("assistant", "sorry, we help")) for messages in conversations]
    for encoded, messages in zip(encode_dialogues(llama, dialogues, with_text=True), dialogues, strict=True):
        documents = [message.to_document() for message in messages]
        expected = llama.tokenizer.apply_chat_template(documents, return_dict=True, return_assistant_tokens_mask=True)
        assert list(encoded.token_ids) == expected["input_ids"]
        assert list(encoded.assistant_mask) == [bool(mark) for mark in expected["assistant_masks"]]
        assert encoded.text == llama.tokenizer.apply_chat_template(documents, tokenize=False)
        assert len(encoded.offsets) == len(encoded.token_ids)


def test_encoding_does_not_depend_on_what_the_tokenizer_was_used_for_before(llama: LoadedModel) -> None:
    expected = encode_prompts(llama, [ask("late fee"), ask("hi")])
    llama.tokenizer(["late", "card declined"], padding=True, truncation=True, max_length=4)
    try:
        assert encode_prompts(llama, [ask("late fee"), ask("hi")]) == expected
    finally:
        llama.tokenizer(["late"], padding=False, truncation=False)


def test_a_regex_selects_the_tokens_of_its_matches(llama: LoadedModel) -> None:
    pair = make_pair("pair", "a refund, no refund")
    trigger = trigger_regex("refund")
    spec = capture_spec(llama, read_position=trigger)
    [encoded] = encode_pairs(llama, [pair], spec)
    columns = read_columns(encoded.positive, trigger, "pair")
    assert tokens_of(llama, encoded.positive, columns) == "refundrefund"
    assert parse_read_position(str(trigger)) is not trigger
    assert read_columns(encoded.positive, parse_read_position(str(trigger)), "pair") == columns


def test_token_ids_and_functions_select_too(llama: LoadedModel) -> None:
    encoded = encode_prompts(llama, [ask("late fee")], with_text=True)[0]
    space = llama.tokenizer(" ", add_special_tokens=False)["input_ids"]
    assert tokens_of(llama, encoded, read_columns(encoded, trigger_tokens(space), "x")) == " "
    assert parse_read_position(f"trigger:tokens={space[0]}").name == f"trigger:tokens={space[0]}"  # type: ignore[union-attr]
    first = trigger_function("first", lambda conversation: [0, 0])
    assert read_columns(encoded, first, "x") == (0,)


@pytest.mark.parametrize("read_position", ["all", "trigger:regex=late|fee", "assistant_tokens"])
def test_what_is_read_is_the_mean_over_the_selected_tokens(llama: LoadedModel, read_position: str) -> None:
    pairs = [make_answered_pair(f"pair-{index}", f"late {word} fee") for index, word in enumerate(WORDS[:5])]
    spec = capture_spec(llama, layers=[1, 2], read_position=read_position)
    [captured] = capture_pairs(llama, pairs, spec, max_batch_tokens=100)
    for row, encoded in enumerate(encode_pairs(llama, pairs, spec)):
        for side, reads in ((encoded.positive, captured.positive), (encoded.negative, captured.negative)):
            seen: dict[int, torch.Tensor] = {}
            handles = [
                visit_site(llama, layer, "resid_post", lambda stream, layer=layer, seen=seen: seen.update({layer: stream[0].clone()}))
                for layer in (1, 2)
            ]
            with torch.inference_mode():
                llama.model(input_ids=torch.tensor([side.token_ids]), use_cache=False)
            for handle in handles:
                handle.remove()
            columns = list(read_columns(side, spec.read_position, "pair"))
            expected = torch.stack([seen[layer][columns].mean(dim=0) for layer in (1, 2)])
            torch.testing.assert_close(reads[row], expected, rtol=1e-4, atol=1e-5)


def test_prompts_and_answered_conversations_may_meet_where_all_tokens_are_read(llama: LoadedModel) -> None:
    pairs = [make_pair("asked", "late fee"), make_answered_pair("answered", "late fee")]
    encoded = encode_pairs(llama, pairs, capture_spec(llama, read_position="all"))
    assert llama.tokenizer.decode(encoded[0].positive.token_ids).endswith("<|assistant|>")
    assert llama.tokenizer.decode(encoded[1].positive.token_ids).endswith("<|end|>")


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_every_site_is_read_packed_and_plain_alike(llama: LoadedModel, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "ROOT_OVERHEAD_TOKENS", 8)
    pairs = [make_pair(f"pair-{index}", " ".join(["the same long question", word, word])) for index, word in enumerate(WORDS[:10])]
    found = []
    for pack_below in (10.0, 0.0):
        monkeypatch.setattr(window_module, "_PACK_BELOW", pack_below)
        stats = CaptureStats()
        found.append(extract_directions(llama, pairs, site=site, layers=[1, 3] if site != "resid_pre" else [1], stats=stats))
        assert stats.packed_windows == (pack_below > 0)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.direction * one.norm, other.direction * other.norm, rtol=0, atol=1e-5)


def test_raw_texts_and_token_ids_give_the_same_direction_as_their_prompts(llama: LoadedModel) -> None:
    pairs = make_pairs(5)
    sides = [[encode_prompt(llama, side) for side in (pair.positive, pair.negative)] for pair in pairs]
    texts = [[llama.tokenizer.decode(side.token_ids) for side in pair] for pair in sides]
    as_texts = [tuple(encode_texts(llama, pair, add_special_tokens=False)) for pair in texts]
    assert [[side.token_ids for side in pair] for pair in as_texts] == [[side.token_ids for side in pair] for pair in sides]
    for pairs_again in (as_texts, iter(as_texts)):
        for one, other in zip(extract_directions(llama, pairs), extract_encoded(llama, pairs_again), strict=True):
            assert torch.equal(one.direction, other.direction)


def test_pairs_may_be_a_stream_that_is_read_a_window_at_a_time(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "MAX_WINDOW_PAIRS", 4)
    pairs, taken, seen = make_pairs(18), [], []

    def stream() -> Iterator[ContrastPair]:
        for pair in pairs:
            taken.append(pair.id)
            yield pair

    def note(done: int, total: int) -> None:
        seen.append((done, total))
        # Never more than one window ahead of what is done.
        assert len(taken) <= done + 4

    streamed = extract_directions(llama, stream(), on_progress=note)
    assert seen[-1] == (18, 18)
    monkeypatch.undo()
    for one, other in zip(streamed, extract_directions(llama, pairs[::-1], max_batch_tokens=64), strict=True):
        torch.testing.assert_close(one.direction * one.norm, other.direction * other.norm, rtol=0, atol=1e-5)
        assert one.pairs == 18


def test_a_window_holds_a_bounded_number_of_bytes_whatever_the_model(llama: LoadedModel) -> None:
    spec = capture_spec(llama)
    assert capture_module.window_pairs(llama, spec) == capture_module.MAX_WINDOW_PAIRS
    deep = capture_module.CaptureSpec(tuple(range(200_000)))
    assert capture_module.window_pairs(llama, deep) * 2 * 200_000 * llama.d_model * 4 <= capture_module.WINDOW_BYTES


def test_a_full_disk_is_an_error_that_names_the_space_needed(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 3 * 2 * llama.n_layers * llama.d_model * 4
    with (
        pytest.raises(EngineError, match=f"need {needed} bytes") as refused,
        ActivationSpool(range(llama.n_layers), llama.d_model, None, open_file=lambda: open("/dev/full", "r+b")) as spool,
    ):
        spool.append(torch.zeros(3, llama.n_layers, llama.d_model), torch.zeros(3, llama.n_layers, llama.d_model))
    assert (refused.value.code, refused.value.item) == ("SPOOL_FULL", str(needed))

    class Usage:
        free = 10

    monkeypatch.setattr("steernode.engine.reading.spool.shutil.disk_usage", lambda _folder: Usage)
    read: list[object] = []
    with pytest.raises(EngineError) as refused:
        extract_directions(llama, make_pairs(5), method="pca_uncentred", on_progress=lambda *_: read.append(_))
    assert refused.value.code == "SPOOL_FULL"
    assert read == []
    assert extract_directions(llama, make_pairs(5))[0].pairs == 5


def test_a_spool_that_cannot_be_made_is_an_error_with_a_code() -> None:
    def refuse() -> io.BytesIO:
        raise PermissionError("read-only file system")

    with pytest.raises(EngineError, match="read-only") as refused, ActivationSpool([0], 4, None, open_file=refuse):  # type: ignore[arg-type]
        pass
    assert refused.value.code == "SPOOL_FULL"


def test_the_spool_gives_back_what_was_put_in_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    positive, negative = torch.randn(2, 7, 3, 5, generator=torch.Generator().manual_seed(0))
    with ActivationSpool([2, 4, 9], 5, 7) as spool:
        spool.append(positive[:4], negative[:4])
        spool.append(positive[4:], negative[4:])
        assert os.listdir(tmp_path) == []
        for place, layer in enumerate([2, 4, 9]):
            found = spool.layer(layer)
            assert torch.equal(found[0], positive[:, place])
            assert torch.equal(found[1], negative[:, place])
    with pytest.raises(RuntimeError, match="stop"), ActivationSpool([0], 5, None) as spool:
        raise RuntimeError("stop")
    assert spool._files == []


def test_methods_from_a_spool_equal_methods_from_memory(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from steernode.engine.reading.methods import find_direction

    monkeypatch.setattr(capture_module, "MAX_WINDOW_PAIRS", 3)
    pairs, spec = make_pairs(10), capture_spec(llama, layers=[2])
    sides = [(one.positive.clone(), one.negative.clone()) for one in capture_pairs(llama, pairs, spec)]
    positive, negative = (torch.cat([side[which] for side in sides])[:, 0] for which in (0, 1))
    for method, [found] in extract_methods(llama, pairs, layers=[2]).items():
        torch.testing.assert_close(found.direction, find_direction(method, positive, negative), rtol=0, atol=1e-5)


def test_reading_a_conversation_alone_is_reading_its_last_token(llama: LoadedModel) -> None:
    encoded = encode_prompt(llama, ask("late fee"))
    spec = capture_spec(llama)
    assert read_activations(llama, [encoded], spec).shape == (1, llama.n_layers, llama.d_model)
