"""What customers write: a telling of a problem, with whatever they put around it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from demo.real.corpus.dressing import FRAMES, dress, fill
from demo.real.corpus.inventory import load_inventory
from demo.real.corpus.parts import PARTS, Deck, divide

INTENTS = ("billing", "technical", "delivery", "account", "general")
# Of the six tellings of a problem.
TELLINGS = {"make": slice(0, 3), "select": slice(3, 4), "test": slice(4, 6)}
# How often a ticket is one of these and not a telling with a frame.
SHARES = {"short": 0.08, "long": 0.05}
PRODUCT_OF_WHOLE = {"billing": "connect", "technical": "apps", "delivery": "shop", "account": "apps", "general": "shop"}


@dataclass(frozen=True)
class Ticket:
    text: str
    intent: str
    locale: str
    product: str


@dataclass(frozen=True)
class Telling:
    """How a customer tells of a problem. A calm one is a question or praise, and nobody is angry around it."""

    product: str
    text: str
    is_calm: bool


def read_tellings(part: str) -> dict[str, list[Telling]]:
    """By intent."""
    return {
        intent: [
            Telling(problem["product"], text, problem.get("calm", False))
            for problem in load_inventory(intent)
            for text in problem["tellings"][TELLINGS[part]]
        ]
        for intent in INTENTS
    }


class TicketWriter:
    """Writes tickets of a part. Tellings are dealt, so that all of them are used before one is told again."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        whole = load_inventory("whole")
        self._tellings = {part: {name: Deck(rows, rng) for name, rows in read_tellings(part).items()} for part in PARTS}
        self._whole = {
            length: {intent: {part: Deck(texts, rng) for part, texts in divide(whole[intent][length]).items()} for intent in INTENTS}
            for length in SHARES
        }

    def write(self, intent: str, part: str, locale: str) -> Ticket:
        kind = self._rng.choices(("telling", *SHARES), (1 - sum(SHARES.values()), *SHARES.values()))[0]
        if kind == "telling":
            telling = self._tellings[part][intent].deal()
            return Ticket(dress(fill(self._frame(telling), self._rng, locale), self._rng), intent, locale, telling.product)
        text = self._whole[kind][intent][part].deal()
        if kind == "short" and self._rng.random() < 0.5:
            text = f"{self._rng.choice(FRAMES['openers']['plain'])} {text}"
        return Ticket(fill(text, self._rng, locale), intent, locale, PRODUCT_OF_WHOLE[intent])

    def _frame(self, telling: Telling) -> str:
        mood = "plain" if telling.is_calm or self._rng.random() < 0.7 else "upset"
        contexts = FRAMES["calm_contexts" if telling.is_calm else "contexts"]
        body = [telling.text, *self._rng.sample(contexts, self._rng.choices((0, 1, 2), (45, 40, 15))[0])]
        if self._rng.random() < 0.2:
            self._rng.shuffle(body)
        closer = [self._rng.choice(FRAMES["closers"][mood])] if self._rng.random() < 0.45 else []
        if self._rng.random() < 0.55:
            return " ".join([*body, *closer])
        opener = self._rng.choice(FRAMES["openers"][mood])
        if opener.endswith(",") and not body[0].startswith(("I ", "I'")):
            body[0] = body[0][0].lower() + body[0][1:]
        return " ".join([opener, *body, *closer])
