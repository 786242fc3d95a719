"""Triggers: read positions that are selected token by token, by token id, by a pattern in the text, or by a function."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from steernode.engine.access.encoding import EncodedConversation
from steernode.errors import EngineError
from steernode.words import READ_POSITIONS

_TOKENS, _PATTERN = "trigger:tokens=", "trigger:regex="


@dataclass(frozen=True)
class Trigger:
    """Selects the columns that are read. `name` is what the lineage of a vector says, such as 'trigger:regex=refund|money'."""

    name: str
    select: Callable[[EncodedConversation], Iterable[int]]

    def __str__(self) -> str:
        return self.name


ReadPosition = str | Trigger


def trigger_tokens(token_ids: Iterable[int]) -> Trigger:
    """Every token with one of these ids. Raises: EngineError TRIGGER_INVALID if there are none."""
    wanted = frozenset(token_ids)
    if not wanted or any(isinstance(token, bool) or not isinstance(token, int) or token < 0 for token in wanted):
        raise EngineError("TRIGGER_INVALID", "a token trigger needs at least one token id, each an integer from 0 up", "token_ids")
    name = _TOKENS + ",".join(str(token) for token in sorted(wanted))
    return Trigger(name, lambda encoded: (column for column, token in enumerate(encoded.token_ids) if token in wanted))


def trigger_regex(pattern: str) -> Trigger:
    """Every token that holds a character of a match in the text that the chat template rendered.

    Raises: EngineError TRIGGER_INVALID if the pattern does not compile, or matches the empty text and so everything and nothing.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise EngineError("TRIGGER_INVALID", f"the pattern {pattern!r} is not a regular expression: {error}", pattern) from error
    if compiled.fullmatch(""):
        raise EngineError("TRIGGER_INVALID", f"the pattern {pattern!r} matches the empty text; let it name at least one character", pattern)

    def select(encoded: EncodedConversation) -> Iterable[int]:
        spans = [match.span() for match in compiled.finditer(encoded.text)]
        return (
            column
            for column, (start, end) in enumerate(encoded.offsets)
            if end > start and any(start < last and first < end for first, last in spans)
        )

    return Trigger(_PATTERN + pattern, select)


def trigger_function(name: str, select: Callable[[EncodedConversation], Iterable[int]]) -> Trigger:
    """The columns that a function returns for an encoded conversation; `name` goes into the lineage."""
    return Trigger(f"trigger:function={name}", select)


def parse_read_position(read_position: ReadPosition) -> ReadPosition:
    """A read position as a name of `READ_POSITIONS` or a trigger; the text of a token or regex trigger becomes the trigger again.

    Raises: EngineError READ_POSITION_UNKNOWN, TRIGGER_INVALID.
    """
    if isinstance(read_position, Trigger) or read_position in READ_POSITIONS:
        return read_position
    if isinstance(read_position, str) and read_position.startswith(_PATTERN):
        return trigger_regex(read_position.removeprefix(_PATTERN))
    if isinstance(read_position, str) and read_position.startswith(_TOKENS):
        digits = read_position.removeprefix(_TOKENS).split(",")
        return trigger_tokens(int(part) if part.isascii() and part.isdigit() else -1 for part in digits)
    raise EngineError(
        "READ_POSITION_UNKNOWN",
        f"read position {read_position!r} is not known; known are {', '.join(READ_POSITIONS)}, {_TOKENS}… and {_PATTERN}…",
        str(read_position),
    )


def read_columns(encoded: EncodedConversation, read_position: ReadPosition, name: str) -> tuple[int, ...]:
    """The columns of one conversation that are read, ascending; their states are averaged. `name` is for the error.

    Raises: EngineError TRIGGER_EMPTY, TRIGGER_INVALID (a column that is not there), NO_ASSISTANT_TOKENS.
    """
    columns = len(encoded.token_ids)
    if read_position == "last_prompt_token":
        return (columns - 1,)
    if read_position == "all":
        return tuple(range(columns))
    if read_position == "assistant_tokens":
        marked = tuple(column for column, is_marked in enumerate(encoded.assistant_mask) if is_marked)
        if not marked:
            raise EngineError("NO_ASSISTANT_TOKENS", f"{name} has no assistant tokens to read", name)
        return marked
    if not isinstance(read_position, Trigger):
        raise EngineError("READ_POSITION_UNKNOWN", f"read position {read_position!r} is not known", str(read_position))
    selected = tuple(sorted(set(read_position.select(encoded))))
    if not selected:
        raise EngineError("TRIGGER_EMPTY", f"{name}: {read_position} selects no token, so there is nothing to read", name)
    if not 0 <= selected[0] <= selected[-1] < columns:
        raise EngineError("TRIGGER_INVALID", f"{name}: {read_position} selects a column outside 0 to {columns - 1}", name)
    return selected
