"""Diagnostics of a contrast set, before compute is spent on it: first from its text alone, then from a sample's activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from steernode.canonical import format_measure, sha256_hex
from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.duplicates import THRESHOLD, find_near_duplicates, fold
from steernode.engine.reading.separation import Separation, d_prime, measure_separation
from steernode.engine.reading.triggers import ReadPosition
from steernode.errors import ContrastSetError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message

SCHEMA = "steerhub.diagnostics/1"
RECOMMENDED_PAIRS = 500
SAMPLE_PAIRS = 128
# A difference of means of half a standard deviation is what statistics calls medium.
MAX_LENGTH_D_PRIME = 0.5
MAX_DUPLICATE_SHARE = 0.05
# A feature that is right three times in four, where guessing is right two times in four.
MIN_LEAK_ACCURACY = 0.75
# A group with less than half of its even share.
MIN_BALANCE = 0.5
MIN_D_PRIME = 1.0
_MAX_LEAKS = 10
_MAX_NAMED = 20


@dataclass(frozen=True)
class Finding:
    """What a reviewer should know. `severity`: error (extraction would mislead), warning (look at it), info."""

    code: str
    severity: str
    sentence: str

    def to_document(self) -> dict[str, str]:
        return {"code": self.code, "severity": self.severity, "sentence": self.sentence}


@dataclass(frozen=True)
class Diagnostics:
    """`document` can go into canonical JSON: its numbers are integers and decimal strings. The findings are in it too."""

    document: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)


def diagnose(
    pairs: Sequence[ContrastPair],
    loaded: LoadedModel | None = None,
    *,
    read_position: ReadPosition = "last_prompt_token",
    site: str = "resid_post",
    layers: Sequence[int] | None = None,
    sample_pairs: int = SAMPLE_PAIRS,
    on_progress: Progress | None = None,
) -> Diagnostics:
    """What speaks for and against reading a direction from these pairs. Without a model only the text is looked at.

    With a model, one pass over a sample of the pairs, chosen by the hash of their ids and so the same every time.

    Raises: ContrastSetError CONTRAST_EMPTY, PAIRS_TOO_FEW (fewer than 8 in the sample); the codes of `capture_pairs`.
    """
    if not pairs:
        raise ContrastSetError("CONTRAST_EMPTY", "there are no pairs to diagnose")
    text, findings = _diagnose_text(pairs)
    document: dict[str, Any] = {"schema": SCHEMA, "pairs": len(pairs), "recommended_pairs": RECOMMENDED_PAIRS, **text}
    if loaded is not None:
        sample = sorted(pairs, key=lambda pair: sha256_hex(pair.id.encode()))[:sample_pairs]
        separation = measure_separation(loaded, sample, read_position=read_position, site=site, layers=layers, on_progress=on_progress)
        document["geometry"] = separation.to_document()
        findings += _judge_separation(separation)
    document["findings"] = [finding.to_document() for finding in findings]
    return Diagnostics(document, tuple(findings))


def _diagnose_text(pairs: Sequence[ContrastPair]) -> tuple[dict[str, Any], list[Finding]]:
    findings: list[Finding] = []
    if len(pairs) < RECOMMENDED_PAIRS:
        findings.append(
            Finding(
                "PAIRS_FEW",
                "warning",
                f"{len(pairs)} pairs; {RECOMMENDED_PAIRS} are recommended. How far the direction moves with other pairs of the kind, its "
                "evidence says (stability)",
            )
        )
    sections = {
        "near_duplicates": _diagnose_duplicates(pairs, findings),
        "length": _diagnose_length(pairs, findings),
        "leakage": _diagnose_leakage(pairs, findings),
        "balance": {name: _diagnose_balance(pairs, name, findings) for name in ("locale", "product")},
    }
    return sections, findings


def _diagnose_duplicates(pairs: Sequence[ContrastPair], findings: list[Finding]) -> dict[str, Any]:
    texts = [_words(pair.positive, "user", "assistant") + _words(pair.negative, "user", "assistant") for pair in pairs]
    repeats = find_near_duplicates(texts)
    named = [[pairs[index].id, pairs[earlier].id] for index, earlier in list(repeats.items())[:_MAX_NAMED]]
    if len(repeats) > MAX_DUPLICATE_SHARE * len(pairs):
        findings.append(
            Finding(
                "NEAR_DUPLICATES",
                "warning",
                f"{len(repeats)} of {len(pairs)} pairs nearly repeat an earlier one, such as {named[0][0]!r} and {named[0][1]!r}; "
                "they count twice without saying more",
            )
        )
    return {"threshold": format_measure(THRESHOLD), "count": len(repeats), "examples": named}


def _diagnose_length(pairs: Sequence[ContrastPair], findings: list[Finding]) -> dict[str, Any]:
    document = {}
    for name, roles in (("conversation", ("system", "user", "assistant")), ("assistant", ("assistant",)), ("system", ("system",))):
        positive = np.array([len(_words(pair.positive, *roles)) for pair in pairs], dtype=np.float64)
        negative = np.array([len(_words(pair.negative, *roles)) for pair in pairs], dtype=np.float64)
        found = d_prime(positive, negative)
        document[name] = {
            "positive_words": format_measure(positive.mean()),
            "negative_words": format_measure(negative.mean()),
            "d_prime": format_measure(found),
        }
        if abs(found) > MAX_LENGTH_D_PRIME:
            longer = "positive" if found > 0 else "negative"
            findings.append(
                Finding(
                    "LENGTH_CONFOUND",
                    "warning",
                    f"the {longer} side's {name} text is longer (d′ {found:.2f}); the direction may mean length",
                )
            )
    return document


def _diagnose_leakage(pairs: Sequence[ContrastPair], findings: list[Finding]) -> dict[str, Any]:
    document = {}
    for role in ("user", "assistant"):
        sides = [[_words(side, role) for side in sides] for sides in zip(*((p.positive, p.negative) for p in pairs), strict=True)]
        leaks = find_leaks(*sides)
        document[role] = [{"text": text, "accuracy": format_measure(accuracy), "side": side} for text, accuracy, side in leaks]
        if leaks:
            text, accuracy, side = leaks[0]
            findings.append(
                Finding(
                    "TEMPLATE_LEAK",
                    "warning",
                    f"in the {role} text, {text!r} alone marks the {side} side with {accuracy:.0%} accuracy; "
                    "the direction may mean that wording",
                )
            )
    return document


def find_leaks(positive: Sequence[Sequence[str]], negative: Sequence[Sequence[str]]) -> list[tuple[str, float, str]]:
    """Runs of one to three words whose presence alone tells the sides apart: (text, balanced accuracy, the side it marks).

    Balanced accuracy is ½ + |share of positive texts that hold it - share of negative| / 2. A run is in no more texts than
    each of its words, so only runs of frequent words are counted, and memory does not grow with the vocabulary.
    """
    least = 2 * MIN_LEAK_ACCURACY - 1
    frequent: set[str] = set()
    for texts in (positive, negative):
        counted = Counter(word for words in texts for word in set(words))
        frequent |= {word for word, count in counted.items() if count >= least * len(texts)}
    counts = [Counter(run for words in texts for run in set(_runs(words, frequent))) for texts in (positive, negative)]
    leaks = []
    for run in set(counts[0]) | set(counts[1]):
        difference = counts[0][run] / len(positive) - counts[1][run] / len(negative)
        if abs(difference) >= least:
            leaks.append((" ".join(run), 0.5 + abs(difference) / 2, "positive" if difference > 0 else "negative"))
    return sorted(leaks, key=lambda leak: (-leak[1], len(leak[0]), leak[0]))[:_MAX_LEAKS]


def _runs(words: Sequence[str], frequent: set[str]) -> Iterator[tuple[str, ...]]:
    known = [word if word in frequent else None for word in words]
    yield from ((word,) for word in known if word is not None)
    for one, two in pairwise(known):
        if one is not None and two is not None:
            yield one, two
    for one, two, three in zip(known, known[1:], known[2:], strict=False):
        if one is not None and two is not None and three is not None:
            yield one, two, three


def _diagnose_balance(pairs: Sequence[ContrastPair], name: str, findings: list[Finding]) -> dict[str, int]:
    counts = Counter(str(getattr(pair, name)) for pair in pairs)
    if len(counts) > 1:
        rarest, count = min(counts.items(), key=lambda entry: (entry[1], entry[0]))
        if count * len(counts) < MIN_BALANCE * len(pairs):
            findings.append(
                Finding(
                    "UNBALANCED",
                    "warning",
                    f"{name} {rarest!r} has {count} of {len(pairs)} pairs, an even share is {len(pairs) // len(counts)}; "
                    "the direction will be the others'",
                )
            )
    if "" in counts and len(counts) > 1:
        findings.append(Finding("GROUP_MISSING", "info", f"{counts['']} pairs name no {name}"))
    return dict(sorted(counts.items()))


def _judge_separation(separation: Separation) -> list[Finding]:
    findings = []
    best = separation.best_layer
    if not best.is_consistent:
        findings.append(
            Finding(
                "DIFFERENCES_DISAGREE",
                "error",
                f"at no layer do the pairs' differences agree more than with shuffled labels (best: layer {best.layer}, mean cosine "
                f"{best.cosine:.3f}, shuffled up to {best.shuffled_cosine:.3f}); there is no common direction to read",
            )
        )
    if best.d_prime < MIN_D_PRIME:
        findings.append(
            Finding("SEPARATION_LOW", "warning", f"the sides lie d′ {best.d_prime:.2f} apart at the best layer {best.layer}; 1 is little")
        )
    for kind, values in best.groups.items():
        for name, value in values.items():
            if best.d_prime >= MIN_D_PRIME and value < best.d_prime / 2:
                findings.append(
                    Finding(
                        "GROUP_SEPARATION_LOW",
                        "warning",
                        f"{kind} {name!r} is separated less than half as well as the rest (d′ {value:.2f} against {best.d_prime:.2f})",
                    )
                )
    return findings


def _words(messages: Sequence[Message], *roles: str) -> list[str]:
    return [word for message in messages if message.role in roles for word in fold(message.content)]
