"""Contrast sets: the same text under a message of either side."""

from __future__ import annotations

from itertools import product
from random import Random

from demo.real.corpus.dressing import LOCALES, spell
from demo.real.corpus.inventory import load_inventory
from demo.real.corpus.parts import Deck, UnusedTexts
from demo.real.corpus.tickets import INTENTS, Ticket, TicketWriter

Row = dict[str, object]
MESSAGES = load_inventory("messages")
AXES = tuple(MESSAGES)
TICKETS_PER_INTENT = dict(zip(INTENTS, (192, 72, 72, 72, 72), strict=True))


def write_pairs(axis: str, writer: TicketWriter, unused: UnusedTexts, rng: Random) -> list[Row]:
    """480 tickets and 120 prompts that are none, in a drawn order. Each message stands there as often as any other of its side."""
    asked = [
        unused.draw(lambda intent=intent, locale=LOCALES[index % 2]: writer.write(intent, "make", locale), lambda ticket: ticket.text)
        for intent, count in TICKETS_PER_INTENT.items()
        for index in range(count)
    ]
    prompts = load_inventory("prompts")["make"]
    asked += [Ticket(spell(text, LOCALES[index % 2]), "general", LOCALES[index % 2], "none") for index, text in enumerate(prompts)]
    rng.shuffle(asked)
    sides = Deck(list(product(MESSAGES[axis]["positive"], MESSAGES[axis]["negative"])), rng)
    return [_pair(f"{axis}-{index:03d}", ticket, *sides.deal()) for index, ticket in enumerate(asked)]


def _pair(identity: str, ticket: Ticket, positive: str, negative: str) -> Row:
    def side(system: str) -> list[Row]:
        return [{"role": "system", "content": system}, {"role": "user", "content": ticket.text}]

    return {"id": identity, "positive": side(positive), "negative": side(negative), "locale": ticket.locale, "product": ticket.product}
