"""How a text is written down: spelling of a country, capitals, haste and slips of the keyboard."""

from __future__ import annotations

import re
from random import Random

from demo.real.corpus.inventory import load_inventory

LOCALES = ("en-US", "en-GB")
SIGNS = {"en-US": "$", "en-GB": "£"}
FRAMES = load_inventory("frames")
REGISTERS = {"plain": 56, "lower": 18, "typos": 18, "shout": 4, "run_on": 4}

_WORD = re.compile(r"[A-Za-z]{4,}")


def fill(text: str, rng: Random, locale: str) -> str:
    """The text with its slots filled, as a customer of the country would write it."""
    slots = FRAMES["slots"]
    given = {name: rng.choice(slots[name]) for name in ("month", "ago", "days")}
    text = text.format(amount=SIGNS[locale] + rng.choice(slots["amounts"]), **given) if "{" in text else text
    return spell(text, locale)


def spell(text: str, locale: str) -> str:
    """The text in the spelling and words of the country."""
    if locale == "en-US":
        for british, american in FRAMES["american"]:
            text = text.replace(british, american)
    return text


def dress(text: str, rng: Random) -> str:
    """The text in some register, most often the plain one."""
    register = rng.choices(list(REGISTERS), list(REGISTERS.values()))[0]
    if register == "lower":
        return text.lower().replace("'", "").rstrip(".")
    if register == "typos":
        return _slip(text, rng)
    if register == "shout":
        return text.upper()
    if register == "run_on":
        return re.sub(r"[.,] (\w)", lambda found: f" {found[1].lower()}", text).rstrip(".") + "..."
    return text


def _slip(text: str, rng: Random) -> str:
    """One to three words with a letter dropped, doubled, or swapped with the next. Never the first letter, and no figure."""
    words = list(_WORD.finditer(text))
    for found in sorted(rng.sample(words, min(len(words), rng.randint(1, 3))), key=lambda word: -word.start()):
        at = rng.randrange(found.start() + 1, found.end() - 1)
        letter, following = text[at], text[at + 1]
        text = text[:at] + rng.choice((following, letter + letter + following, following + letter)) + text[at + 2 :]
    return text
