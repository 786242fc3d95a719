"""Eval suites and rubrics. A suite has one kind; each item belongs to the split that selects or the split that tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from steernode.canonical import sha256_hex
from steernode.errors import ContrastSetError, SuiteError
from steernode.files.conversations import LineProblems, Message, prompt_key, read_lines, read_messages, read_text, refuse_unknown_fields
from steernode.words import LABEL_PATTERN, REPLY_LABELS, SPLITS, SUITE_KINDS

_ITEM_FIELDS = ("id", "split", "messages", "expect", "intent", "locale", "product", "turns")
# What a user says in one conversation, at most.
MOST_TURNS = 20
_RUBRIC_FIELDS = ("text", "score", "axis")
_SUITE = LineProblems("SUITE", SuiteError)
_RUBRIC = LineProblems("RUBRIC", SuiteError)
_LABEL = re.compile(LABEL_PATTERN, re.ASCII)
# What an item may expect, by the kind of its suite: exactly one of these, or nothing.
_EXPECTATIONS = {"factual": ("contains",), "capability": ("contains", "json"), "safety": ("refuse",)}


@dataclass(frozen=True, slots=True)
class SuiteItem:
    """One prompt and what a right answer does: `expect` holds `contains`, `json` or `refuse` where the kind asks for it, else nothing.

    Beside `refuse` there may be `labelled`: replies, word for word, with what a person says they are.
    `intent` is the label that a gateway would send with such a request; empty where nothing is known. `turns` are what the user says
    after each reply, in a conversation of several turns; such are the items of a fluency suite.
    """

    id: str
    split: str
    messages: tuple[Message, ...]
    expect: dict[str, Any]
    locale: str
    product: str
    digest: str
    intent: str = ""
    turns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuiteFile:
    """A whole suite. `digest` covers the exact bytes of the file."""

    kind: str
    items: tuple[SuiteItem, ...]
    digest: str

    def split(self, name: str) -> tuple[SuiteItem, ...]:
        return tuple(item for item in self.items if item.split == name)


class RubricExample(NamedTuple):
    """A text and the score, 1 to 5, that a person gave it."""

    text: str
    score: int


@dataclass(frozen=True, slots=True)
class RubricFile:
    """Scored examples of one axis. `digest` covers the exact bytes of the file."""

    axis: str
    examples: tuple[RubricExample, ...]
    digest: str


class HasPrompts(Protocol):
    """What the overlap check needs of a contrast pair."""

    @property
    def id(self) -> str: ...
    @property
    def positive(self) -> tuple[Message, ...]: ...
    @property
    def negative(self) -> tuple[Message, ...]: ...


def parse_suite(data: bytes, kind: str) -> SuiteFile:
    """The items of a suite of this kind, in file order.

    Raises: SuiteError with a SUITE_ code; `item` names the line.
    """
    if kind not in SUITE_KINDS:
        raise SuiteError("SUITE_KIND", f"unknown suite kind {kind!r}; known are {', '.join(SUITE_KINDS)}", kind)
    items: list[SuiteItem] = []
    line_of_id: dict[str, int] = {}
    line_of_asked: dict[tuple[tuple[Message, ...], tuple[str, ...]], int] = {}
    for number, line, value in read_lines(data, _SUITE):
        refuse_unknown_fields(value, _ITEM_FIELDS, number, _SUITE)
        split = value.get("split")
        if split not in SPLITS:
            raise _SUITE.problem("SPLIT", number, f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        item = SuiteItem(
            id=read_text(value, "id", number, _SUITE, required=True),
            split=split,
            messages=_read_first_messages(value, kind, number),
            expect=_read_expectation(value.get("expect", {}), kind, number),
            locale=read_text(value, "locale", number, _SUITE),
            product=read_text(value, "product", number, _SUITE),
            digest=sha256_hex(line),
            intent=_read_intent(value, number),
            turns=tuple(value.get("turns", ()))[1:],
        )
        if item.messages[-1].role != "user":
            raise _SUITE.problem("MESSAGES", number, f"item {item.id!r} must end with a user message, the one to answer")
        if item.id in line_of_id:
            raise _SUITE.problem("DUPLICATE_ITEM", number, f"id {item.id!r} was already used on line {line_of_id[item.id]}")
        # Two conversations may well begin alike.
        asked = item.messages, item.turns
        if asked in line_of_asked:
            raise _SUITE.problem("DUPLICATE_ITEM", number, f"item {item.id!r} asks the same as line {line_of_asked[asked]}")
        line_of_id[item.id] = line_of_asked[asked] = number
        items.append(item)
    return SuiteFile(kind, tuple(items), sha256_hex(data))


def _read_first_messages(value: dict[str, Any], kind: str, number: int) -> tuple[Message, ...]:
    """`messages`, or the first of `turns`, which a fluency item may have in their place."""
    if "turns" not in value:
        return read_messages(value.get("messages"), "messages", number, _SUITE, missing="MESSAGES")
    turns = value["turns"]
    if kind != "fluency" or "messages" in value:
        raise _SUITE.problem("TURNS", number, "turns are of a fluency item, in place of its messages")
    if not isinstance(turns, list) or not 2 <= len(turns) <= MOST_TURNS:
        raise _SUITE.problem("TURNS", number, f"turns must be a list of 2 to {MOST_TURNS} texts")
    said = read_messages([{"role": "user", "content": turn} for turn in turns], "turns", number, _SUITE, missing="TURNS")
    if not all(message.content.strip() for message in said):
        raise _SUITE.problem("TURNS", number, "a turn says nothing")
    return said[:1]


def _read_intent(value: dict[str, Any], number: int) -> str:
    intent = value.get("intent")
    if intent is None and "intent" not in value:
        return ""
    if not isinstance(intent, str) or not _LABEL.fullmatch(intent):
        raise _SUITE.problem("INTENT", number, f"intent must be a label of letters, digits, '_', '.' and '-', at most 64, got {intent!r}")
    return intent


def _read_expectation(expect: Any, kind: str, number: int) -> dict[str, Any]:
    if not isinstance(expect, dict):
        raise _SUITE.problem("EXPECT", number, "expect must be an object")
    known = _EXPECTATIONS.get(kind, ())
    labelled = expect.get("labelled", {}) if "refuse" in expect else {}
    stated = set(expect) - ({"labelled"} if "refuse" in known else set())
    if len(stated) != min(len(known), 1) or not stated <= set(known):
        should_be = " or ".join(f"exactly {{{name!r}: ...}}" for name in known) or "{}"
        raise _SUITE.problem("EXPECT", number, f"expect of a {kind} item must be {should_be}, got {sorted(expect)}")
    if "refuse" in expect and not isinstance(expect["refuse"], bool):
        raise _SUITE.problem("EXPECT", number, "expect.refuse must be true or false")
    if not isinstance(labelled, dict) or not all(text.strip() and label in REPLY_LABELS for text, label in labelled.items()):
        raise _SUITE.problem("EXPECT", number, f"expect.labelled must give each reply one of {', '.join(REPLY_LABELS)}")
    if "json" in expect and (not isinstance(expect["json"], dict) or not expect["json"]):
        raise _SUITE.problem("EXPECT", number, "expect.json must be an object with the fields that a right answer has")
    if "contains" in expect:
        _check_contains(expect["contains"], number)
    return expect


def _check_contains(texts: Any, number: int) -> None:
    """Each entry is a text, or a list of texts any one of which will do."""
    if not isinstance(texts, list) or not texts:
        raise _SUITE.problem("EXPECT", number, "expect.contains must be a list of one or more texts")
    for entry in texts:
        ways = entry if isinstance(entry, list) else [entry]
        if not ways or not all(isinstance(way, str) and way.strip() for way in ways):
            raise _SUITE.problem("EXPECT", number, f"expect.contains holds texts and lists of texts; {entry!r} is neither")
        if len({way.casefold() for way in ways}) < len(ways):
            raise _SUITE.problem("EXPECT", number, f"expect.contains names one text twice in {entry!r}")


def parse_rubric(data: bytes) -> RubricFile:
    """The scored examples of one axis.

    Raises: SuiteError with a RUBRIC_ code; `item` names the line.
    """
    examples: list[RubricExample] = []
    line_of_text: dict[str, int] = {}
    axis = ""
    for number, _line, value in read_lines(data, _RUBRIC):
        refuse_unknown_fields(value, _RUBRIC_FIELDS, number, _RUBRIC)
        text = read_text(value, "text", number, _RUBRIC, required=True)
        score = value.get("score")
        if isinstance(score, bool) or not isinstance(score, int) or not 1 <= score <= 5:
            raise _RUBRIC.problem("SCORE", number, f"score must be an integer from 1 to 5, got {score!r}")
        named = read_text(value, "axis", number, _RUBRIC, required=True)
        if axis and named != axis:
            raise _RUBRIC.problem("AXIS", number, f"axis {named!r} differs from {axis!r} on line 1; a rubric measures one axis")
        axis = named
        if text in line_of_text:
            raise _RUBRIC.problem("DUPLICATE_EXAMPLE", number, f"repeats the text of line {line_of_text[text]}")
        line_of_text[text] = number
        examples.append(RubricExample(text, score))
    if len({example.score for example in examples}) < 2:
        raise SuiteError("RUBRIC_SCORE", "every example has the same score; a rubric needs at least two different ones")
    return RubricFile(axis, tuple(examples), sha256_hex(data))


def refuse_overlap(pairs: Sequence[HasPrompts], items: Iterable[SuiteItem]) -> None:
    """A vector must not be judged on the prompts it was made from.

    Raises: ContrastSetError CONTRAST_SUITE_OVERLAP naming the first pair and item that ask the same.
    """
    pair_of_key = {prompt_key(side): pair.id for pair in pairs for side in (pair.positive, pair.negative)}
    for item in items:
        pair_id = pair_of_key.get(prompt_key(item.messages))
        if pair_id is not None:
            raise ContrastSetError(
                "CONTRAST_SUITE_OVERLAP", f"contrast pair {pair_id!r} and suite item {item.id!r} ask the same; remove one of them", item.id
            )
