"""What counts as a right answer."""

from __future__ import annotations

import json

import pytest

from steernode.answers import cluster_of, holds_object, is_right, states_facts
from steernode.files.suites import SuiteItem, parse_suite


def read_item(expect: dict[str, object], kind: str = "capability") -> SuiteItem:
    row = {"id": "i", "split": "test", "messages": [{"role": "user", "content": "?"}], "expect": expect}
    return parse_suite(json.dumps(row).encode(), kind).items[0]


def test_a_fact_counts_only_when_every_part_of_it_is_there() -> None:
    assert states_facts("The late fee is 15 Dollars, after 30 days.", ["15 dollars", "30 days"])
    assert not states_facts("The late fee is 15 dollars.", ["15 dollars", "30 days"])


def test_a_long_text_may_be_a_part_of_a_word() -> None:
    assert states_facts("He ruled the Roman Empire.", ["Rom"])
    assert states_facts("They turn into butterflies.", ["butterfl"])


@pytest.mark.parametrize("fact", [" Rome ", " Rome", "Rome\n", [" Rome ", "Roma"], " O "])
def test_blanks_around_a_fact_are_no_part_of_it(fact: str | list[str]) -> None:
    assert states_facts("The answer is Rome", [fact]) or states_facts("Its symbol is O.", [fact])
    bare = [way.strip() for way in fact] if isinstance(fact, list) else fact.strip()
    assert cluster_of(read_item({"contains": [fact]})) == cluster_of(read_item({"contains": [bare]}))


@pytest.mark.parametrize("text", ["Its chemical symbol is O.", "**O**", "O is for oxygen", "o"])
def test_one_letter_counts_as_a_word(text: str) -> None:
    assert states_facts(text, ["O"])


@pytest.mark.parametrize("text", ["Oxygen is a gas.", "I do not know.", "H2O", "The symbol is O2.", ""])
def test_one_letter_within_a_word_is_no_answer(text: str) -> None:
    assert not states_facts(text, ["O"])


def test_two_letters_count_as_a_word_too() -> None:
    assert states_facts("Gold is Au.", ["Au"])
    assert not states_facts("It is found in August.", ["Au"])
    assert states_facts("It is 15 dollars.", ["15"])
    assert not states_facts("It is 150 dollars.", ["15"])


@pytest.mark.parametrize("text", ["A week has seven days.", "7 days", "Seven.", "It has 7.", "(7)", "There are **7** days"])
def test_any_of_the_alternatives_will_do(text: str) -> None:
    assert states_facts(text, [["seven", "7"]])


@pytest.mark.parametrize("text", ["seventy", "17", "7,000", "3.7", "7.5", "seventh"])
def test_an_alternative_is_a_word_of_its_own_and_a_number_whole(text: str) -> None:
    assert not states_facts(text, [["seven", "7"]])


def test_alternatives_stand_beside_parts_that_must_all_be_there() -> None:
    assert states_facts("A week has 7 days.", [["seven", "7"], "day"])
    assert not states_facts("A week is 7 long.", [["seven", "7"], "day"])


def test_an_amount_is_found_with_its_sign_and_not_in_a_larger_one() -> None:
    assert states_facts("Your balance is £12.50.", [["£12.50", "12.50 pounds"]])
    assert not states_facts("Your balance is £112.50.", [["12.50"]])
    assert not states_facts("Your balance is £12.505.", [["£12.50"]])


RIGHT = {"order": 41, "refund": True}


@pytest.mark.parametrize(
    "text",
    [
        '{"order": 41, "refund": true}',
        '{"refund":true,"order":41,"note":"extra"}',
        'Sure, here it is:\n```json\n{"order": 41,\n "refund": true}\n```',
        'First {"order": 40} and then {"order": 41, "refund": true}.',
        '{ not this {"order": 41, "refund": true}',
    ],
)
def test_an_object_counts_wherever_it_stands(text: str) -> None:
    assert holds_object(text, RIGHT)


@pytest.mark.parametrize(
    "text",
    [
        '{"order": 41, "refund": true',
        '{"order": 41}',
        '{"order": "41", "refund": true}',
        '{"order": 41, "refund": 1}',
        "{'order': 41, 'refund': True}",
        "order 41, refund true",
        '["order", 41]',
        "{" * 5000,
        "",
    ],
)
def test_what_is_not_that_object_does_not_count(text: str) -> None:
    assert not holds_object(text, RIGHT)


def test_a_call_of_a_tool_is_compared_in_depth() -> None:
    wanted = {"name": "refund", "arguments": {"order": 7, "reason": "late"}}
    assert holds_object('{"arguments": {"reason": "late", "order": 7}, "name": "refund"}', wanted)
    assert not holds_object('{"name": "refund", "arguments": {"order": 8, "reason": "late"}}', wanted)


def test_an_item_is_judged_by_what_it_expects() -> None:
    assert is_right(read_item({"contains": [["four", "4"]]}), "It is 4.")
    assert is_right(read_item({"json": {"sum": 4}}), '{"sum": 4}')
    assert not is_right(read_item({"json": {"sum": 4}}), "It is 4.")


def test_items_that_expect_the_same_are_one_cluster_however_it_is_listed() -> None:
    assert cluster_of(read_item({"contains": [["Seven", "7"], "days"]})) == cluster_of(read_item({"contains": ["days", ["7", "seven"]]}))
    assert cluster_of(read_item({"contains": [["seven", "7"]]})) != cluster_of(read_item({"contains": ["seven", "7"]}))
    assert cluster_of(read_item({"json": {"a": 1}})) == "i"
