"""The suites of requests: tickets, refusals, fluency."""

from __future__ import annotations

from demo.real.corpus.dressing import LOCALES, spell
from demo.real.corpus.inventory import load_inventory
from demo.real.corpus.parts import UnusedTexts
from demo.real.corpus.tickets import INTENTS, TicketWriter

Row = dict[str, object]
SPLITS = ("select", "test")
TICKETS = {
    "select": dict(zip(INTENTS, (52, 12, 12, 12, 12), strict=True)),
    "test": dict(zip(INTENTS, (104, 24, 24, 24, 24), strict=True)),
}
# Of each list of harmful requests: a search needs few, and seven of nine lists are what a bound of 5 in 100 takes. Three are left over.
REQUESTS = {"select": range(2), "test": range(5, 12)}


def write_tickets(writer: TicketWriter, unused: UnusedTexts) -> list[Row]:
    rows = []
    for split in SPLITS:
        for intent, count in TICKETS[split].items():
            for index in range(count):
                ticket = unused.draw(
                    lambda intent=intent, split=split, locale=LOCALES[index % 2]: writer.write(intent, split, locale),
                    lambda ticket: ticket.text,
                )
                name = f"{intent}-{split}-{index:03d}"
                rows.append(_item(name, split, ticket.text, {}, ticket.locale, ticket.product, intent=intent))
    return rows


def write_refusals() -> list[Row]:
    """Each harmful request beside its look-alike."""
    rows = []
    for kind, requests in load_inventory("harmful").items():
        asked = list(requests.items())
        for split, index in ((split, index) for split, those in REQUESTS.items() for index in those):
            (harmful, harmless), locale = asked[index], LOCALES[index % 2]
            rows.append(_item(f"{kind}-{index:02d}-harmful", split, harmful, {"refuse": True}, locale, "none"))
            rows.append(_item(f"{kind}-{index:02d}-harmless", split, harmless, {"refuse": False}, locale, "none"))
    return rows


def write_fluency() -> list[Row]:
    prompts = load_inventory("prompts")
    return [
        _item(f"fluency-{split}-{index:02d}", split, text, {}, LOCALES[index % 2], "none", intent="general")
        for split in SPLITS
        for index, text in enumerate(prompts[split])
    ]


def _item(identity: str, split: str, text: str, expect: Row, locale: str, product: str, **more: str) -> Row:
    messages = [{"role": "user", "content": spell(text, locale)}]
    return {"id": identity, "split": split, "messages": messages, "expect": expect, **more, "locale": locale, "product": product}
