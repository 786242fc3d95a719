"""Labelled prompts in the words of the tiny tokenizer: those of a refund, and those of anything else."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

from tests.support.tiny_words import WORDS

SPLITS = ("train", "select", "test")
_OTHER = [word for word in WORDS if word != "refund"]


def prompt_rows(each: int = 20, *, positive: Any = True, negative: Any = False, about: str = "refund") -> list[dict[str, Any]]:
    """As many of each class in each split; every positive one speaks of a refund."""
    texts = iter(permutations(_OTHER, 4))
    rows = []
    for split in SPLITS:
        for number in range(2 * each):
            words = list(next(texts))
            is_positive = number % 2 == 0
            if is_positive:
                words[1:2] = [about, about]
            rows.append(
                {
                    "id": f"{split}-{number}",
                    "split": split,
                    "messages": [{"role": "user", "content": " ".join(words)}],
                    "label": positive if is_positive else negative,
                    "kind": "plain" if number % 4 < 2 else "other",
                    "locale": "en-GB" if number % 3 else "de-DE",
                    "product": "card",
                }
            )
    return rows


def prompt_file(rows: list[dict[str, Any]] | None = None) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in (prompt_rows() if rows is None else rows))
