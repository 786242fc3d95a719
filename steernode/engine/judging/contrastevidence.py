"""What the contrast pairs say about one candidate: dose-response and controls on the test split, and the promise of the select split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.judging import stages
from steernode.engine.judging.comparison import beside, describe_shrinkage
from steernode.engine.judging.controls import SHUFFLED_PAIRS, Controls, measure_controls, shuffle_labels
from steernode.engine.judging.doseresponse import DoseResponse, measure_dose_response
from steernode.engine.judging.unrelated import unrelated_directions
from steernode.engine.measuring.items import spread
from steernode.engine.measuring.margins import margin_items, margin_slopes, measure_margins
from steernode.engine.measuring.stats import SEED, Estimate, Floats, estimate_draws
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.reading.stability import measure_stability
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.gates import OF_ONE_DIRECTION
from steernode.power import FEWEST_CLUSTERS, TEST_PAIRS

# As `TEST_PAIRS`, of the select split.
SELECT_PAIRS = 48
# Pairs of the extract split that are drawn from to see how far the direction moves.
STABILITY_PAIRS = 512
CONTROL_ITEMS = 32


class ContrastEvidence:
    """What the contrast pairs say about the candidate; nothing where there are no test pairs or nothing is steered."""

    def __init__(
        self, direction: LayerDirection, component: Component, alpha: str, unit: str, pairs: Mapping[str, Sequence[ContrastPair]]
    ) -> None:
        self._direction, self._component, self._alpha, self._unit, self._pairs = direction, component, alpha, unit, pairs
        self._why_not = "" if pairs.get("test") else "the contrast set has no pairs in its test split, or none were given"
        if not Decimal(alpha):
            self._why_not = "at α = 0 nothing is steered"
        self.dose: DoseResponse | None = None
        self.controls: Controls | None = None
        self._asked = 0
        self._select_slopes: Floats | None = None
        self._stability: Estimate | None = None

    @property
    def missing(self) -> dict[str, str]:
        """Why each of its metrics will be missing, by metric."""
        if self._why_not:
            return dict.fromkeys(OF_ONE_DIRECTION, self._why_not)
        return {} if self._pairs.get("extract") else {"stability": "the contrast set has no pairs in its extract split, or none were given"}

    def measure_dose(self, loaded: LoadedModel) -> None:
        """Raises: the codes of `margin_items` and `score_forced`."""
        if self._why_not:
            return
        test = spread(self._pairs["test"], TEST_PAIRS)
        loaded.work.enter(stages.PAIRS)
        items = margin_items(loaded, test)
        self._asked = len(test)
        loaded.work.enter(stages.DOSE)
        self.dose = measure_dose_response(loaded, self._component, self._alpha, self._unit, items, test)

    def measure_controls(self, loaded: LoadedModel) -> None:
        """After the dose. Raises: the codes of `extract_directions` and `score_forced`."""
        if self.dose is None:
            return
        loaded.work.enter(stages.CONTROLS)
        extract = spread(self._pairs.get("extract", ()), SHUFFLED_PAIRS)
        shuffled = shuffle_labels(loaded, extract, self._direction) if len(extract) > 1 else []
        if whole := spread(self._pairs.get("extract", ()), STABILITY_PAIRS):
            stability = measure_stability(loaded, whole, self._direction, seed=SEED)
            self._stability = estimate_draws(stability.cosines, len(whole), stability.questions)
        unrelated = unrelated_directions(loaded, self._direction)
        items, test = spread(self.dose.items, CONTROL_ITEMS), spread(self._pairs["test"], TEST_PAIRS)
        self.controls = measure_controls(loaded, self._component, self._alpha, items, test, shuffled, unrelated, self._direction.norm)

    def measure_promise(self, loaded: LoadedModel) -> None:
        """What the select split says of the same. Raises: the codes of `margin_items` and `score_forced`."""
        if self.dose is not None and len(self._pairs.get("select", ())) > 1:
            self._select_slopes = self._measure_select(loaded)

    def _measure_select(self, loaded: LoadedModel) -> Floats | None:
        """Slopes of the select split between α = 0 and the proposed one."""
        loaded.work.enter(stages.PROMISE)
        try:
            items = margin_items(loaded, spread(self._pairs["select"], SELECT_PAIRS))
        except EngineError as error:
            if error.code == "MARGIN_EMPTY":
                return None
            raise
        return margin_slopes([0.0, float(self._alpha)], measure_margins(loaded, items, [[], [self._component]]))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """As far as they are measured."""
        estimates = {name: found for part in (self.dose, self.controls) if part is not None for name, found in part.metrics().items()}
        found = {name: beside(estimate, 0.0) for name, estimate in estimates.items()}
        if self._stability:
            found["stability"] = beside(self._stability, 0.0)
            if (questions := self._stability.clusters) < FEWEST_CLUSTERS:
                reason = f"drawing from the pairs of {questions} questions says little of others; {FEWEST_CLUSTERS} are needed"
                found["stability"]["undecidable"] = {"code": "ITEMS_FEW", "reason": reason}
        return found

    def describe_dose(self) -> dict[str, Any] | None:
        return None if self.dose is None else {**self.dose.to_document(), "left_out": self._asked - len(self.dose.items)}

    def describe_shrinkage(self) -> dict[str, Any] | None:
        """Of the slope between 0 and the proposed α, over the same two points on both splits."""
        if self.dose is None or self._select_slopes is None or min(len(self._select_slopes), len(self.dose.items)) < 2:
            return None
        ends = [self.dose.alphas.index("0"), self.dose.alphas.index(self.dose.proposed)]
        test = margin_slopes([float(self.dose.alphas[end]) for end in ends], self.dose.margins[ends])
        return describe_shrinkage(_moments(self._select_slopes), _moments(test))


def _moments(values: Floats) -> tuple[float, float, int]:
    return float(values.mean()), float(values.std(ddof=1)), len(values)
