"""The models whose vectors are judged, each with the data that a team would judge them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.keeping import KeptWork, keep_work
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.measuring.metrics import Scorer
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.files.contrast import ContrastPair, parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile, parse_rubric, parse_suite

SMOLLM2 = Path("models/smollm2-135m-instruct")
_SUITES = {"tickets": "behaviour", "facts": "factual", "refusals": "safety", "capability": "capability"}


@dataclass(frozen=True)
class Window:
    """Where a vector of the axis is known to do what it should, in mean differences, and where none can."""

    layers: tuple[int, ...]
    alphas: tuple[str, ...]
    overdosed: tuple[str, ...]
    too_early: tuple[int, ...]
    too_late: tuple[int, ...]
    # Whether what lies in it is known to be good for whatever is asked.
    is_good: bool = True


# What searches on the select split found (docs/benchmarks.md).
WINDOWS = {
    "reference": Window((6,), ("0.3",), ("1", "1.25", "1.5", "2"), (0, 1), (7,)),
    "smollm2": Window((16, 15), ("0.75", "1"), ("1.75", "2", "2.5", "3"), (0, 1, 2), (26, 28, 29), is_good=False),
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, the contrast sets on record by axis, and what a vector of the axis `axis` is judged by.

    `planted` is the direction that the behaviour of a model was made to hang on, where it was.
    """

    name: str
    loaded: LoadedModel
    axis: str
    sets: Mapping[str, Sequence[ContrastPair]]
    suites: Mapping[str, SuiteFile]
    scorer: Scorer
    window: Window
    max_new_tokens: int
    planted: Any = None
    _read: dict[Any, dict[int, LayerDirection]] = field(default_factory=dict)

    @property
    def pairs(self) -> dict[str, tuple[ContrastPair, ...]]:
        return split_pairs(self.sets[self.axis])

    def with_work(self, work: KeptWork) -> Subject:
        return replace(self, loaded=replace(self.loaded, work=work))

    def extract(self, axis: str, layer: int, method: str = "mean_difference", count: int = 0, seed: int = 0) -> LayerDirection:
        """Of the extract part of an axis, or of so many of its pairs drawn with a seed."""
        key = (axis, method, count, seed)
        if key not in self._read:
            part = split_pairs(self.sets[axis])["extract"]
            if count:
                drawn = np.random.default_rng(seed).permutation(len(part))[:count]
                part = tuple(part[index] for index in sorted(drawn))
            self._read[key] = self.read(part, method)
        return self._read[key][layer]

    def refusal(self, layer: int) -> LayerDirection:
        """From harmless requests to harmful ones, of the select split: whoever wants refusals gone has requests of their own."""
        key = "refusal"
        if key not in self._read:
            asked = self.suites["safety"].split("select")
            harmful, harmless = ([item.messages for item in asked if item.expect["refuse"] is wanted] for wanted in (True, False))
            self._read[key] = self.read(
                ContrastPair(f"refusal-{number}", *sides, "", "", "0" * 64)
                for number, sides in enumerate(zip(harmful, cycle(harmless), strict=False))
            )
        return self._read[key][layer]

    def read(self, pairs: Iterable[ContrastPair], method: str = "mean_difference") -> dict[int, LayerDirection]:
        """The direction at every layer where the pairs have one."""
        layers = list(range(self.loaded.n_layers))
        return {found.layer: found for found in extract_directions(self.loaded, tuple(pairs), method=method, layers=layers)}


def reference_subject() -> Subject:
    """The model that ships with the demo. Of its three axes empathy has a window (docs/benchmarks.md), the others are for comparison."""
    return _of_files("reference", Path("demo/model"), Path("demo/data"), ("empathy", "formality", "brevity"), 64)


def smollm2_subject(folder: Path = SMOLLM2) -> Subject:
    """A pretrained chat model. No vector of it is known to be good for all intents at once."""
    return _of_files("smollm2", folder, Path("demo/real/data"), ("empathy", "formality"), 48)


def _of_files(name: str, folder: Path, data: Path, axes: Sequence[str], max_new_tokens: int) -> Subject:
    rubric = parse_rubric((data / f"{axes[0]}.rubric.jsonl").read_bytes())
    return Subject(
        name,
        load_model(folder),
        axes[0],
        {axis: parse_pairs((data / f"{axis}.pairs.jsonl").read_bytes()).pairs for axis in axes},
        {
            kind: parse_suite((data / f"{file}.jsonl").read_bytes(), kind)
            for file, kind in _SUITES.items()
            if (data / f"{file}.jsonl").exists()
        },
        RubricScorer.train(rubric.examples, rubric.axis),
        WINDOWS[name],
        max_new_tokens,
    )


def kept_in(subject: Subject, root: Path, on_stage: Any = lambda _stage: None) -> Subject:
    """The subject, whose work is kept below the folder."""
    return subject.with_work(KeptWork(keep_work(subject.loaded, root), on_stage))
