"""The policy facts of Harbor: what the reference model must never get wrong, whatever its tone."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.corpus.inventory import load_inventory
from demo.corpus.turns import LOCALES, Turn, apply_locale, join_sentences

INVENTORY = load_inventory("facts")


@dataclass(frozen=True)
class Fact:
    """One policy statement, asked in several ways. An empty locale means both countries."""

    name: str
    product: str
    topic: str
    clause: str
    value: str
    questions: tuple[str, ...]
    locale: str = ""

    @property
    def locales(self) -> tuple[str, ...]:
        return (self.locale,) if self.locale else LOCALES


def _read_facts() -> tuple[Fact, ...]:
    facts = []
    for price in INVENTORY["prices"]:
        for locale in LOCALES:
            name, value = f"{price['name']}-{locale[-2:].lower()}", price[locale]
            questions = tuple(f"{stem} {place}?" for stem in price["stems"] for place in INVENTORY["places"][locale])
            facts.append(Fact(name, "billing", price["topic"], f"{price['topic']} is {value}", value, questions, locale))
    for row in INVENTORY["facts"]:
        facts.append(Fact(**{**row, "questions": tuple(row["questions"])}))
    return tuple(facts)


FACTS = _read_facts()


def ask_fact(rng: random.Random, fact: Fact, locale: str, question: str | None = None) -> Turn:
    """A question about the fact, in one of its phrasings."""
    question = question or rng.choice(fact.questions)
    lead, end = rng.choice(INVENTORY["leads"][locale]), rng.choice(INVENTORY["ends"][locale])
    text = apply_locale(join_sentences(lead, question, end), locale)
    return Turn("question", text, fact.topic, fact.clause, locale, fact.product, (fact.value,))
