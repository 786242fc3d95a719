"""JSON bodies as people and nodes send them: strict, and free of what no record can hold."""

from typing import Any

from steernode.canonical import parse_strict
from steernode.errors import CanonicalError


def parse_body(data: bytes, *, max_bytes: int, max_depth: int) -> Any:
    """The value of a JSON body. Raises: CanonicalError JSON_*, JSON_NUL for a NUL character, which PostgreSQL cannot store."""
    value = parse_strict(data, max_bytes=max_bytes, max_depth=max_depth)
    # A NUL can only arrive escaped: JSON has no other way to write one.
    if b"\\u0000" in data and _holds_nul(value):
        raise CanonicalError("JSON_NUL", "the body holds a NUL character, which no record can hold")
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_holds_nul(item) for item in value)
