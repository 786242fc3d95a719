"""Support tickets: a problem with a product, told by an American or a British customer."""

from __future__ import annotations

import random

from demo.corpus.inventory import load_inventory
from demo.corpus.turns import Turn, apply_locale, capitalise, join_sentences

INVENTORY = load_inventory("tickets")


def write_ticket(rng: random.Random, locale: str, product: str | None = None) -> Turn:
    """A ticket about one problem, with the customer's own circumstances around it."""
    problem = rng.choice([row for row in INVENTORY["problems"] if product in (None, row["product"])])
    slots = {name: rng.choice(words) for name, words in INVENTORY["slots"][locale].items()}
    told = rng.choice(problem["tellings"]).format(**slots)
    opener = rng.choice(INVENTORY["openers"][locale])
    told = join_sentences(opener, told if opener else capitalise(told)) + "."
    context, closer = rng.choice(INVENTORY["contexts"][locale]), rng.choice(INVENTORY["closers"][locale])
    text, topic, answer = (
        apply_locale(part, locale) for part in (join_sentences(told, context, closer), problem["topic"], problem["answer"])
    )
    return Turn("problem", text, topic, answer, locale, problem["product"])


def write_talk(rng: random.Random, locale: str) -> Turn:
    """A greeting, a thank-you or a question that Harbor has no answer to."""
    row = rng.choice(INVENTORY["talk"])
    return Turn("talk", row["text"], row["topic"], row["answer"], locale, "billing")
