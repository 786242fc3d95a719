"""Near-duplicates: pairs whose text mostly repeats an earlier pair's, found exactly and in near-linear time."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence

# Jaccard similarity of word trigrams from which two texts count as one.
THRESHOLD = 0.8
SHINGLE_WORDS = 3


def fold(text: str) -> list[str]:
    """The words of a text, without what two people would write differently: case, width, spacing, punctuation at the ends."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return [stripped for word in words if (stripped := word.strip(".,;:!?\"'()[]…«»„“”‚‘’-–—"))]


def make_shingles(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """All runs of three words; a shorter text is one run."""
    if len(words) <= SHINGLE_WORDS:
        return frozenset([tuple(words)])
    return frozenset(tuple(words[start : start + SHINGLE_WORDS]) for start in range(len(words) - SHINGLE_WORDS + 1))


def find_near_duplicates(texts: Sequence[Sequence[str]], threshold: float = THRESHOLD) -> dict[int, int]:
    """{index: the earliest kept index that it repeats}, for texts given as words. A text that repeats another is not kept.

    Two sets with a Jaccard similarity of t or more share one of the rarest n - ⌈t·n⌉ + 1 members of each, and differ in size
    by at most a factor t: only such candidates are compared, so the answer is exact.
    Source: prefix filtering of set joins, Bayardo, Ma and Srikant (2007), "Scaling up all pairs similarity search".
    """
    sets = [make_shingles(words) for words in texts]
    seen_in = Counter(shingle for shingles in sets for shingle in shingles)
    # Ties by the shingle itself, so that the order of the texts changes nothing but who came first.
    rank = {shingle: place for place, shingle in enumerate(sorted(seen_in, key=lambda shingle: (seen_in[shingle], shingle)))}
    exact: dict[frozenset[tuple[str, ...]], int] = {}
    kept_with: dict[int, list[int]] = {}
    repeats: dict[int, int] = {}
    for index, shingles in enumerate(sets):
        if shingles in exact:
            repeats[index] = exact[shingles]
            continue
        ranks = sorted(rank[shingle] for shingle in shingles)
        prefix = ranks[: len(ranks) - math.ceil(threshold * len(ranks)) + 1]
        candidates = sorted({earlier for place in prefix for earlier in kept_with.get(place, ())})
        found = next((earlier for earlier in candidates if _is_similar(shingles, sets[earlier], threshold)), None)
        if found is not None:
            repeats[index] = found
            continue
        exact[shingles] = index
        for place in prefix:
            kept_with.setdefault(place, []).append(index)
    return repeats


def _is_similar(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]], threshold: float) -> bool:
    if min(len(one), len(other)) < threshold * max(len(one), len(other)):
        return False
    common = len(one & other)
    return common >= threshold * (len(one) + len(other) - common)
