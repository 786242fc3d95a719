"""Labelled prompts that a probe of billing intent is trained and judged on, and conversations of ten turns."""

from __future__ import annotations

from collections.abc import Iterator

from demo.real.corpus.dressing import LOCALES, spell
from demo.real.corpus.inventory import load_inventory
from demo.real.corpus.parts import UnusedTexts, divide
from demo.real.corpus.tickets import INTENTS, TicketWriter

Row = dict[str, object]
# What the model is served under, and so what a probe of its requests reads.
SERVED = load_inventory("context")["served"]
# What is called make elsewhere is called train here.
SPLIT_OF_PART = {"make": "train", "select": "select", "test": "test"}
PROMPTS = {"make": slice(0, 60), "select": slice(60, 80), "test": slice(80, 120)}
# Rows of each label.
ROWS = {"make": 240, "select": 70, "test": 120}


def write_intents(writer: TicketWriter, unused: UnusedTexts) -> list[Row]:
    """As many of billing as of other things, in every split. `kind` says what makes a row easy or hard."""
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
    return [{"id": f"{row['split']}-{index:03d}", **row} for index, row in enumerate(rows)]


def _tickets(part: str, label: str, intents: tuple[str, ...], count: int, writer: TicketWriter, unused: UnusedTexts) -> Iterator[Row]:
    for index in range(count):
        intent, locale = intents[index % len(intents)], LOCALES[index // len(intents) % 2]
        ticket = unused.draw(lambda intent=intent, locale=locale: writer.write(intent, part, locale), lambda ticket: ticket.text)
        yield _row(part, label, intent, ticket.text, locale, ticket.product)


def _row(part: str, label: str, kind: str, text: str, locale: str, product: str) -> Row:
    messages = [{"role": "system", "content": SERVED}, {"role": "user", "content": spell(text, locale)}]
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
