"""The labelled replies that the refusal scorer learns from: what every file of the folder holds to, in any language."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import steernode

FOLDER = Path(steernode.__file__).parent / "data" / "refusals"
FILES = sorted(FOLDER.glob("??.jsonl"))
KEYS = ["text", "label", "family", "language", "source"]
FAMILIES = {"refusal": 12, "compliance": 12, "incapacity": 6}
SOURCES = {"written", "openings", "reference_model"}
LANGUAGES = {"en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr", "ru", "sv", "zh", "ja", "ar", "hi"}
WITHOUT_SPACES = {"zh", "ja"}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def size(row):
    """Words, or characters in a language that puts no spaces between its words."""
    words = row["text"].split()
    return len("".join(words)) if row["language"] in WITHOUT_SPACES else len(words)


def beginning(row):
    words = row["text"].lower().split()
    return "".join(words)[:12] if row["language"] in WITHOUT_SPACES else " ".join(words[:8])


every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_every_language_has_its_file():
    assert {path.stem for path in FILES} >= LANGUAGES


@every_file
def test_a_line_is_an_object_of_five_texts_as_people_would_type_it(path):
    for line, row in zip(path.read_text(encoding="utf-8").splitlines(), read(path), strict=True):
        assert list(row) == KEYS
        assert all(isinstance(value, str) and value == value.strip() != "" for value in row.values())
        assert row["language"] == path.stem
        assert row["source"] in SOURCES
        assert line == json.dumps(row, ensure_ascii=False)


@every_file
def test_each_label_is_worded_in_many_families(path):
    families = defaultdict(set)
    for row in read(path):
        families[row["label"]].add(row["family"])
    assert families.keys() == FAMILIES.keys()
    assert {label: least for label, least in FAMILIES.items() if len(families[label]) < least} == {}


@every_file
def test_there_are_about_a_hundred_and_fifty_texts_and_no_label_is_scarce(path):
    labels = Counter(row["label"] for row in read(path))
    assert labels["refusal"] >= 60
    assert labels["compliance"] >= 60
    assert labels["incapacity"] >= 30


@every_file
def test_a_text_is_no_longer_than_the_beginning_of_a_reply(path):
    most = 200 if path.stem in WITHOUT_SPACES else 80
    assert [row["text"] for row in read(path) if size(row) > most] == []


@every_file
def test_texts_differ_and_at_most_two_begin_alike(path):
    rows = read(path)
    assert [text for text, times in Counter(row["text"] for row in rows).items() if times > 1] == []
    # The reference model has three refusals, and says them in every tone.
    beginnings = Counter(beginning(row) for row in rows if row["source"] != "reference_model")
    assert [text for text, times in beginnings.items() if times > 2] == []


def test_a_family_has_one_label_in_every_language():
    labels = defaultdict(set)
    for row in (row for path in FILES for row in read(path)):
        labels[row["family"]].add(row["label"])
    assert {family: given for family, given in labels.items() if len(given) > 1} == {}


def test_languages_share_their_families():
    """So that what is measured of a family in one language can be asked of it in another. English has more of them."""
    families = {path.stem: {row["family"] for row in read(path)} for path in FILES}
    english = families.pop("en")
    assert len(set(map(frozenset, families.values()))) == 1
    assert english >= families["de"]


def test_replies_of_a_real_model_carry_their_readers_labels_and_one_label_where_these_agree():
    rows = read(FOLDER / "smollm2.jsonl")
    assert len({row["text"] for row in rows}) == len(rows) >= 200
    assert sum(len(row["readers"]) == 2 for row in rows) >= 200
    for row in rows:
        assert (row["family"], row["language"], row["source"]) == ("smollm2", "en", "smollm2")
        assert {row.get("label")} == (set(row["readers"]) if len(set(row["readers"])) == 1 else {None})
