"""`make harmful`: the weights of `steernode/harmful.py` from the labelled requests, and what held-out ones say of them.

Every figure is of requests that the weights of that figure were not learned from (five folds; for a language left out, all of it).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from steernode.harmful import BUCKETS, RUNS, SCHEMA, Classifier, hash_runs, spell_out

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT / "steernode/data/harmful"
WEIGHTS = ROOT / "steernode/data/harmful.json"
LANGUAGES = ("en", "de", "fr", "es", "it")
# Of the harmful requests that were held out, so many fire: a miss is steered, a false alarm is only not steered.
WANTED_HITS = 0.9
LEAST_KNOWN = 0.4
STRENGTH = 30.0


class Request(NamedTuple):
    language: str
    text: str
    is_harmful: bool


def read_requests(languages: Sequence[str] = LANGUAGES) -> list[Request]:
    """The labelled requests: one a line, under a heading that says which they are."""
    found = []
    for language in languages:
        is_harmful = False
        for line in (TEXTS / f"{language}.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("# "):
                is_harmful = line == "# harmful"
            elif line.strip():
                found.append(Request(language, line, is_harmful))
    return found


def digest_requests(requests: Sequence[Request]) -> str:
    return sha256("\n".join(f"{each.language} {each.is_harmful} {each.text}" for each in requests).encode()).hexdigest()


def count_runs(texts: Sequence[str]) -> csr_matrix:
    """(texts, buckets): how often each run stands in a text, over the root of how many it has."""
    rows, columns, values = [], [], []
    for row, text in enumerate(texts):
        buckets = np.concatenate([hash_runs(spell_out(text), run) for run in RUNS])
        rows.append(np.full(len(buckets), row))
        columns.append(buckets)
        values.append(np.full(len(buckets), 1 / np.sqrt(max(1, len(buckets)))))
    return csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(len(texts), BUCKETS))


def learn(requests: Sequence[Request], threshold: float = 0.0) -> Classifier:
    features = count_runs([request.text for request in requests])
    solver: dict[str, Any] = {"solver": "liblinear", "dual": True, "random_state": 0, "max_iter": 1000}
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", **solver)
    model.fit(features, [each.is_harmful for each in requests])
    words = frozenset(word for request in requests for word in spell_out(request.text).split())
    return Classifier(model.coef_[0], words, float(model.intercept_[0]), threshold, LEAST_KNOWN)


def score_held_out(requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
    """Score and share of known words of each request by a classifier that has not seen it."""
    strata = [f"{each.language}{each.is_harmful}" for each in requests]
    scores, shares = np.zeros(len(requests)), np.zeros(len(requests))
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(strata, strata):
        classifier = learn([requests[row] for row in train])
        for row in test:
            text = spell_out(requests[row].text)
            scores[row], shares[row] = classifier.score(text), classifier.share_known(text)
    return scores, shares


def write(classifier: Classifier, requests: Sequence[Request]) -> None:
    """Weights as whole numbers from -127 to 127, in base64."""
    scale = float(np.abs(classifier.weights).max()) / 127
    stored = np.round(classifier.weights / scale).astype(np.int8)
    document = {
        "schema": SCHEMA,
        "name": "harmful-requests",
        "version": 1,
        "languages": list(LANGUAGES),
        "requests": digest_requests(requests),
        "runs": list(RUNS),
        "bias": f"{classifier.bias:.6f}",
        "threshold": f"{classifier.threshold:.6f}",
        "least_known": f"{classifier.least_known:.2f}",
        "scale": f"{scale:.9f}",
        "words": " ".join(sorted(classifier.words)),
        "weights": b64encode(stored.tobytes()).decode(),
    }
    WEIGHTS.write_text(json.dumps(document) + "\n", encoding="utf-8")


def main() -> None:
    requests = read_requests()
    scores, shares = score_held_out(requests)
    labels = np.array([each.is_harmful for each in requests])
    threshold = float(np.quantile(scores[labels], 1 - WANTED_HITS))
    print("| language | harmful | found | undecided | harmless | false alarms | undecided |\n| --- | --- | --- | --- | --- | --- | --- |")
    for language in (*LANGUAGES, "all"):
        own = np.array([language in (each.language, "all") for each in requests])
        cells = []
        for is_harmful in (True, False):
            chosen = own & (labels == is_harmful)
            fires, unknown = scores[chosen] >= threshold, shares[chosen] < LEAST_KNOWN
            cells += [str(chosen.sum()), f"{fires.mean():.0%}", f"{(~fires & unknown).mean():.0%}"]
        print(f"| {language} | {' | '.join(cells)} |")
    write(replace(learn(requests), threshold=threshold), requests)


if __name__ == "__main__":
    main()
