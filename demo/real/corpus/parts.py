"""Which texts may be used for what. A text, and all that is made from it, belongs to one part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Generic, TypeVar

# To make something (a contrast set, a probe's training), to choose, and to confirm.
PARTS = ("make", "select", "test")

T = TypeVar("T")


def divide(texts: Sequence[T]) -> dict[str, list[T]]:
    """The first half is for making, a sixth for select, the rest for test."""
    made, chosen = len(texts) // 2, len(texts) // 2 + max(1, len(texts) // 6)
    return {"make": list(texts[:made]), "select": list(texts[made:chosen]), "test": list(texts[chosen:])}


class Deck(Generic[T]):
    """Deals every entry once, in a drawn order, before any comes again."""

    def __init__(self, entries: Sequence[T], rng: Random) -> None:
        self._entries, self._rng, self._left = list(entries), rng, list[T]()

    def deal(self) -> T:
        if not self._left:
            self._left = self._rng.sample(self._entries, len(self._entries))
        return self._left.pop()


class UnusedTexts:
    """Draws texts that no file has used yet, which keeps pairs, splits and suites apart."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def draw(self, write: Callable[[], T], text_of: Callable[[T], str]) -> T:
        for _ in range(1000):
            drawn = write()
            key = " ".join(text_of(drawn).casefold().split())
            if key not in self.used:
                self.used.add(key)
                return drawn
        raise RuntimeError("the inventories are too small for this many distinct texts")
