"""The split of a contrast set: which pairs a direction is extracted from, which a setting is selected with, which it is tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steernode.canonical import sha256_hex
from steernode.errors import ContrastSetError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import prompt_key

# Upper ends on the unit line: 70 % extract, 15 % select, 15 % test.
SHARES = (("extract", 0.70), ("select", 0.85), ("test", 1.0))


def split_pairs(pairs: Sequence[ContrastPair]) -> dict[str, tuple[ContrastPair, ...]]:
    """The pairs by part, each in the given order; parts of a small set may be empty.

    A pair's part is decided by a hash of what it asks, never by its place in the file, so that more pairs in a later version of
    the set move none of these from one part to another. Pairs that ask the same, on either side, are one item and stay together:
    the part of the item is that of the least of its keys.
    """
    parts: dict[str, list[ContrastPair]] = {name: [] for name, _ in SHARES}
    for pair, item in zip(pairs, _items(pairs), strict=True):
        parts[_part_of(item)].append(pair)
    return {name: tuple(chosen) for name, chosen in parts.items()}


def refuse_one_question(pairs: Sequence[ContrastPair]) -> None:
    """Pairs that all ask the same stand in one part, whichever that is, and nothing is left for the others.

    Raises: ContrastSetError CONTRAST_ONE_QUESTION, which says what to do.
    """
    if len(pairs) > 1 and len(set(_items(pairs))) == 1:
        raise ContrastSetError(
            "CONTRAST_ONE_QUESTION",
            f"all {len(pairs)} pairs ask the same question, so that they cannot be split into those that make a direction and those "
            "that judge it; put what differs between the sides into the system message, and a question of its own into each pair's "
            "user message",
            pairs[0].id,
        )


def refuse_nothing_to_extract(parts: Mapping[str, Sequence[ContrastPair]]) -> None:
    """Of the pairs by part. Raises: ContrastSetError CONTRAST_EXTRACT_EMPTY."""
    if not parts["extract"]:
        pairs = [pair for part in parts.values() for pair in part]
        counts = ", ".join(f"{len(part)} to {name}" for name, part in parts.items())
        raise ContrastSetError(
            "CONTRAST_EXTRACT_EMPTY",
            f"{len(pairs)} pairs ask {len(set(_items(pairs)))} different questions, and by these go {counts}: there is nothing to make a "
            "direction from; add pairs that ask other questions",
            "extract",
        )


def _items(pairs: Sequence[ContrastPair]) -> list[str]:
    """The item of each pair, by the least key of those that ask the same."""
    least: dict[str, str] = {}

    def find(key: str) -> str:
        while least.setdefault(key, key) != key:
            key = least[key]
        return key

    for pair in pairs:
        one, other = sorted((find(prompt_key(pair.positive)), find(prompt_key(pair.negative))))
        least[other] = one
    return [find(prompt_key(pair.positive)) for pair in pairs]


def _part_of(key: str) -> str:
    # Hashed again with a word of its own, so that the part says nothing about any other choice that is made from the key.
    place = int(sha256_hex(f"steerhub.split/1:{key}".encode())[:13], 16) / 16**13
    return next(name for name, end in SHARES if place < end)
