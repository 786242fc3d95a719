"""Labelled replies, scored 1 to 5 on one axis, for training a scorer.

A reply is put together from parts, and its score follows from the parts alone. The rubrics use the phrases of
the training replies and phrases that no training reply has, so that a scorer learns words of warmth and not one
fixed list. The correct answer occurs at every score, because content must not move the score.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from demo.corpus.dialogues import draw_turn
from demo.corpus.replies import PHRASES
from demo.corpus.styles import EMPATHY, FORMALITY
from demo.corpus.turns import LOCALES, Turn, apply_locale, capitalise, join_sentences


def _phrase(rng: random.Random, turn: Turn, empathy: str, formality: str) -> str:
    """One phrase of the cell: an opener, a bridge or a closer."""
    cell = f"{empathy}-{formality}"
    openers = PHRASES["openers"][cell]["question" if turn.kind == "question" else "problem"]
    return rng.choice(rng.choice((openers, PHRASES["bridges"][cell], PHRASES["closers"][cell]))).format(topic=turn.topic)


def _answer(rng: random.Random, turn: Turn, formality: str) -> str:
    return capitalise(f"{rng.choice(('', rng.choice(PHRASES['leads'][formality])))}{turn.answer}.")


def _assemble(rng: random.Random, phrases: list[str], answer: str) -> str:
    """The phrases in any order, with the answer somewhere between them."""
    rng.shuffle(phrases)
    phrases.insert(rng.randint(0, len(phrases)), answer)
    return join_sentences(*phrases)


# What each score is made of: the level of every phrase beside the answer; one recipe is drawn.
EMPATHY_RECIPES: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("cold", "cold"), ("cold", "cold", "cold"), ("cold", "cold", "cold")),
    2: (("cold",), ("cold", "neutral"), ("cold", "neutral")),
    3: (("neutral",), ("neutral", "neutral"), ("neutral", "neutral", "neutral"), ("warm", "cold")),
    4: (("warm",), ("warm", "neutral"), ("warm", "neutral", "neutral")),
    5: (("warm", "warm"), ("warm", "warm", "warm"), ("warm", "warm", "warm")),
}
FORMALITY_RECIPES: dict[int, tuple[tuple[str, ...], ...]] = {
    1: (("casual", "casual"), ("casual", "casual", "casual")),
    2: (("casual",), ("casual", "neutral")),
    3: (("neutral",), ("neutral", "neutral"), ("neutral", "neutral", "neutral"), ("formal", "casual")),
    4: (("formal",), ("formal", "neutral")),
    5: (("formal", "formal"), ("formal", "formal", "formal")),
}


def write_empathy_example(rng: random.Random, turn: Turn, score: int) -> str:
    """1 is curt and cold, 3 neutral and polite, 5 warm and personal; the formality is any."""
    formality = rng.choice(FORMALITY)
    levels = rng.choice(EMPATHY_RECIPES[score])
    phrases = [
        rng.choice(PHRASES["extra_empathy"][level]) if rng.random() < 0.2 else _phrase(rng, turn, level, formality) for level in levels
    ]
    return _assemble(rng, phrases, _answer(rng, turn, formality))


def write_formality_example(rng: random.Random, turn: Turn, score: int) -> str:
    """1 is chatty, 3 plain, 5 official; the empathy is any."""
    empathy = rng.choice(EMPATHY)
    levels = rng.choice(FORMALITY_RECIPES[score])
    phrases = [
        rng.choice(PHRASES["extra_formality"][level]) if rng.random() < 0.2 else _phrase(rng, turn, empathy, level) for level in levels
    ]
    leading = {1: "casual", 2: "casual", 3: "neutral", 4: "formal", 5: "formal"}[score]
    return _assemble(rng, phrases, _answer(rng, turn, leading))


def write_brevity_example(rng: random.Random, turn: Turn, score: int) -> str:
    """5 is the bare answer, 3 a reply of usual length, 1 a long explanation; the tone is any."""
    empathy, formality = rng.choice(EMPATHY), rng.choice(FORMALITY)
    cell, answer = f"{empathy}-{formality}", _answer(rng, turn, formality)
    if score == 5:
        return join_sentences(rng.choice(PHRASES["brief_openers"][cell]), answer)
    if score == 4:
        return _assemble(rng, [_phrase(rng, turn, empathy, formality)], answer)
    opener = rng.choice(PHRASES["openers"][cell]["question" if turn.kind == "question" else "problem"]).format(topic=turn.topic)
    first, second = PHRASES["details"][turn.product].values()
    details = {3: [], 2: [rng.choice((*first, *second))], 1: [rng.choice(first), rng.choice(second)]}[score]
    return join_sentences(opener, rng.choice(PHRASES["bridges"][cell]), answer, *details, rng.choice(PHRASES["closers"][cell]))


WRITERS: dict[str, Callable[[random.Random, Turn, int], str]] = {
    "empathy": write_empathy_example,
    "formality": write_formality_example,
    "brevity": write_brevity_example,
}


def draw_rubric(rng: random.Random, axis: str, per_score: int) -> list[dict[str, object]]:
    """`per_score` distinct examples for each score, shuffled."""
    examples: dict[str, dict[str, object]] = {}
    for score in range(1, 6):
        count = 0
        while count < per_score:
            turn = draw_turn(rng, rng.choice(LOCALES))
            if turn.refuse:
                continue
            text = apply_locale(WRITERS[axis](rng, turn, score), turn.locale)
            if text not in examples:
                examples[text] = {"text": text, "score": score, "axis": axis}
                count += 1
    rows = list(examples.values())
    rng.shuffle(rows)
    return rows
