"""Questions of fact: general ones, and ones whose answer stands in the system message."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from demo.real.corpus.dressing import LOCALES, SIGNS, spell
from demo.real.corpus.inventory import load_inventory

Row = dict[str, object]
CONTEXT = load_inventory("context")
# What the model is served under, and so what a probe of its requests reads.
SERVED = CONTEXT["served"]
SPLITS = ("select", "test")
# Of twelve general questions, so many are for select.
SELECT_OF_TWELVE = 5
# How often every field is asked for, and how often those about billing are beyond that: a probe does not fire at all of them, and that at
# most 5 in 100 are lost takes 52 on which a vector acts.
ROUNDS, ROUNDS_OF_BILLING = {"select": 4, "test": 6}, {"select": 4, "test": 8}
STATED_AT_ONCE = 3
# Of the ways to ask for a value: what a search chooses by, no evidence asks in the same words.
WORDINGS = {"select": slice(1), "test": slice(1, None)}


def read_expected(answer: str) -> list[list[str]]:
    """What `contains` says: texts of which one will do, in each of the groups."""
    return [group.split(" / ") for group in str(answer).split(" & ")]


def write_facts(rng: Random) -> list[Row]:
    """Both kinds of question, each with what a right answer contains."""
    return [*_general(), *_from_context(rng)]


def _general() -> Iterator[Row]:
    questions = [(question, answer) for group in load_inventory("facts").values() for question, answer in group.items()]
    for index, (question, answer) in enumerate(questions):
        yield {
            "id": f"fact-{index:03d}",
            "split": "select" if index * SELECT_OF_TWELVE % 12 < SELECT_OF_TWELVE else "test",
            "messages": [{"role": "user", "content": spell(question, LOCALES[index % 2])}],
            "expect": {"contains": read_expected(answer)},
            "intent": "general",
            "locale": LOCALES[index % 2],
            "product": "none",
        }


class _Values:
    """Draws a value of a kind, and what says it. No value is drawn twice."""

    def __init__(self, rng: Random) -> None:
        self._rng, self._drawn = rng, set[str]()

    def draw(self, kind: str, locale: str) -> tuple[str, list[str]]:
        for _ in range(1000):
            value, ways = self._write(kind, locale)
            if ways[0] not in self._drawn:
                self._drawn.add(ways[0])
                return value, ways
        raise RuntimeError(f"there are too few values of {kind}")

    def _write(self, kind: str, locale: str) -> tuple[str, list[str]]:
        rng = self._rng
        if kind == "amount":
            value = f"{rng.randint(5, 160)}.{rng.randint(1, 99):02d}"
            return SIGNS[locale] + value, [value]
        if kind in ("number", "digits"):
            value = str(rng.randint(1000, 9999) if kind == "digits" else rng.randint(20000, 99999))
            return value, [value]
        if kind == "day":
            day, month = rng.randint(1, 28), rng.choice(CONTEXT["days"])
            ordinal = f"{day}{'th' if 4 <= day <= 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
            ways = [f"{day} {month}", f"{month} {day}", f"{ordinal} {month}", f"{month} {ordinal}", f"{ordinal} of {month}"]
            return ways[0] if locale == "en-GB" else ways[1], ways
        value = rng.choice(CONTEXT[{"city": "cities", "name": "names", "colour": "colours", "plan": "plans"}[kind]])
        return value, [value]


def _from_context(rng: Random) -> Iterator[Row]:
    fields, values = CONTEXT["fields"], _Values(rng)
    of_billing = [field for field in fields if field["intent"] == "billing"]
    for split in SPLITS:
        rounds = [fields] * ROUNDS[split] + [of_billing] * ROUNDS_OF_BILLING[split]
        asked = [(number, field) for number, of_round in enumerate(rounds) for field in of_round]
        for index, (number, field) in enumerate(asked):
            locale, ways_to_ask = LOCALES[number % 2], field["asked"][WORDINGS[split]]
            value, ways = values.draw(field["kind"], locale)
            stated = [field["stated"].format(value=value), *state_record(rng, locale, but=field["kind"], count=STATED_AT_ONCE - 1)]
            rng.shuffle(stated)
            yield {
                "id": f"context-{split}-{index:03d}",
                "split": split,
                "messages": [
                    {"role": "system", "content": " ".join([SERVED, *stated])},
                    {"role": "user", "content": spell(ways_to_ask[number % len(ways_to_ask)], locale)},
                ],
                "expect": {"contains": [ways]},
                "intent": field["intent"],
                "locale": locale,
                "product": "connect" if field["intent"] in ("billing", "technical") else "shop",
            }


def state_record(rng: Random, locale: str, but: str = "", count: int = STATED_AT_ONCE) -> list[str]:
    """So many facts of a customer, none of the kind `but`: where one is asked for, only its value on the page can be the answer."""
    fields = [field for field in CONTEXT["fields"] if field["kind"] != but]
    values = _Values(rng)
    return [field["stated"].format(value=values.draw(field["kind"], locale)[0]) for field in rng.sample(fields, count)]
