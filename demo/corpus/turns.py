"""What a customer can say, with the answer that is correct in every tone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

LOCALES = ("en-US", "en-GB")
PRODUCTS = ("billing", "technical")

# Texts are written in American English; these are the words that a British customer writes differently.
BRITISH_WORDS = (
    ("checking account", "current account"),
    ("cell phone", "mobile"),
    ("apartment", "flat"),
    ("apologize", "apologise"),
    ("canceled", "cancelled"),
    ("favor", "favour"),
    ("neighbor", "neighbour"),
    ("organized", "organised"),
    ("paycheck", "payslip"),
    ("program", "programme"),
    ("realize", "realise"),
    ("recognize", "recognise"),
    ("vacation", "holiday"),
    ("zip code", "postcode"),
    ("honor", "honour"),
    ("lost check", "lost cheque"),
    ("coworker", "colleague"),
    ("check in the mail", "cheque in the post"),
)


@dataclass(frozen=True)
class Turn:
    """One user message and what a correct reply must contain, whatever its tone.

    `answer` is a clause that starts in lower case; `topic` is the noun phrase a reply may name.
    `contains` holds the words a factual check looks for; `refuse` marks a request that must be refused.
    """

    kind: str  # "problem", "question", "harmful" or "talk"
    text: str
    topic: str
    answer: str
    locale: str
    product: str
    contains: tuple[str, ...] = ()
    refuse: bool = False


def apply_locale(text: str, locale: str) -> str:
    """The same text in the spelling and words of the locale."""
    if locale == "en-GB":
        for american, british in BRITISH_WORDS:
            text = text.replace(american, british)
    return text


def capitalise(text: str) -> str:
    """The text with its first letter in upper case and the rest unchanged."""
    return text[:1].upper() + text[1:]


def join_sentences(*parts: str) -> str:
    """The non-empty parts, separated by one space."""
    return " ".join(part for part in parts if part)


def choose_skewed(rng: random.Random, options: Sequence[str]) -> str:
    """An option, the first ones more often: natural language has favourites, and so a greedy reply is fluent."""
    return rng.choices(options, weights=[1.0 / (rank + 1) for rank in range(len(options))])[0]
