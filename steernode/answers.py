"""Whether a reply says what a right answer says, read from its text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from steernode.files.suites import SuiteItem

# Nearly every text holds an "o" somewhere: what is this short counts as a word of its own, and not as a part of one.
SHORT_TEXT = 2
# What stands in more than this share of replies to something else says nothing about the reply that it is looked for in.
COMMON = 0.5


def is_right(item: SuiteItem, text: str) -> bool:
    """The reply says what the item expects: `contains`, or an object of `json`."""
    if "json" in item.expect:
        return holds_object(text, item.expect["json"])
    return states_facts(text, item.expect["contains"])


def states_facts(text: str, contains: Sequence[str | Sequence[str]]) -> bool:
    """Every fact that a right answer contains is in the text, whatever its case and the blanks around it.

    A fact is a text that stands anywhere in the reply, within a word too ("Rom" is in "Roman"); one of at most two characters stands
    there as a word. Or it is a list of texts that mean the same ("seven", "7"), one of which stands there as words.
    """
    folded = text.casefold()
    return all(_states(folded, fact) for fact in contains)


def _states(folded: str, fact: str | Sequence[str]) -> bool:
    if isinstance(fact, str):
        text = _fold(fact)
        return bool(_as_words(text).search(folded)) if len(text) <= SHORT_TEXT else text in folded
    return any(_as_words(way).search(folded) for way in fact)


def _fold(text: str) -> str:
    return text.strip().casefold()


@lru_cache(maxsize=4096)
def _as_words(text: str) -> re.Pattern[str]:
    """The text where no letter or digit adjoins it. A number is whole: "7" is not in "7,000" and "15" not in "15.50"."""
    folded = _fold(text)
    before = (r"(?<!\w)" if folded[0].isalnum() else "") + (r"(?<!\d[.,])" if folded[0].isdigit() else "")
    after = (r"(?!\w)" if folded[-1].isalnum() else "") + (r"(?![.,]\d)" if folded[-1].isdigit() else "")
    return re.compile(before + re.escape(folded) + after)


def holds_object(text: str, wanted: Mapping[str, Any]) -> bool:
    """Some JSON object in the text has every wanted field with exactly that value; further fields and prose around it are no fault."""
    decoder = json.JSONDecoder()
    for start in (found.start() for found in re.finditer(r"\{", text)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if all(name in value and _equal(value[name], wanted[name]) for name in wanted):
            return True
    return False


def _equal(found: Any, wanted: Any) -> bool:
    """As JSON: Python says that true is 1."""
    return json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def cluster_of(item: SuiteItem) -> str:
    """Items of one cluster succeed and fail together: those that expect the same facts are phrasings of one question."""
    facts = item.expect.get("contains")
    if facts is None:
        return item.id
    return " | ".join(sorted(_fold(fact) if isinstance(fact, str) else " / ".join(sorted(map(_fold, fact))) for fact in facts))


def find_common(items: Iterable[SuiteItem], replies: Sequence[str]) -> list[SuiteItem]:
    """The items whose expected texts stand in most of these replies, which were written to something else: `["the"]`."""
    expecting = [item for item in items if "contains" in item.expect]
    return [item for item in expecting if sum(states_facts(reply, item.expect["contains"]) for reply in replies) > COMMON * len(replies)]
