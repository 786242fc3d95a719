"""The chat template of a model folder, as text: what can be said of it without running it."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from steernode.canonical import parse_strict
from steernode.errors import CanonicalError
from steernode.words import CLOCK_ARGUMENT

_CLOCK = re.compile(rf"\b{CLOCK_ARGUMENT}\s*\(")
_MAX_BYTES = 64 * 1024 * 1024


def reads_clock(folder: Path) -> bool:
    """Whether the template may write today's date. It need not: some look at an argument first.

    Such a template is another one tomorrow, so whatever is read through it says which day it is: see `strict.read_template_arguments`.
    """
    jinja = folder / "chat_template.jinja"
    texts = [jinja.read_text(encoding="utf-8", errors="replace")] if jinja.is_file() else []
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            with suppress(CanonicalError):
                found = parse_strict((folder / name).read_bytes(), max_bytes=_MAX_BYTES, wide_integers=True)
                texts.append(str(found.get("chat_template", "")) if isinstance(found, dict) else "")
    return any(_CLOCK.search(text) for text in texts)
