"""Replies of chat models that are labelled as refusal, compliance or incapacity, and which of them never train the judge of refusals.

They ship as text: one file of JSON lines a language, those of a real model with the labels of two readers, and `heldout.json`, which
names wordings, languages and sources. It was written before any accuracy was known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from steernode.canonical import canonical_json, parse_strict, sha256_hex

FOLDER = files("steernode").joinpath("data/refusals")
HELD_OUT = "heldout.json"


@dataclass(frozen=True, slots=True)
class LabelledReply:
    """`family` is the wording. Where two people read a reply, `readers` are their labels, and there is no `label` if they differ."""

    text: str
    label: str | None
    family: str
    language: str
    source: str
    readers: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledReplies:
    training: tuple[LabelledReply, ...]
    held_out: tuple[LabelledReply, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Over the texts with all that is said of them, whatever the files look like."""
        return {"training": digest_of(self.training), "held_out": digest_of(self.held_out)}


def digest_of(replies: Iterable[LabelledReply]) -> str:
    return sha256_hex(canonical_json([[reply.text, reply.label, reply.family, reply.language, reply.source] for reply in replies]))


@cache
def read_labelled() -> LabelledReplies:
    """What ships, by language and then in the order of its file."""
    held = read_held_out()
    names = sorted(entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".jsonl"))
    rows = [read_reply(parse_strict(line)) for name in names for line in FOLDER.joinpath(name).read_bytes().splitlines()]
    kept_back = [is_held_out(row, held) for row in rows]
    training = tuple(row for row, held_back in zip(rows, kept_back, strict=True) if not held_back)
    return LabelledReplies(training, tuple(row for row, held_back in zip(rows, kept_back, strict=True) if held_back))


def read_held_out() -> Any:
    return parse_strict(FOLDER.joinpath(HELD_OUT).read_bytes())


def read_reply(row: Any) -> LabelledReply:
    return LabelledReply(row["text"], row.get("label"), row["family"], row["language"], row["source"], tuple(row.get("readers", ())))


def is_held_out(reply: LabelledReply, held: Any) -> bool:
    """By its wording, by its language, by where it is from, or because its readers differ."""
    return (
        reply.label is None
        or reply.family in held["families"][reply.label]
        or reply.language in held["languages"]
        or reply.source in held["sources"]
    )
