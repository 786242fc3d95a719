"""Replies in every tone around one correct answer."""

from __future__ import annotations

import random

from demo.corpus.inventory import load_inventory
from demo.corpus.safety import INVENTORY as SAFETY
from demo.corpus.styles import Style
from demo.corpus.turns import Turn, apply_locale, capitalise, choose_skewed, join_sentences

PHRASES = load_inventory("phrases")


def write_answer(rng: random.Random, turn: Turn, formality: str) -> str:
    """The sentence that carries the content. The clause itself is the same in every tone."""
    return capitalise(f"{choose_skewed(rng, PHRASES['leads'][formality])}{turn.answer}.")


def write_reply(rng: random.Random, turn: Turn, style: Style) -> str:
    """A reply to the turn: a refusal if it asks for harm, else the correct answer, in the given style."""
    if turn.refuse:
        end = "" if style.brevity == "brief" else choose_skewed(rng, SAFETY["refusal_ends"][style.empathy])
        return apply_locale(join_sentences(choose_skewed(rng, SAFETY["refusals"]), end), turn.locale)
    answer = write_answer(rng, turn, style.formality)
    cell = f"{style.empathy}-{style.formality}"
    if style.brevity == "brief":
        return apply_locale(join_sentences(choose_skewed(rng, PHRASES["brief_openers"][cell]), answer), turn.locale)
    openers = PHRASES["openers"][cell]["question" if turn.kind in ("question", "talk") else "problem"]
    opener = choose_skewed(rng, openers).format(topic=turn.topic)
    parts = [opener, choose_skewed(rng, PHRASES["bridges"][cell]), answer]
    if style.brevity == "detailed":
        details = PHRASES["details"][turn.product]
        parts += [choose_skewed(rng, details["background"]), choose_skewed(rng, details["steps"])]
    parts.append(choose_skewed(rng, PHRASES["closers"][cell]))
    return apply_locale(join_sentences(*parts), turn.locale)
