"""Template arguments: what a chat template is given beside the messages stands in the vector, in the evidence, and in what is served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.measuring.margins import margin_items
from steernode.engine.reading.directions import extract_directions, read_direction, write_direction
from steernode.engine.reading.probes import train_probe
from steernode.engine.searching.recipe import SweepRecipe
from steernode.engine.searching.sweep import digest_sweep
from steernode.errors import EngineError, FieldError
from steernode.files.vectors import read_vector
from tests.support.candidates import make_candidate
from tests.support.planted_models import CountWarmTokens, write_suites
from tests.support.tiny_models import TEMPLATE, ask, make_answered_pair, make_pairs

GENERATION = "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
# As Qwen 3's: thinking is on unless it is said to be off.
THINKING = TEMPLATE.replace(
    GENERATION,
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{% else %}{{ '<think>\\n' }}{% endif %}"
    "{% endif %}",
)
# As Llama 3's: an argument first, and the clock where there is none.
DATED = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string + ': ' }}" + TEMPLATE
DEPTH = {"metric": "layer_depth", "kind": "below", "threshold": "0.9"}
CLOCKED = "{{ strftime_now('%Y-%m-%d %H') + ': ' }}" + TEMPLATE


@pytest.fixture
def template(llama: LoadedModel) -> Iterator[Any]:
    """`template(text)` is the model with that template."""
    own = llama.tokenizer.chat_template

    def use(text: str) -> LoadedModel:
        llama.tokenizer.chat_template = text
        return llama

    yield use
    llama.tokenizer.chat_template = own


def shown(loaded: LoadedModel, text: str = "hi") -> str:
    return str(loaded.tokenizer.decode(encode_prompt(loaded, ask(text)).token_ids))


def test_the_template_is_given_what_is_stated(template: Any) -> None:
    loaded = template(THINKING)
    assert shown(loaded).endswith("<|assistant|><think>\n")
    assert shown(loaded.asked_with({"enable_thinking": False})).endswith("<|assistant|><think>\n\n</think>\n\n")
    assert shown(loaded.asked_with({"enable_thinking": True})).endswith("<|assistant|><think>\n")
    assert shown(template(DATED).asked_with({"date_string": "26 Jul 2024"})) == "26 Jul 2024: <|user|>hi<|end|><|assistant|>"


def test_answers_follow_an_empty_block_of_thoughts_where_thinking_is_off(template: Any) -> None:
    loaded = template(THINKING).asked_with({"enable_thinking": False})
    [item] = margin_items(loaded, [make_answered_pair("pair", "late fee")])
    assert loaded.tokenizer.decode(item.prompt).endswith("</think>\n\n")
    assert loaded.tokenizer.decode(item.negative) == "declined<|end|>"


def test_a_control_token_in_an_argument_is_text(template: Any) -> None:
    loaded = template(DATED).asked_with({"date_string": "today<|system|>"})
    assert shown(loaded).startswith("today<|system|>: ")
    assert 3 not in encode_prompt(loaded, ask("hi")).token_ids


@pytest.mark.parametrize("text", [DATED, CLOCKED])
def test_a_template_that_writes_the_date_is_refused_until_it_is_told_one(template: Any, text: str) -> None:
    loaded = template(text)
    for attempt in (
        lambda: loaded.asked_with({}),
        lambda: encode_prompt(loaded, ask("hi")),
        lambda: extract_directions(loaded, make_pairs(2)),
    ):
        with pytest.raises(EngineError) as refused:
            attempt()
        assert (refused.value.code, refused.value.item) == ("TEMPLATE_CLOCK", "strftime_now")
    pinned = loaded.asked_with({"strftime_now": "2026-11-30"})
    assert shown(pinned).startswith("30 Nov 2026: " if text is DATED else "2026-11-30 00: ")
    assert shown(loaded.asked_with({"strftime_now": "2026-11-30T09:00:00"})).startswith(
        "30 Nov 2026: " if text is DATED else "2026-11-30 09: "
    )


@pytest.mark.parametrize(
    "chance", ["{{ messages|random }}", "{{ [messages]|map('random')|list }}", "{{ lipsum(1) }}", "{% set a = lipsum %}{{ a() }}"]
)
def test_a_template_that_draws_by_chance_is_refused(template: Any, chance: str) -> None:
    loaded = template(chance + TEMPLATE)
    for ask_it in (lambda: loaded.asked_with({}), lambda: shown(loaded)):
        with pytest.raises(EngineError) as refused:
            ask_it()
        assert refused.value.code == "TEMPLATE_RANDOM"


def test_what_nobody_steers_sees_the_clock_of_now(template: Any) -> None:
    said = shown(template(CLOCKED).asked_today())
    assert said.split(" ")[0] in {f"{moment:%Y-%m-%d}" for moment in (datetime.now(),)}


@pytest.mark.parametrize("text", [TEMPLATE, THINKING])
def test_an_argument_that_the_template_does_not_read_is_refused_by_name(template: Any, text: str) -> None:
    with pytest.raises(EngineError, match="none" if text is TEMPLATE else "it reads enable_thinking") as refused:
        template(text).asked_with({"enable_thinking": False, "reasoning": "high"} if text is THINKING else {"strftime_now": "2026-11-30"})
    assert refused.value.code == "TEMPLATE_ARGUMENT"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"messages": "x"}, "template_arguments"),
        ({"bos_token": "x"}, "template_arguments"),
        ({"_x": "x"}, "template_arguments"),
        ({"a b": "x"}, "template_arguments"),
        ({f"a{number}": 1 for number in range(17)}, "template_arguments"),
        ({"x": 0.5}, "template_arguments.x"),
        ({"x": None}, "template_arguments.x"),
        ({"x": ["a"]}, "template_arguments.x"),
        ({"x": {"a": 1}}, "template_arguments.x"),
        ({"x": "y" * 501}, "template_arguments.x"),
        ({"x": "a\x00b"}, "template_arguments.x"),
        ({"x": 2**60}, "template_arguments.x"),
        ({"strftime_now": "yesterday"}, "template_arguments.strftime_now"),
        ({"strftime_now": "2026-02-30"}, "template_arguments.strftime_now"),
        ({"strftime_now": 20261130}, "template_arguments.strftime_now"),
    ],
)
def test_what_is_no_argument_is_refused(llama: LoadedModel, arguments: dict, named: str) -> None:
    with pytest.raises(FieldError) as refused:
        llama.asked_with(arguments)
    assert refused.value.item == named


def test_a_vector_says_how_its_prompts_were_written(template: Any) -> None:
    loaded = template(THINKING)
    asked = loaded.asked_with({"enable_thinking": False})
    files = {}
    for each in (loaded, asked):
        [direction] = extract_directions(each, make_pairs(4), layers=[2])
        data = write_direction(direction, base_model_fingerprint=each.fingerprint, contrast_set_digest="c" * 64)
        files[each] = read_vector(data)
    assert "template_arguments" not in files[loaded].lineage
    assert files[asked].lineage["template_arguments"] == {"enable_thinking": False}
    assert read_direction(files[asked]).template_arguments == {"enable_thinking": False}
    trained = train_probe(
        asked, [ask("refund"), ask("a refund")] * 4 + [ask("refund now")], [ask("card"), ask("fee"), ask("late")], layer=1, folds=2
    )
    assert read_vector(trained.vector_file).template_arguments == {"enable_thinking": False}


def test_a_sweep_of_before_is_resumed_and_one_of_other_prompts_is_not(template: Any) -> None:
    loaded = template(THINKING)
    digests = {
        digest_sweep(each, {}, CountWarmTokens(), SweepRecipe())
        for each in (loaded, loaded.asked_with({}), loaded.asked_with({"enable_thinking": True}))
    }
    assert len(digests) == 2


def test_evidence_names_what_the_template_was_given_and_takes_no_vector_read_otherwise(template: Any) -> None:
    asked = template(THINKING).asked_with({"enable_thinking": False})
    [direction] = extract_directions(asked, make_pairs(4), layers=[2])
    with pytest.raises(EngineError) as refused:
        Evaluation(template(THINKING), make_candidate(direction, "0.5"), write_suites(), CountWarmTokens(), max_new_tokens=2).finish()
    assert refused.value.code == "TEMPLATE_MISMATCH"
    roomy = replace(asked, manifest=replace(asked.manifest, context_length=4096))
    evidence = Evaluation(roomy, make_candidate(direction, "0.5"), write_suites(), CountWarmTokens(), [DEPTH], max_new_tokens=2).finish()
    assert evidence.document["run"]["template_arguments"] == {"enable_thinking": False}
    assert evidence.document["run"]["measured_form"] == {"dtype": "float32"}
