"""Contrast sets: pairs of conversations that differ only in the behaviour. One JSON object per line."""

from __future__ import annotations

from dataclasses import dataclass

from steernode.canonical import sha256_hex
from steernode.errors import ContrastSetError
from steernode.files.conversations import LineProblems, Message, prompt_key, read_lines, read_messages, read_text, refuse_unknown_fields

__all__ = ["ContrastFile", "ContrastPair", "Message", "parse_pairs", "prompt_key"]

_FIELDS = ("id", "positive", "negative", "locale", "product")
_PROBLEMS = LineProblems("CONTRAST", ContrastSetError)


@dataclass(frozen=True, slots=True)
class ContrastPair:
    """One positive and one negative conversation. `digest` covers the exact bytes of its line."""

    id: str
    positive: tuple[Message, ...]
    negative: tuple[Message, ...]
    locale: str
    product: str
    digest: str


@dataclass(frozen=True, slots=True)
class ContrastFile:
    """A whole contrast set. `digest` covers the exact bytes of the file."""

    pairs: tuple[ContrastPair, ...]
    digest: str


def parse_pairs(data: bytes) -> ContrastFile:
    """The pairs of a contrast set, in file order.

    Raises: ContrastSetError with a CONTRAST_ code; `item` names the line.
    """
    pairs: list[ContrastPair] = []
    line_of_id: dict[str, int] = {}
    line_of_sides: dict[frozenset[tuple[Message, ...]], int] = {}
    for number, line, value in read_lines(data, _PROBLEMS):
        refuse_unknown_fields(value, _FIELDS, number, _PROBLEMS)
        pair = ContrastPair(
            id=read_text(value, "id", number, _PROBLEMS, required=True),
            positive=read_messages(value.get("positive"), "positive", number, _PROBLEMS, missing="MISSING_SIDE"),
            negative=read_messages(value.get("negative"), "negative", number, _PROBLEMS, missing="MISSING_SIDE"),
            locale=read_text(value, "locale", number, _PROBLEMS),
            product=read_text(value, "product", number, _PROBLEMS),
            digest=sha256_hex(line),
        )
        if pair.positive == pair.negative:
            raise _PROBLEMS.problem("IDENTICAL_SIDES", number, f"pair {pair.id!r} says the same on both sides, so it contrasts nothing")
        # Unordered on purpose: a pair repeated with its sides swapped cancels the first one out.
        sides = frozenset((pair.positive, pair.negative))
        if sides in line_of_sides:
            raise _PROBLEMS.problem("DUPLICATE_PAIR", number, f"pair {pair.id!r} repeats the conversations of line {line_of_sides[sides]}")
        if pair.id in line_of_id:
            raise _PROBLEMS.problem("DUPLICATE_PAIR", number, f"id {pair.id!r} was already used on line {line_of_id[pair.id]}")
        line_of_sides[sides] = line_of_id[pair.id] = number
        pairs.append(pair)
    if len(pairs) < 2:
        raise ContrastSetError("CONTRAST_TOO_FEW", "one pair cannot show a direction; write at least two", "line 1")
    return ContrastFile(tuple(pairs), sha256_hex(data))
