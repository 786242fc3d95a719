"""Sums, copies, and answers that a program can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random

from demo.real.corpus.dressing import LOCALES
from demo.real.corpus.inventory import load_inventory

Row = dict[str, object]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
# The results that are asked for: each once, so that every sum is a cluster of its own.
RESULTS = range(2, 62)


def write_capability(rng: Random) -> list[Row]:
    """A third of each sort is for select."""
    inventory = load_inventory("capability")
    sorts = {
        "sum": [_sum(rng, result) for result in rng.sample(RESULTS, len(RESULTS))],
        "copy": [_copy(index, text) for index, text in enumerate(inventory["copy"])],
        "json": [_object(index, fields) for index, fields in enumerate(inventory["json"])],
        "tool": [_call(index, fields) for index, fields in enumerate(inventory["tools"])],
    }
    return [row for name, asked in sorts.items() for row in _items(name, asked)]


def _items(name: str, asked: list[tuple[str, Row]]) -> Iterator[Row]:
    for index, (text, expect) in enumerate(asked):
        split = "test" if index % 3 else "select"
        messages = [{"role": "user", "content": text}]
        yield {
            "id": f"{name}-{index:02d}",
            "split": split,
            "messages": messages,
            "expect": expect,
            "intent": "general",
            "locale": LOCALES[index % 2],
            "product": "none",
        }


def _sum(rng: Random, result: int) -> tuple[str, Row]:
    ways = [str(result), WORDS[result]] if result < len(WORDS) else [str(result)]
    if rng.random() < 0.7:
        part = rng.randint(1, result - 1)
        text = rng.choice(("What is {} plus {}?", "Add {} and {}.", "{} + {} = ?")).format(part, result - part)
    else:
        part = rng.randint(1, 9)
        text = rng.choice(("What is {} minus {}?", "{} - {} = ?")).format(result + part, part)
    return text, {"contains": [ways]}


def _copy(index: int, text: str) -> tuple[str, Row]:
    asked = ("Repeat after me, word for word: {}", "Say exactly this and nothing else: {}", "Copy this line: {}")[index % 3]
    return asked.format(text), {"contains": [text]}


def _object(index: int, fields: Row) -> tuple[str, Row]:
    if index % 2:
        said = " and ".join(f"{json.dumps(name)} must be {json.dumps(value)}" for name, value in fields.items())
        return f"Reply with only a JSON object. {said}.", {"json": fields}
    return f"Reply with exactly this JSON and nothing else: {json.dumps(fields)}", {"json": fields}


def _call(index: int, fields: Row) -> tuple[str, Row]:
    if index % 2:
        return f"Call the tool by writing this JSON and nothing else: {json.dumps(fields)}", {"json": fields}
    given = " and ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items())
    return f"You call tools by replying with one JSON object. Make a call that holds {given}.", {"json": fields}
