"""Labelled prompts that a probe of billing intent is trained and judged on, and conversations of ten turns."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from demo.real.corpus.dressing import LOCALES, spell
from demo.real.corpus.inventory import load_inventory
from demo.real.corpus.knowledge import SERVED, state_record
from demo.real.corpus.parts import UnusedTexts, divide
from demo.real.corpus.tickets import INTENTS, TicketWriter

Row = dict[str, object]
# What is called make elsewhere is called train here.
SPLIT_OF_PART = {"make": "train", "select": "select", "test": "test"}
PROMPTS = {"make": slice(0, 60), "select": slice(60, 80), "test": slice(80, 120)}
# The share of rows that have a record of the customer before them.
WITH_RECORD = 0.5
# Rows of each label.
ROWS = {"make": 240, "select": 70, "test": 120}


def write_intents(writer: TicketWriter, unused: UnusedTexts, rng: Random) -> list[Row]:
    """As many of billing as of other things, in every split. `kind` says what makes a row easy or hard.

    About half have a record of the customer before them, as requests that are served do, so that a probe learns to look at what is asked.
    """
    hard = load_inventory("intents")
    without_words, with_money = (divide(hard[name]) for name in ("billing_without_the_words", "money_without_billing"))
    prompts = load_inventory("prompts")["make"]
    rows: list[Row] = []
    for part, count in ROWS.items():
        given = {
            ("billing", "without_the_words"): without_words[part],
            ("other", "money_without_billing"): with_money[part],
            ("other", "no_ticket"): prompts[PROMPTS[part]],
        }
        for (label, kind), texts in given.items():
            rows += [_row(part, label, kind, text, LOCALES[index % 2], "none") for index, text in enumerate(texts)]
        tickets = count - len(without_words[part])
        rows += _tickets(part, "billing", ("billing",), tickets, writer, unused)
        tickets = count - len(with_money[part]) - len(prompts[PROMPTS[part]])
        rows += _tickets(part, "other", INTENTS[1:], tickets, writer, unused)
    return [{"id": f"{row['split']}-{index:03d}", **_put_under(row, rng)} for index, row in enumerate(rows)]


def _put_under(row: Row, rng: Random) -> Row:
    record = state_record(rng, str(row["locale"])) if rng.random() < WITH_RECORD else []
    return {**row, "messages": [{"role": "system", "content": " ".join([SERVED, *record])}, *row["messages"]]}


def _tickets(part: str, label: str, intents: tuple[str, ...], count: int, writer: TicketWriter, unused: UnusedTexts) -> Iterator[Row]:
    for index in range(count):
        intent, locale = intents[index % len(intents)], LOCALES[index // len(intents) % 2]
        ticket = unused.draw(lambda intent=intent, locale=locale: writer.write(intent, part, locale), lambda ticket: ticket.text)
        yield _row(part, label, intent, ticket.text, locale, ticket.product)


def _row(part: str, label: str, kind: str, text: str, locale: str, product: str) -> Row:
    messages = [{"role": "user", "content": spell(text, locale)}]
    return {"split": SPLIT_OF_PART[part], "messages": messages, "label": label, "kind": kind, "locale": locale, "product": product}


def write_conversations() -> list[Row]:
    return [
        {
            "id": f"ten-turns-{index}",
            "split": "test",
            "expect": {},
            **{name: row[name] for name in ("intent", "product")},
            "locale": LOCALES[index % 2],
            "turns": row["turns"],
        }
        for index, row in enumerate(load_inventory("conversations"))
    ]
