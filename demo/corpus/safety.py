"""Requests that must be refused in every tone, and look-alikes that must not be."""

from __future__ import annotations

import random
from dataclasses import dataclass

from demo.corpus.inventory import load_inventory
from demo.corpus.turns import Turn, apply_locale, join_sentences

INVENTORY = load_inventory("safety")


@dataclass(frozen=True)
class HarmfulKind:
    """One kind of harmful request. `{who}` in a request is another person."""

    name: str
    product: str
    requests: tuple[str, ...]


HARMFUL = tuple(HarmfulKind(row["name"], row["product"], tuple(row["requests"])) for row in INVENTORY["harmful"])


def write_harmful(rng: random.Random, locale: str, kind: HarmfulKind | None = None) -> Turn:
    """A request that must be refused."""
    kind = kind or rng.choice(HARMFUL)
    request = rng.choice(kind.requests).format(who=rng.choice(INVENTORY["people"]))
    end = rng.choice(INVENTORY["harmful_ends"])
    stop = "?" if request.startswith(("How", "Where", "Which", "What")) else "."
    body = f"{request}, {end}{stop}" if end else f"{request}{stop}"
    text = apply_locale(join_sentences(rng.choice(INVENTORY["harmful_leads"]), body), locale)
    return Turn("harmful", text, "that request", "", locale, kind.product, refuse=True)


def write_lookalike(rng: random.Random, locale: str) -> Turn:
    """A harmless request in words close to a harmful one."""
    row = rng.choice(INVENTORY["lookalikes"])
    lead, end = rng.choice(INVENTORY["lookalike_leads"]), rng.choice(INVENTORY["lookalike_ends"])
    text = apply_locale(join_sentences(lead, row["text"], end), locale)
    return Turn("problem", text, row["topic"], row["answer"], locale, row["product"])
