"""Strict readers for the fields of a document. Each takes the field's path, and raises FieldError, which names it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from steernode.canonical import canonical_json, parse_alpha
from steernode.errors import AlphaError, FieldError, SteerError
from steernode.words import CLOCK_ARGUMENT, MAX_TEMPLATE_ARGUMENTS, MAX_TEMPLATE_TEXT, NO_TEMPLATE_ARGUMENTS

_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MEASURE = re.compile(r"(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?", re.ASCII)
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d)?", re.ASCII)
_MAX_ITEMS = 100_000
_LONGEST_SHOWN = 80
_T = TypeVar("_T")


@contextmanager
def refused_as(fault: type[SteerError], code: str) -> Iterator[None]:
    """Inside it, or in a function under it, a wrong field is this fault: what it means to whoever reads the document."""
    try:
        yield
    except FieldError as error:
        raise fault(code, error.message, error.item) from error


def read_exactly(value: Any, path: str, names: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(value, dict):
        raise FieldError(path, "must be an object")
    wrong = sorted((set(value) ^ set(names)) - set(optional))
    if wrong:
        raise FieldError(f"{path}.{wrong[0]}", "is unknown" if wrong[0] in value else "is missing")


def read_list(value: Any, path: str, read: Callable[[Any, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise FieldError(path, f"must be a list of at most {_MAX_ITEMS} items")
    return tuple(read(item, f"{path}[{position}]") for position, item in enumerate(value))


def read_text(value: Any, path: str, least: int = 1, most: int = 200) -> str:
    if not isinstance(value, str) or not least <= len(value) <= most or not value.isprintable():
        raise FieldError(path, f"must be printable text of {least} to {most} characters")
    return value


def _shown(value: Any) -> str:
    """As much of a wrong value as a sentence needs: whoever sent it knows the rest."""
    return repr(value)[:_LONGEST_SHOWN]


def read_one_of(value: Any, path: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise FieldError(path, f"is {_shown(value)}; known are {', '.join(known)}")
    return value


def read_switch(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise FieldError(path, "must be true or false")
    return value


def read_integer(value: Any, path: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise FieldError(path, f"must be an integer of at least {least}, got {_shown(value)}")
    return value


def read_digest(value: Any, path: str) -> str:
    return read_hexadecimal(value, path, 64)


def read_hexadecimal(value: Any, path: str, *lengths: int) -> str:
    if not isinstance(value, str) or len(value) not in lengths or not _HEX.fullmatch(value):
        raise FieldError(path, f"must be {' or '.join(map(str, lengths))} lower-case hexadecimal digits")
    return value


def read_alpha(value: Any, path: str) -> Decimal:
    if not isinstance(value, str):
        raise FieldError(path, f"must be a decimal string, got {_shown(value)}")
    try:
        return parse_alpha(value)
    except AlphaError as error:
        raise FieldError(path, f"is no coefficient: {error.message}") from error


def read_measure(value: Any, path: str) -> Decimal:
    if not isinstance(value, str) or not _MEASURE.fullmatch(value):
        raise FieldError(path, f"must be a decimal string from 0 up, got {_shown(value)}")
    return Decimal(value)


def read_template_arguments(value: Any, path: str) -> dict[str, str | int | bool]:
    """What a chat template is given beside the messages, by name: text, whole numbers, true and false. Sorted by name.

    No fractions, because two machines may print one differently, and no null, which a template may or may not take for nothing.
    """
    if not isinstance(value, dict) or len(value) > MAX_TEMPLATE_ARGUMENTS:
        raise FieldError(path, f"must be an object of at most {MAX_TEMPLATE_ARGUMENTS} arguments")
    for name, given in value.items():
        if not isinstance(name, str) or not _ARGUMENT.fullmatch(name) or name in NO_TEMPLATE_ARGUMENTS:
            raise FieldError(path, f"names {_shown(name)}, which is no argument of a template, or one that it is given anyway")
        if not isinstance(given, str | int):
            raise FieldError(f"{path}.{name}", f"must be text, a whole number, true or false, got {_shown(given)}")
        if isinstance(given, str) and (len(given) > MAX_TEMPLATE_TEXT or not given.replace("\n", "").isprintable()):
            raise FieldError(f"{path}.{name}", f"must be printable text of at most {MAX_TEMPLATE_TEXT} characters")
        if isinstance(given, int) and abs(given) >= 2**53:
            raise FieldError(f"{path}.{name}", "is too large a number")
    if CLOCK_ARGUMENT in value:
        read_clock(value[CLOCK_ARGUMENT], f"{path}.{CLOCK_ARGUMENT}")
    return dict(sorted(value.items()))


def are_same_arguments(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a template is given the same. True is not 1 to it, though Python takes them for equal."""
    return canonical_json(dict(one)) == canonical_json(dict(other))


def read_clock(value: Any, path: str) -> datetime:
    """A date, whose time is midnight, or a date and a time. It has no zone: it is what a clock shows."""
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        with suppress(ValueError):
            return datetime.fromisoformat(value)
    raise FieldError(path, f"must be a date such as 2026-11-30 or 2026-11-30T09:00:00, got {_shown(value)}")


def format_time(moment: datetime) -> str:
    """UTC to the second, the only form a snapshot holds a time in."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: Any, path: str) -> datetime:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise FieldError(path, f"must be a UTC time such as 2026-11-22T10:00:00Z, got {text!r}")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise FieldError(path, f"{text} is not a day of the calendar") from error
