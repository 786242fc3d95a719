"""The one byte form of every digested document, and the strict parser for JSON written by others.

Digests cover exact stored bytes, so these rules never change for an existing schema: keys sorted by code point,
no spaces, UTF-8 unescaped, integers and decimal strings but never floats.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

from steernode.errors import AlphaError, CanonicalError, LayerError

DEFAULT_MAX_BYTES = 16 * 1024 * 1024
DEFAULT_MAX_DEPTH = 32
ALPHA_LIMIT = Decimal(1000)
ALPHA_MAX_DIGITS = 12
_ALPHA = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)
_INTEGER_LIMIT = 2**63
# Tokenizer files write "no limit" as a 31-digit integer; nothing we read needs more.
_WIDE_INTEGER_LIMIT = 10**40


def sha256_hex(data: bytes) -> str:
    """The lower-case hexadecimal sha256 of exactly these bytes."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """The canonical bytes of a JSON value.

    Raises: CanonicalError FLOAT_IN_DIGEST for a float, NOT_CANONICAL for a type or text JSON cannot carry.
    """
    _refuse_uncanonical(value, "$")
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError("NOT_CANONICAL", f"text holds a lone surrogate near character {error.start}") from error


def parse_strict(
    data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_depth: int = DEFAULT_MAX_DEPTH, wide_integers: bool = False
) -> Any:
    """The JSON value in these bytes, refusing everything two parsers might read differently.

    `wide_integers` admits integers past 64 bits, which some tokenizer files contain.
    Raises: CanonicalError JSON_TOO_LARGE, JSON_ENCODING, JSON_SYNTAX, JSON_DUPLICATE_KEY, JSON_NUMBER, JSON_DEPTH.
    """
    if len(data) > max_bytes:
        raise CanonicalError("JSON_TOO_LARGE", f"{len(data)} bytes of JSON, at most {max_bytes} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CanonicalError("JSON_ENCODING", f"not UTF-8 at byte {error.start}", f"byte {error.start}") from error
    integer_limit = _WIDE_INTEGER_LIMIT if wide_integers else _INTEGER_LIMIT

    def parse_integer(digits: str) -> int:
        # The length is checked first: turning a very long digit string into an integer is slow.
        if len(digits) > 42 or abs(int(digits)) >= integer_limit:
            raise CanonicalError("JSON_NUMBER", f"integer {digits[:24]} is too large", digits[:24])
        return int(digits)

    try:
        value = json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=parse_integer
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise CanonicalError("JSON_SYNTAX", f"not JSON at {where}: {error.msg}", where) from error
    except RecursionError as error:
        raise CanonicalError("JSON_DEPTH", f"JSON nested deeper than {max_depth} levels") from error
    _refuse_deep_or_surrogate(value, max_depth)
    return value


def parse_alpha(value: str | Decimal | int) -> Decimal:
    """A coefficient as an exact decimal. Floats are refused because two machines may print one differently.

    Raises: AlphaError ALPHA_FORMAT, or ALPHA_RANGE when the magnitude is above 1000.
    """
    if isinstance(value, bool) or not isinstance(value, str | Decimal | int):
        raise AlphaError(
            "ALPHA_FORMAT", f"a coefficient is a decimal string such as '0.5', got {type(value).__name__} {value!r}", repr(value)
        )
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise AlphaError("ALPHA_FORMAT", f"a coefficient must be finite, got {value}", str(value))
        if abs(value.adjusted()) > 2 * ALPHA_MAX_DIGITS:
            raise AlphaError("ALPHA_FORMAT", f"coefficient {value} has more than {ALPHA_MAX_DIGITS} digits", str(value)[:40])
    text = format_decimal(value) if isinstance(value, Decimal) else str(value)
    shown = text[:40]
    if not _ALPHA.fullmatch(text):
        raise AlphaError("ALPHA_FORMAT", f"coefficient {shown!r} is not a plain decimal number such as '-0.5'", shown)
    if sum(character.isdigit() for character in text) > ALPHA_MAX_DIGITS:
        raise AlphaError("ALPHA_FORMAT", f"coefficient {shown!r} has more than {ALPHA_MAX_DIGITS} digits", shown)
    number = Decimal(text)
    if number.is_zero() and text.startswith("-"):
        raise AlphaError("ALPHA_FORMAT", f"coefficient {shown!r} is negative zero; write '0'", shown)
    if abs(number) > ALPHA_LIMIT:
        raise AlphaError("ALPHA_RANGE", f"coefficient {shown} is outside -{ALPHA_LIMIT} to {ALPHA_LIMIT}", shown)
    return number


def format_decimal(value: Decimal) -> str:
    """Plain notation, no exponent, no trailing zeros; '0' for every zero."""
    if not value.is_finite():
        raise CanonicalError("NOT_CANONICAL", f"{value} has no plain decimal form", str(value))
    if value.is_zero():
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_measure(value: float, *, significant_digits: int = 9) -> str:
    """A measured number (a norm, a metric) as the decimal string that enters a digested document."""
    if not math.isfinite(value):
        raise CanonicalError("NOT_CANONICAL", f"{value} is not finite and cannot enter a document", str(value))
    return format_decimal(Decimal(f"{value:.{significant_digits - 1}e}"))


def parse_layer(value: Any, n_layers: int) -> int:
    """The index of a decoder block, counted from 0. Only a true integer will do: 'layer -1' means three things in three libraries."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n_layers:
        raise LayerError("LAYER_RANGE", f"layer {value!r} is not an integer from 0 to {n_layers - 1}", repr(value)[:40])
    return value


def _refuse_uncanonical(value: Any, path: str) -> None:
    if value is None or isinstance(value, bool | int | str):
        return
    if isinstance(value, float):
        raise CanonicalError("FLOAT_IN_DIGEST", f"{path} is the float {value!r}; write a decimal string or an integer", path)
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise CanonicalError("NOT_CANONICAL", f"{path} has the key {key!r}, which is not text", path)
            _refuse_uncanonical(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _refuse_uncanonical(item, f"{path}[{position}]")
    else:
        raise CanonicalError("NOT_CANONICAL", f"{path} is a {type(value).__name__}, which JSON cannot carry", path)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise CanonicalError("JSON_DUPLICATE_KEY", f"the key {key[:80]!r} appears twice in one object", key[:80])
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise CanonicalError("JSON_NUMBER", f"{name} is not a JSON number", name)


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise CanonicalError("JSON_NUMBER", f"number {text[:24]} is too large", text[:24])
    return number


def _refuse_deep_or_surrogate(value: Any, max_depth: int) -> None:
    """Walks without recursion, because the depth is the very thing not yet trusted."""
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            try:
                item.encode("utf-8")
            except UnicodeEncodeError as error:
                raise CanonicalError("JSON_ENCODING", f"text holds a lone surrogate: {item[:40]!a}") from error
        elif isinstance(item, dict | list):
            if depth >= max_depth:
                raise CanonicalError("JSON_DEPTH", f"JSON nested deeper than {max_depth} levels")
            if isinstance(item, dict):
                pending.extend((key, depth + 1) for key in item)
                pending.extend((child, depth + 1) for child in item.values())
            else:
                pending.extend((child, depth + 1) for child in item)
