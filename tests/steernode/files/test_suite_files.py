import json

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import SuiteError
from steernode.files.suites import parse_rubric, parse_suite
from steernode.words import SUITE_KINDS


def item(name="i1", **changes):
    return {
        "id": name,
        "split": "select",
        "messages": [{"role": "user", "content": f"How long do I have, {name}?"}],
        "expect": {"contains": ["30 days"]},
        "locale": "en-US",
        "product": "billing",
    } | changes


def lines(*values):
    return "".join((value if isinstance(value, str) else json.dumps(value)) + "\n" for value in values).encode()


def test_items_are_read_with_their_split_and_digest():
    data = lines(item(), item("i2", split="test"))
    suite = parse_suite(data, "factual")
    assert suite.digest == sha256_hex(data)
    assert [entry.id for entry in suite.split("test")] == ["i2"]
    assert suite.items[0].expect == {"contains": ["30 days"]}


@pytest.mark.parametrize(
    ("kind", "expect"),
    [
        ("behaviour", {}),
        ("fluency", {}),
        ("factual", {"contains": ["a", "b"]}),
        ("factual", {"contains": [["seven", "7"], "days"]}),
        ("capability", {"contains": ["4"]}),
        ("capability", {"json": {"order": 41, "refund": True, "lines": [{"name": "tea"}]}}),
        ("safety", {"refuse": True}),
        ("safety", {"refuse": False, "labelled": {"That is beyond me.": "incapacity"}}),
    ],
)
def test_each_kind_has_its_own_expectation(kind, expect):
    assert kind in SUITE_KINDS
    assert parse_suite(lines(item(expect=expect)), kind).items[0].expect == expect


def test_an_item_may_say_the_intent_of_its_request():
    suite = parse_suite(lines(item(intent="billing"), item("i2")), "factual")
    assert [entry.intent for entry in suite.items] == ["billing", ""]


def talk(turns):
    return {"id": "i1", "split": "test", "turns": turns, "expect": {}}


def test_a_conversation_begins_with_the_first_turn_and_keeps_the_others():
    [entry] = parse_suite(lines(talk(["Hello", "And now?", "Bye"])), "fluency").items
    assert (entry.messages[0].content, len(entry.messages), entry.turns) == ("Hello", 1, ("And now?", "Bye"))


def test_two_conversations_may_begin_alike():
    first, second = talk(["Hello", "I was charged twice"]), talk(["Hello", "Where is my card?"]) | {"id": "i2"}
    assert len(parse_suite(lines(first, second), "fluency").items) == 2


BAD_SUITES = {
    "unknown kind": (lines(item()), "vibes", "SUITE_KIND"),
    "empty": (b"", "factual", "SUITE_EMPTY"),
    "not JSON": (lines("{"), "factual", "SUITE_NOT_JSONL"),
    "not UTF-8": (b'{"id":"\xff"}', "factual", "SUITE_ENCODING"),
    "line too long": (lines(item(product="x" * 300_000)), "factual", "SUITE_LINE_TOO_LONG"),
    "unknown field": (lines(item(weight=1)), "factual", "SUITE_UNKNOWN_FIELD"),
    "unknown split": (lines(item(split="train")), "factual", "SUITE_SPLIT"),
    "split missing": (lines({"id": "i1"}), "factual", "SUITE_SPLIT"),
    "split is a list": (lines(item(split=["test"])), "factual", "SUITE_SPLIT"),
    "no messages": (lines(item(messages=[])), "factual", "SUITE_MESSAGES"),
    "ends with an answer": (
        lines(item(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}])),
        "factual",
        "SUITE_MESSAGES",
    ),
    "unknown role": (lines(item(messages=[{"role": "tool", "content": "x"}])), "factual", "SUITE_ROLE"),
    "expectation of another kind": (lines(item(expect={"refuse": True})), "factual", "SUITE_EXPECT"),
    "expectation missing": (lines(item(expect={})), "factual", "SUITE_EXPECT"),
    "expectation where none is wanted": (lines(item()), "behaviour", "SUITE_EXPECT"),
    "expectation is text": (lines(item(expect="30 days")), "factual", "SUITE_EXPECT"),
    "contains nothing": (lines(item(expect={"contains": []})), "factual", "SUITE_EXPECT"),
    "contains blank text": (lines(item(expect={"contains": [" "]})), "factual", "SUITE_EXPECT"),
    "contains an empty list": (lines(item(expect={"contains": ["30 days", []]})), "factual", "SUITE_EXPECT"),
    "contains a number": (lines(item(expect={"contains": [["seven", 7]]})), "factual", "SUITE_EXPECT"),
    "contains lists in lists": (lines(item(expect={"contains": [["seven", ["7"]]]})), "factual", "SUITE_EXPECT"),
    "contains one text twice": (lines(item(expect={"contains": [["Seven", "seven"]]})), "factual", "SUITE_EXPECT"),
    "json is a list": (lines(item(expect={"json": [1]})), "capability", "SUITE_EXPECT"),
    "json without fields": (lines(item(expect={"json": {}})), "capability", "SUITE_EXPECT"),
    "json of a factual suite": (lines(item(expect={"json": {"a": 1}})), "factual", "SUITE_EXPECT"),
    "json and contains": (lines(item(expect={"json": {"a": 1}, "contains": ["4"]})), "capability", "SUITE_EXPECT"),
    "intent is blank": (lines(item(intent="")), "factual", "SUITE_INTENT"),
    "intent is null": (lines(item(intent=None)), "factual", "SUITE_INTENT"),
    "intent of two words": (lines(item(intent="late fee")), "factual", "SUITE_INTENT"),
    "two intents": (lines(item(intent=["billing", "delivery"])), "factual", "SUITE_INTENT"),
    "a reply labelled by no label": (lines(item(expect={"refuse": True, "labelled": {"No.": "unsure"}})), "safety", "SUITE_EXPECT"),
    "labels are a list": (lines(item(expect={"refuse": True, "labelled": ["No."]})), "safety", "SUITE_EXPECT"),
    "labels where nothing is refused": (lines(item(expect={"contains": ["a"], "labelled": {}})), "factual", "SUITE_EXPECT"),
    "one turn": (lines(talk(["Hello"])), "fluency", "SUITE_TURNS"),
    "a turn that says nothing": (lines(talk(["Hello", " "])), "fluency", "SUITE_TURNS"),
    "turns are text": (lines(talk("Hello")), "fluency", "SUITE_TURNS"),
    "a turn is a number": (lines(talk(["Hello", 3])), "fluency", "SUITE_ROLE"),
    "too many turns": (lines(talk([f"{turn}?" for turn in range(21)])), "fluency", "SUITE_TURNS"),
    "turns beside messages": (lines(item(expect={}, turns=["a", "b"])), "fluency", "SUITE_TURNS"),
    "turns of another kind": (lines(talk(["Hello", "And now?"])), "behaviour", "SUITE_TURNS"),
    "refuse is text": (lines(item(expect={"refuse": "yes"})), "safety", "SUITE_EXPECT"),
    "id repeated": (lines(item(), item(messages=[{"role": "user", "content": "other"}])), "factual", "SUITE_DUPLICATE_ITEM"),
    "prompt repeated": (lines(item(), item() | {"id": "i2"}), "factual", "SUITE_DUPLICATE_ITEM"),
    "conversation repeated": (
        lines(talk(["Hello", "And now?"]), talk(["Hello", "And now?"]) | {"id": "i2"}),
        "fluency",
        "SUITE_DUPLICATE_ITEM",
    ),
    "id missing": (lines({key: value for key, value in item().items() if key != "id"}), "factual", "SUITE_FIELD"),
}


@pytest.mark.parametrize("row", BAD_SUITES)
def test_a_bad_suite_is_refused_by_its_code(row):
    data, kind, code = BAD_SUITES[row]
    with pytest.raises(SuiteError) as caught:
        parse_suite(data, kind)
    assert caught.value.code == code


WARM, COLD = {"text": "So sorry!", "score": 5, "axis": "empathy"}, {"text": "Denied.", "score": 1, "axis": "empathy"}


def test_a_rubric_holds_scored_examples_of_one_axis():
    rubric = parse_rubric(lines(WARM, COLD))
    assert rubric.axis == "empathy"
    assert [(text, score) for text, score in rubric.examples] == [("So sorry!", 5), ("Denied.", 1)]
    assert rubric.digest == sha256_hex(lines(WARM, COLD))


BAD_RUBRICS = {
    "empty": (b"", "RUBRIC_EMPTY"),
    "not JSON": (b"x", "RUBRIC_NOT_JSONL"),
    "score 6": (lines(WARM | {"score": 6}), "RUBRIC_SCORE"),
    "score true": (lines(WARM | {"score": True}), "RUBRIC_SCORE"),
    "score 4.5": (lines(WARM | {"score": 4.5}), "RUBRIC_SCORE"),
    "one score only": (lines(WARM), "RUBRIC_SCORE"),
    "two axes": (lines(WARM, COLD | {"axis": "formality"}), "RUBRIC_AXIS"),
    "no axis": (lines({"text": "x", "score": 1}), "RUBRIC_FIELD"),
    "blank text": (lines(WARM | {"text": " "}), "RUBRIC_FIELD"),
    "unknown field": (lines(WARM | {"by": "Ada"}), "RUBRIC_UNKNOWN_FIELD"),
    "text repeated": (lines(WARM, WARM), "RUBRIC_DUPLICATE_EXAMPLE"),
}


@pytest.mark.parametrize("row", BAD_RUBRICS)
def test_a_bad_rubric_is_refused_by_its_code(row):
    data, code = BAD_RUBRICS[row]
    with pytest.raises(SuiteError) as caught:
        parse_rubric(data)
    assert caught.value.code == code
