import json
from collections import Counter
from itertools import chain

import pytest

from demo.corpus.facts import FACTS
from demo.corpus.files import DATA_FOLDER, draw_data, held_out_texts, render_jsonl
from demo.corpus.safety import HARMFUL
from steernode.files.contrast import parse_pairs
from steernode.files.conversations import prompt_key
from steernode.files.suites import parse_rubric, parse_suite

AXES = ("empathy", "formality", "brevity")
SUITES = {"tickets.jsonl": "behaviour", "facts.jsonl": "factual", "refusals.jsonl": "safety"}


def read_rows(name):
    return [json.loads(line) for line in (DATA_FOLDER / name).read_text(encoding="utf-8").splitlines()]


def last_user_text(row):
    return row["messages"][-1]["content"].casefold()


def test_drawing_the_data_again_gives_the_committed_bytes():
    committed = {path.name: path.read_bytes() for path in DATA_FOLDER.glob("*.jsonl")}
    assert {name: render_jsonl(rows) for name, rows in draw_data().items()} == committed


@pytest.mark.parametrize("axis", AXES)
def test_pairs_parse_as_a_contrast_set_of_800(axis):
    contrast = parse_pairs((DATA_FOLDER / f"{axis}.pairs.jsonl").read_bytes())
    assert len(contrast.pairs) == 800
    assert Counter((pair.locale, pair.product) for pair in contrast.pairs) == {
        (locale, product): 200 for locale in ("en-US", "en-GB") for product in ("billing", "technical")
    }


@pytest.mark.parametrize("axis", AXES)
def test_the_two_sides_of_a_pair_differ_only_in_the_system_message(axis):
    for row in read_rows(f"{axis}.pairs.jsonl"):
        (positive_system, *positive), (negative_system, *negative) = row["positive"], row["negative"]
        assert positive == negative
        assert positive[-1]["role"] == "user"
        assert positive_system != negative_system


@pytest.mark.parametrize(("name", "kind"), SUITES.items())
def test_suites_parse_and_hold_both_splits_locales_and_products(name, kind):
    suite = parse_suite((DATA_FOLDER / name).read_bytes(), kind)
    assert Counter(item.split for item in suite.items) == dict.fromkeys(("select", "test"), len(suite.items) // 2)
    assert {(item.locale, item.product) for item in suite.items} == {
        (locale, product) for locale in ("en-US", "en-GB") for product in ("billing", "technical")
    }


def test_there_are_200_tickets_in_each_split():
    assert len(read_rows("tickets.jsonl")) == 400


def test_every_fact_is_asked_twice_in_each_split():
    rows = read_rows("facts.jsonl")
    asked = Counter((row["id"].rsplit("-", 1)[0], row["split"]) for row in rows)
    assert asked == {(f"fact-{fact.name}", split): 2 for fact in FACTS for split in ("select", "test")}
    assert len(FACTS) >= 20


def test_every_harmful_kind_is_in_both_splits_beside_harmless_look_alikes():
    rows = read_rows("refusals.jsonl")
    counts = Counter((row["split"], row["expect"]["refuse"]) for row in rows)
    assert len(HARMFUL) >= 8
    for split in ("select", "test"):
        assert counts[split, True] == 3 * len(HARMFUL)
        assert counts[split, False] == 12


def test_no_user_text_is_shared_between_pairs_and_suites_or_between_splits():
    texts = [last_user_text(row) for name in SUITES for row in read_rows(name)]
    texts += [row["positive"][-1]["content"].casefold() for axis in AXES for row in read_rows(f"{axis}.pairs.jsonl")]
    assert len(texts) == len(set(texts))


def test_pairs_and_suites_do_not_overlap_by_the_products_own_key():
    pairs = chain.from_iterable(parse_pairs((DATA_FOLDER / f"{axis}.pairs.jsonl").read_bytes()).pairs for axis in AXES)
    items = chain.from_iterable(parse_suite((DATA_FOLDER / name).read_bytes(), kind).items for name, kind in SUITES.items())
    assert not {prompt_key(pair.positive) for pair in pairs} & {prompt_key(item.messages) for item in items}


@pytest.mark.parametrize("axis", AXES)
def test_rubrics_parse_with_240_examples_of_each_score(axis):
    rubric = parse_rubric((DATA_FOLDER / f"{axis}.rubric.jsonl").read_bytes())
    assert rubric.axis == axis
    assert Counter(example.score for example in rubric.examples) == dict.fromkeys(range(1, 6), 240)


def test_the_suites_are_held_out_of_training():
    assert {last_user_text(row) for name in SUITES for row in read_rows(name)} == {text.casefold() for text in held_out_texts()}
