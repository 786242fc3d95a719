"""The one form of a text that names something: a route, a rollout key, an attribute's value, the name of a record.

Two texts that no eye tells apart are one name, or no name. So Unicode's composed form (NFC) is the one that is kept and compared, and what
begins or ends with a space, or holds what cannot be seen, is refused. It is so at every door: the API, manifests, `steer`, the console,
OFREP and nodes. Nothing is trimmed: who is told that " chat " is no route turns off the right one.
"""

from __future__ import annotations

import unicodedata

from steernode.errors import SpellingError


def normal_form(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def spell(text: str, what: str) -> str:
    """The name in its one form; empty text names nothing, and stays. `what` is for the sentence. Raises: SpellingError SPELLING."""
    name = normal_form(text)
    if name != name.strip():
        raise SpellingError("SPELLING", f"{what} {text[:80]!r} begins or ends with a space; write it without", text[:80])
    if not name.isprintable():
        raise SpellingError("SPELLING", f"{what} {text[:80]!r} holds a character that cannot be seen; write it without", text[:80])
    return name


def says_something(text: str) -> bool:
    """Whether an eye finds anything in it: a reason of spaces, or of what has no shape, is none."""
    return any(character.isprintable() and not character.isspace() for character in text)
