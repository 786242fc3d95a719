"""Messages, and the strict reading of files that hold one conversation per line (contrast sets, suites, rubrics)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex
from steernode.errors import CanonicalError, SteerError

ROLES = ("system", "user", "assistant")
MAX_LINE_BYTES = 256 * 1024
MAX_LINES = 100_000


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str

    def to_document(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class LineProblems:
    """How one kind of file names its problems: the prefix of its codes and the class of its errors."""

    prefix: str
    error: type[SteerError]

    def problem(self, suffix: str, number: int, text: str) -> SteerError:
        return self.error(f"{self.prefix}_{suffix}", f"line {number}: {text}", f"line {number}")


def read_lines(data: bytes, problems: LineProblems) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Each line's number (from 1), exact bytes and object. The bytes are what a line's digest covers."""
    if not data.strip():
        raise problems.error(f"{problems.prefix}_EMPTY", "the file has no lines; write one JSON object per line")
    if data.startswith(b"\xef\xbb\xbf"):
        raise problems.problem("ENCODING", 1, "the file starts with a byte order mark; save it as plain UTF-8")
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) > MAX_LINES:
        raise problems.error(f"{problems.prefix}_TOO_MANY", f"{len(lines)} lines, at most {MAX_LINES} are accepted")
    for number, line in enumerate(lines, start=1):
        yield number, line, _read_object(line, number, problems)


def _read_object(line: bytes, number: int, problems: LineProblems) -> dict[str, Any]:
    if len(line) >= MAX_LINE_BYTES:
        raise problems.problem("LINE_TOO_LONG", number, f"{len(line)} bytes, a line must stay under {MAX_LINE_BYTES}")
    if line.endswith(b"\r"):
        raise problems.problem("ENCODING", number, "ends with a carriage return; save the file with plain line feeds")
    if not line.strip():
        raise problems.problem("NOT_JSONL", number, "is blank; every line holds one JSON object")
    try:
        value = parse_strict(line, max_bytes=MAX_LINE_BYTES)
    except CanonicalError as error:
        suffix = "ENCODING" if error.code == "JSON_ENCODING" else "NOT_JSONL"
        raise problems.problem(suffix, number, error.message) from error
    if not isinstance(value, dict):
        raise problems.problem("NOT_JSONL", number, f"holds a {type(value).__name__}, every line holds one JSON object")
    return value


def refuse_unknown_fields(value: dict[str, Any], known: Sequence[str], number: int, problems: LineProblems) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise problems.problem("UNKNOWN_FIELD", number, f"unknown field {unknown[0]!r}; known are {', '.join(known)}")


def read_text(value: dict[str, Any], field: str, number: int, problems: LineProblems, *, required: bool = False) -> str:
    """A text field; absent means empty unless required."""
    text = value.get(field, "")
    if not isinstance(text, str):
        raise problems.problem("FIELD", number, f"{field} must be text, got {type(text).__name__}")
    if required and not text.strip():
        raise problems.problem("FIELD", number, f"{field} is missing or blank")
    _refuse_nul(text, field, number, problems)
    return text


def read_messages(value: Any, field: str, number: int, problems: LineProblems, *, missing: str) -> tuple[Message, ...]:
    """The conversation in `field`; `missing` is the code suffix for one that is absent or says nothing."""
    if not isinstance(value, list) or not value:
        raise problems.problem(missing, number, f"{field} must be a list of messages with role and content")
    messages = tuple(_read_message(item, position, field, number, problems) for position, item in enumerate(value))
    if not any(message.content.strip() for message in messages if message.role != "system"):
        raise problems.problem(missing, number, f"{field} has no user or assistant text")
    return messages


def _read_message(item: Any, position: int, field: str, number: int, problems: LineProblems) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("content"), str) or not isinstance(item.get("role"), str):
        raise problems.problem("ROLE", number, f"{field}[{position}] must have a text role and a text content")
    refuse_unknown_fields(item, ("role", "content"), number, problems)
    if item["role"] not in ROLES:
        raise problems.problem("ROLE", number, f"{field}[{position}] has the role {item['role'][:40]!r}; known are {', '.join(ROLES)}")
    if item["role"] == "system" and position > 0:
        raise problems.problem("ROLE", number, f"{field}[{position}] is a system message; it may only come first")
    _refuse_nul(item["content"], f"{field}[{position}]", number, problems)
    return Message(item["role"], item["content"])


def _refuse_nul(text: str, field: str, number: int, problems: LineProblems) -> None:
    # A NUL ends the text in half of the tools that will ever read it, and no database column can hold it.
    if "\x00" in text:
        raise problems.problem("ENCODING", number, f"{field} holds a NUL character")


def prompt_key(messages: Sequence[Message]) -> str:
    """What makes two prompts the same question: sha256 of the folded text of all non-system turns before the final answer.

    The final assistant turns are left out, so that a contrast pair's conversation meets a suite item that asks the same.
    """
    turns = [message for message in messages if message.role != "system"]
    asked = list(turns)
    while asked and asked[-1].role == "assistant":
        asked.pop()
    folded = [[turn.role, " ".join(unicodedata.normalize("NFKC", turn.content).casefold().split())] for turn in asked or turns]
    return sha256_hex(canonical_json(folded))
