"""Whether somebody asks for something harmful, told from the text alone, by a small linear classifier that ships.

It is what a node has where nobody tells it anything: no fact from a gateway and no probe of this very model. Weights on hashed runs of
letters, in a data file (`make harmful`, from the labelled requests in `data/harmful/`); numpy and no other library. It is a tripwire and no
moderation: docs/security.md says how often it is right. What it cannot read is *undecided*, and whoever asks treats that as harmful.
"""

from __future__ import annotations

import json
import re
import unicodedata
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SCHEMA = "steerhub.text-classifier/1"
RUNS = (3, 4, 5)
BUCKETS = 2**18
# A request may hide in a long text, so it is looked for in every stretch of so many letters.
STRETCH, STEP = 80, 20
# Of words, by which a language is told; a longer one counts once for every so many letters.
WORDS, LETTERS = 12, 6
# Of all that was said, more than a node's models read; beyond it nobody looks.
MAX_CHARACTERS = 200_000
_NUMBER = re.compile("0+")
_FILE = Path(__file__).parent / "data" / "harmful.json"
Floats = NDArray[np.float64]
Buckets = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`why` says in words what was found, or why nothing could be."""

    word: Literal["harmful", "harmless", "undecided"]
    why: str


@dataclass(frozen=True, eq=False)
class Classifier:
    """Fires on a stretch with bias + Σ weights / √runs ≥ threshold, in log-odds. `least_known` is the share of the words of any stretch
    that are among those of the labelled requests: with fewer, the text is in no language that was learned. A long word counts as several,
    since a whole sentence without blanks is one."""

    weights: Floats
    words: frozenset[str]
    bias: float
    threshold: float
    least_known: float
    name: str = "harmful-requests"

    def judge(self, texts: Sequence[str]) -> Verdict:
        """Of all that was said, one after the other and each alone: a request may be spread over several messages."""
        whole = " ".join(texts)
        # As it was sent: blanks and invisible characters count, since what stands behind them is to be read as well.
        if len(whole) > MAX_CHARACTERS:
            return Verdict("undecided", f"more than {MAX_CHARACTERS} characters were said")
        parts = [spell_out(text) for text in (*texts, whole)]
        if len(parts[-1].split()) == 0:
            return Verdict("undecided", "there is nothing to read")
        foreign = find_foreign(whole)
        undecided = f"{foreign!a} is of no script that {self.name} learned" if foreign else ""
        for part in filter(str.strip, parts):
            score, known = self.score(part), self.share_known(part)
            if score >= self.threshold:
                return Verdict("harmful", f"{self.name} reads {score:.2f}, {self.threshold:.2f} and more is harmful")
            if known < self.least_known:
                undecided = f"{self.name} knows {known:.0%} of some words of what was said, {self.least_known:.0%} are needed"
        return Verdict("undecided", undecided) if undecided else Verdict("harmless", "")

    def score(self, text: str) -> float:
        """The log-odds of the most harmful stretch of what `spell_out` gave."""
        sums, counts = np.zeros(len(text) + 1), np.zeros(len(text) + 1)
        for run in RUNS:
            buckets = hash_runs(text, run)
            ends = slice(1, len(buckets) + 1)
            sums[ends] += self.weights[buckets]
            counts[ends] += 1
        first = np.arange(0, max(1, len(text) - STRETCH + STEP), STEP)
        last = np.minimum(first + STRETCH, len(text))
        weight, runs = (values.cumsum()[last] - values.cumsum()[first] for values in (sums, counts))
        return float((self.bias + weight / np.sqrt(np.maximum(1, runs))).max())

    def share_known(self, text: str) -> float:
        """Of the words of the least known stretch of what `spell_out` gave; a number is one letter, however long it is."""
        words = text.split()
        counts = [ceil(len(_NUMBER.sub("0", word)) / LETTERS) for word in words]
        known = np.repeat([float(word in self.words) for word in words], counts)
        stretch = min(WORDS, len(known))
        return float(np.convolve(known, np.ones(stretch) / stretch, "valid").min())


def spell_out(text: str) -> str:
    """Letters without case, accents and invisible characters, with one space between words and at both ends. Digits count alike."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = (character for character in plain if unicodedata.category(character) not in ("Mn", "Cf"))
    spaced = "".join("0" if character.isdigit() else character if character.isalpha() else " " for character in kept)
    return f" {' '.join(spaced.split())} "


def find_foreign(text: str) -> str:
    """The first character of a script in which no labelled request is written, or of which nobody says what it is; empty without one."""
    for character in sorted(set(unicodedata.normalize("NFKD", text.casefold()))):
        if character.isalpha() and not unicodedata.name(character, "").startswith("LATIN "):
            return character
        if unicodedata.category(character) in ("Cn", "Co", "Cs"):
            return character
    return ""


def hash_runs(text: str, run: int) -> Buckets:
    """The bucket of each run of so many letters, one after the other."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    count = max(0, len(codes) - run + 1)
    hashed = np.full(count, run, dtype=np.uint64)
    for place in range(run):
        hashed = (hashed ^ codes[place : place + count]) * np.uint64(0x100000001B3)
    mixed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(40)) % np.uint64(BUCKETS)).astype(np.int64)


@lru_cache(maxsize=1)
def load_classifier() -> Classifier:
    """The one that ships. Raises: OSError, ValueError or KeyError if its file is not what it must be."""
    return read_classifier(json.loads(_FILE.read_bytes()))


def read_classifier(document: dict[str, Any]) -> Classifier:
    """Raises: ValueError, KeyError."""
    stored = np.frombuffer(b64decode(document["weights"], validate=True), dtype=np.int8)
    if document["schema"] != SCHEMA or stored.shape != (BUCKETS,) or tuple(document["runs"]) != RUNS:
        raise ValueError("the classifier of harmful requests is of another form")
    numbers = {name: float(document[name]) for name in ("bias", "threshold", "least_known")}
    words = frozenset(document["words"].split())
    return Classifier(
        stored.astype(np.float64) * float(document["scale"]), words, **numbers, name=f"{document['name']} {document['version']}"
    )
