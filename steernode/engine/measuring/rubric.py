"""The rubric scorer: how much of an axis a reply shows, 1 to 5, learned from separately labelled replies.

It reads text, never activations, so that a vector is not judged by the signal it was made from. It is trained again from its
examples wherever it is needed, which takes about a second; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits

from steernode.canonical import canonical_json, format_measure, sha256_hex
from steernode.errors import SuiteError
from steernode.files.suites import RubricExample

SCORES = (1, 2, 3, 4, 5)
FOLDS = 5
SEED = 0


class RubricScorer:
    """Expected scores of one axis. Make one with `RubricScorer.train`."""

    def __init__(self, axis: str, classifier: Pipeline, description: dict[str, Any]) -> None:
        self.axis = axis
        self._classifier = classifier
        self.description = description

    @classmethod
    def train(cls, examples: Sequence[RubricExample], axis: str) -> RubricScorer:
        """Fits on all examples; the accuracy in the description is of folds that were left out.

        Raises: SuiteError RUBRIC_TOO_FEW if there are fewer than two scores, or too few examples of one to leave some out.
        """
        texts = [example.text for example in examples]
        scores = np.array([example.score for example in examples])
        present, counts = np.unique(scores, return_counts=True)
        if len(present) < 2:
            raise SuiteError("RUBRIC_TOO_FEW", f"the rubric of {axis!r} needs examples of at least two different scores", axis)
        if counts.min() < FOLDS:
            rare = str(present[counts.argmin()])
            raise SuiteError(
                "RUBRIC_TOO_FEW", f"the rubric of {axis!r} has {counts.min()} examples of score {rare}, it needs {FOLDS}", rare
            )
        held_out = np.zeros(len(texts))
        for fit, check in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(texts, scores):
            fold = _fit([texts[index] for index in fit], scores[fit])
            held_out[check] = _expected_scores(fold, [texts[index] for index in check])
        description = {
            "schema": "steerhub.scorer/1",
            "kind": "rubric_classifier",
            "axis": axis,
            "examples": len(texts),
            "examples_digest": sha256_hex(canonical_json([[example.text, example.score] for example in examples])),
            "held_out": {
                "folds": FOLDS,
                "accuracy": format_measure(float((held_out.round() == scores).mean()), significant_digits=4),
                "mean_absolute_error": format_measure(float(np.abs(held_out - scores).mean()), significant_digits=4),
            },
            "seed": SEED,
            "library": f"scikit-learn {sklearn.__version__}",
        }
        return cls(axis, _fit(texts, scores), description)

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """The expected score of each text, from 1 to 5: the mean of the scores weighted by their probabilities."""
        return _expected_scores(self._classifier, texts) if texts else np.zeros(0)


def _new_classifier() -> Pipeline:
    features = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=20_000)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, max_features=20_000)),
            # Brevity is nowhere in a normalised bag of words.
            ("length", make_pipeline(FunctionTransformer(_measure_lengths), StandardScaler())),
        ]
    )
    return Pipeline([("features", features), ("scores", LogisticRegression(C=10.0, max_iter=300))])


def _fit(texts: Sequence[str], scores: npt.NDArray[np.int_]) -> Pipeline:
    # One thread: the sums are small, so that threads only wait for each other, and their order would show in the last digits.
    with threadpool_limits(1):
        return _new_classifier().fit(texts, scores)


def _measure_lengths(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.array(
        [[np.log1p(len(text.split())), text.count(".") + text.count("!") + text.count("?")] for text in texts], dtype=np.float64
    )


def _expected_scores(classifier: Pipeline, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    expected: npt.NDArray[np.float64] = classifier.predict_proba(texts) @ classifier.classes_.astype(np.float64)
    return expected
