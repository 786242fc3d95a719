"""Strict readers for the fields of a snapshot. Each takes the field's path, which is what a refusal names."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from steernode.canonical import parse_alpha
from steernode.errors import AlphaError, SnapshotRefused

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MEASURE = re.compile(r"(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?", re.ASCII)
_MAX_ITEMS = 100_000
_T = TypeVar("_T")


def refuse_field(path: str, problem: str) -> SnapshotRefused:
    return SnapshotRefused("SCHEMA", f"{path} {problem}", path)


def read_exactly(value: Any, path: str, names: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(value, dict):
        raise refuse_field(path, "must be an object")
    wrong = sorted((set(value) ^ set(names)) - set(optional))
    if wrong:
        raise refuse_field(f"{path}.{wrong[0]}", "is unknown" if wrong[0] in value else "is missing")


def read_list(value: Any, path: str, read: Callable[[Any, str], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise refuse_field(path, f"must be a list of at most {_MAX_ITEMS} items")
    return tuple(read(item, f"{path}[{position}]") for position, item in enumerate(value))


def read_text(value: Any, path: str, least: int = 1) -> str:
    if not isinstance(value, str) or not least <= len(value) <= 200 or not value.isprintable():
        raise refuse_field(path, f"must be printable text of {least} to 200 characters")
    return value


def read_one_of(value: Any, path: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise refuse_field(path, f"is {value!r}; known are {', '.join(known)}")
    return value


def read_integer(value: Any, path: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise refuse_field(path, f"must be an integer of at least {least}, got {value!r}")
    return value


def read_digest(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise refuse_field(path, "must be 64 lower-case hexadecimal digits")
    return value


def read_alpha(value: Any, path: str) -> Decimal:
    if not isinstance(value, str):
        raise refuse_field(path, f"must be a decimal string, got {value!r}")
    try:
        return parse_alpha(value)
    except AlphaError as error:
        raise refuse_field(path, f"is no coefficient: {error.message}") from error


def read_measure(value: Any, path: str) -> Decimal:
    if not isinstance(value, str) or not _MEASURE.fullmatch(value):
        raise refuse_field(path, f"must be a decimal string from 0 up, got {value!r}")
    return Decimal(value)


def format_time(moment: datetime) -> str:
    """UTC to the second, the only form a snapshot holds a time in."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time(text: Any, path: str) -> datetime:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise refuse_field(path, f"must be a UTC time such as 2026-11-22T10:00:00Z, got {text!r}")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise refuse_field(path, f"{text} is not a day of the calendar") from error
