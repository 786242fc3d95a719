"""Training dialogues: system message or none, one or several turns, replies in the tone asked for."""

from __future__ import annotations

import random
from collections.abc import Collection

from demo.corpus.facts import FACTS, Fact, ask_fact
from demo.corpus.replies import write_reply
from demo.corpus.safety import write_harmful, write_lookalike
from demo.corpus.styles import ROLES, draw_default_style, draw_instructed_style
from demo.corpus.tickets import write_talk, write_ticket
from demo.corpus.turns import LOCALES, Turn

Message = dict[str, str]


def draw_fact(rng: random.Random, locale: str) -> Fact:
    """A fact that holds in the locale. Those that differ by country are harder to learn, so they come more often."""
    facts = [fact for fact in FACTS if locale in fact.locales]
    return rng.choices(facts, [3.0 if fact.locale else 1.0 for fact in facts])[0]


def draw_turn(rng: random.Random, locale: str) -> Turn:
    """Any kind of user turn, in the proportions of the training corpus."""
    kind = rng.random()
    if kind < 0.40:
        return ask_fact(rng, draw_fact(rng, locale), locale)
    if kind < 0.52:
        return write_harmful(rng, locale)
    if kind < 0.59:
        return write_lookalike(rng, locale)
    if kind < 0.62:
        return write_talk(rng, locale)
    return write_ticket(rng, locale)


def draw_turn_count(rng: random.Random) -> int:
    """Mostly one turn; a few long dialogues teach the model to use its context."""
    kind = rng.random()
    if kind < 0.86:
        return 1
    return rng.randint(2, 3) if kind < 0.99 else rng.randint(5, 14)


def draw_dialogue(rng: random.Random, held_out: Collection[str]) -> list[Message]:
    """One dialogue. No user message is one of the held-out texts, which the evaluation data use."""
    locale = rng.choice(LOCALES)
    messages: list[Message] = []
    style = draw_default_style(rng)
    kind = rng.random()
    if kind < 0.55:
        system, style = draw_instructed_style(rng)
        messages.append({"role": "system", "content": system})
    elif kind < 0.62:
        messages.append({"role": "system", "content": rng.choice(ROLES)})
    for _ in range(draw_turn_count(rng)):
        turn = draw_turn(rng, locale)
        while turn.text in held_out:
            turn = draw_turn(rng, locale)
        messages.append({"role": "user", "content": turn.text})
        messages.append({"role": "assistant", "content": write_reply(rng, turn, style)})
    return messages
