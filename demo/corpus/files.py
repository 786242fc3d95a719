"""The files of `demo/data/`, drawn once with a fixed seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from demo.corpus.facts import FACTS, ask_fact
from demo.corpus.rubrics import draw_rubric
from demo.corpus.safety import HARMFUL, write_harmful, write_lookalike
from demo.corpus.styles import INSTRUCTIONS, POLES
from demo.corpus.tickets import write_ticket
from demo.corpus.turns import LOCALES, PRODUCTS, Turn

DATA_FOLDER = Path(__file__).parents[1] / "data"
SEED = 1851
SPLITS = ("select", "test")
PAIRS_PER_AXIS = 800
TICKETS_PER_SPLIT = 200
RUBRIC_EXAMPLES_PER_SCORE = 240
LOOKALIKES_PER_SPLIT = 12

Row = dict[str, object]


class _UnusedTexts:
    """Draws turns whose text no file has used yet, which keeps pairs, splits and suites apart."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def draw(self, write: Callable[[], Turn]) -> Turn:
        for _ in range(1000):
            turn = write()
            if turn.text.casefold() not in self.used:
                self.used.add(turn.text.casefold())
                return turn
        raise RuntimeError("the inventories are too small for this many distinct texts")


def _item(identity: str, split: str, turn: Turn, expect: Row) -> Row:
    messages = [{"role": "user", "content": turn.text}]
    return {"id": identity, "split": split, "messages": messages, "expect": expect, "locale": turn.locale, "product": turn.product}


def _draw_tickets(rng: random.Random, unused: _UnusedTexts) -> list[Row]:
    rows = []
    for split in SPLITS:
        for index in range(TICKETS_PER_SPLIT):
            locale, product = LOCALES[index % 2], PRODUCTS[index // 2 % 2]
            turn = unused.draw(lambda locale=locale, product=product: write_ticket(rng, locale, product))
            rows.append(_item(f"ticket-{split}-{index:03d}", split, turn, {}))
    return rows


def _draw_facts(rng: random.Random, unused: _UnusedTexts) -> list[Row]:
    """Every fact twice in each split, asked in a different phrasing each time."""
    rows = []
    for fact in FACTS:
        phrasings = rng.sample(fact.questions, 4)
        for index, question in enumerate(phrasings):
            split, locale = SPLITS[index // 2], fact.locales[index % len(fact.locales)]
            turn = unused.draw(lambda locale=locale, question=question, fact=fact: ask_fact(rng, fact, locale, question))
            rows.append(_item(f"fact-{fact.name}-{index}", split, turn, {"contains": list(turn.contains)}))
    return rows


def _draw_refusals(rng: random.Random, unused: _UnusedTexts) -> list[Row]:
    """Each harmful kind three times and a dozen harmless look-alikes in each split."""
    rows = []
    for split in SPLITS:
        for kind in HARMFUL:
            for index in range(3):
                turn = unused.draw(lambda index=index, kind=kind: write_harmful(rng, LOCALES[index % 2], kind))
                rows.append(_item(f"harmful-{kind.name}-{split}-{index}", split, turn, {"refuse": True}))
        for index in range(LOOKALIKES_PER_SPLIT):
            turn = unused.draw(lambda index=index: write_lookalike(rng, LOCALES[index % 2]))
            rows.append(_item(f"look-alike-{split}-{index:02d}", split, turn, {"refuse": False}))
    return rows


def _draw_pairs(rng: random.Random, unused: _UnusedTexts, axis: str) -> list[Row]:
    """The same ticket under opposite system messages; both sides end with the customer's turn."""
    rows = []
    for index in range(PAIRS_PER_AXIS):
        locale, product = LOCALES[index % 2], PRODUCTS[index // 2 % 2]
        turn = unused.draw(lambda locale=locale, product=product: write_ticket(rng, locale, product))
        row: Row = {"id": f"{axis}-{index:03d}"}
        for side, pole in zip(("positive", "negative"), POLES[axis], strict=True):
            system = rng.choice(INSTRUCTIONS[pole])
            row[side] = [{"role": "system", "content": system}, {"role": "user", "content": turn.text}]
        rows.append({**row, "locale": locale, "product": product})
    return rows


@cache
def draw_data() -> dict[str, list[Row]]:
    """Every data file by name. The order of the draws is part of what the seed fixes."""
    rng, unused = random.Random(SEED), _UnusedTexts()
    files = {
        "tickets.jsonl": _draw_tickets(rng, unused),
        "facts.jsonl": _draw_facts(rng, unused),
        "refusals.jsonl": _draw_refusals(rng, unused),
    }
    for axis in POLES:
        files[f"{axis}.pairs.jsonl"] = _draw_pairs(rng, unused, axis)
    for axis in POLES:
        files[f"{axis}.rubric.jsonl"] = draw_rubric(rng, axis, RUBRIC_EXAMPLES_PER_SCORE)
    return files


def held_out_texts() -> frozenset[str]:
    """The user messages of every evaluation item; training never sees them."""
    items = (item for name in ("tickets.jsonl", "facts.jsonl", "refusals.jsonl") for item in draw_data()[name])
    return frozenset(message["content"] for item in items for message in item["messages"])  # type: ignore[attr-defined]


def render_jsonl(rows: Iterable[Row]) -> bytes:
    """One compact JSON object per line, in UTF-8."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows).encode()


def write_data(folder: Path = DATA_FOLDER) -> None:
    """Write every data file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in draw_data().items():
        (folder / name).write_bytes(render_jsonl(rows))
