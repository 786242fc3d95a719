"""Lenient readers of stored documents: what is not of the shape that is asked for is not there, and nothing raises.

Documents are checked when they are written; what is read may be older than the reader, or no such document at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

Document = Mapping[str, Any]


def read_mapping(value: Any, *path: str) -> Document:
    """What stands at the path."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def read_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def read_mappings(value: Any) -> list[Document]:
    return [item for item in read_list(value) if isinstance(item, dict)]


def read_number(value: Any) -> Decimal | None:
    """A finite decimal string or an integer."""
    try:
        number = Decimal(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def read_words(document: Document, name: str) -> str:
    return str(document.get(name, ""))
