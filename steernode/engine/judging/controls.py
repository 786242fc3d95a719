"""Controls: what directions that should do nothing, or the opposite, do at the same norm. An effect has to stand out from them.

Every push on the residual stream does something: 5 to 8 points of a behaviour have been seen from random edits alone, which is
why an effect is compared with them and not with zero. Source: arXiv:2410.17245 asks for baselines; all is teacher-forced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.measuring.margins import MarginItem, measure_margins
from steernode.engine.measuring.stats import SEED, Estimate, Floats, estimate_mean, measure
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.words import STRENGTH_OPERATORS

RANDOM_DIRECTIONS = 40
FEWEST_RANDOM_DIRECTIONS = 20
SHUFFLES = 3
SHUFFLED_PAIRS = 64
QUANTILE = 0.95


@dataclass(frozen=True, eq=False)
class Controls:
    """Slopes per item between 0 and α, in nats per unit of α: of the candidate (items,) and its controls (controls, items).

    `negated` is the candidate's direction times -1; None where the operator does not know a sign. `prompt_only` is the shift of
    the margin (items,) in nats under the positive side's own prompt, with nothing steered; None where both sides ask the same.

    `shuffled_norms` are the shuffled directions' own norms as parts of the candidate's. Where all pairs differ along one line,
    little is left of them, but that little lies on the same line, and the candidate's norm brings it back: then the norms are
    the control, and the slopes are not.

    `unrelated` are directions between things that have nothing to do with the candidate (`judging.unrelated`), either way round.
    """

    items: tuple[MarginItem, ...]
    effect: Floats
    random: Floats
    unrelated: Floats
    shuffled: Floats
    shuffled_norms: tuple[float, ...]
    negated: Floats | None
    prompt_only: Floats | None

    @property
    def clusters(self) -> list[str]:
        return [item.cluster for item in self.items]

    @property
    def threshold(self) -> float:
        """The 95th percentile of the random directions' mean slopes, the next higher one where it falls between two."""
        return float(np.quantile(self.random.mean(axis=1), QUANTILE, method="higher"))

    @property
    def slope_over_random(self) -> Estimate:
        """The candidate's mean slope above the threshold."""
        return estimate_mean(self.effect - self.threshold, self.clusters)

    @property
    def unrelated_threshold(self) -> float:
        """As `threshold`, of the unrelated directions; which way round each of them lies says nothing."""
        return float(np.quantile(np.abs(self.unrelated.mean(axis=1)), QUANTILE, method="higher"))

    @property
    def slope_over_unrelated(self) -> Estimate:
        return estimate_mean(self.effect - self.unrelated_threshold, self.clusters)

    def metrics(self) -> dict[str, Estimate]:
        """What gates may be about."""
        found = {"slope_over_random": self.slope_over_random}
        return found | ({"slope_over_unrelated": self.slope_over_unrelated} if len(self.unrelated) else {})

    def to_document(self) -> dict[str, Any]:
        def describe(values: Floats | None) -> dict[str, Any] | None:
            return None if values is None else estimate_mean(values, self.clusters).to_document()

        return {
            "items": len(self.items),
            "seed": SEED,
            "slope": describe(self.effect),
            "random": {
                "count": len(self.random),
                "slopes": [measure(float(slope)) for slope in np.sort(self.random.mean(axis=1))],
                "percentile_95": measure(self.threshold),
            },
            "unrelated": {
                "count": len(self.unrelated),
                "slopes": [measure(float(slope)) for slope in np.sort(np.abs(self.unrelated.mean(axis=1)))],
                **({"percentile_95": measure(self.unrelated_threshold)} if len(self.unrelated) else {}),
            },
            **{name: estimate.to_document() for name, estimate in self.metrics().items()},
            "negated": describe(self.negated),
            "shuffled_labels": {
                "count": len(self.shuffled),
                "slopes": [measure(float(slope)) for slope in self.shuffled.mean(axis=1)],
                "norms": [measure(norm) for norm in self.shuffled_norms],
            },
            "prompt_only_shift": describe(self.prompt_only),
        }


def measure_controls(
    loaded: LoadedModel,
    component: Component,
    alpha: str,
    items: Sequence[MarginItem],
    pairs: Sequence[ContrastPair],
    shuffled: Sequence[LayerDirection],
    unrelated: Sequence[Tensor],
    norm: float,
    *,
    random_directions: int = RANDOM_DIRECTIONS,
) -> Controls:
    """Every control has the candidate's coefficient, layer, site, operator and scope, and so the same norm.

    `pairs` holds at least the pairs of the items, `shuffled` what `shuffle_labels` makes, `unrelated` what `unrelated_directions`
    does; `norm` is that of the candidate's direction.

    Raises: EngineError CONTROLS_TOO_FEW, ALPHA_ZERO, MARGIN_EMPTY, and the codes of `score_forced`.
    """
    if random_directions < FEWEST_RANDOM_DIRECTIONS:
        raise EngineError(
            "CONTROLS_TOO_FEW",
            f"{random_directions} random directions have no 95th percentile; ask for {FEWEST_RANDOM_DIRECTIONS} or more",
            str(random_directions),
        )
    if not Decimal(alpha):
        raise EngineError("ALPHA_ZERO", "at α = 0 nothing is steered, so there is nothing to compare", alpha)
    groups = [random_unit_directions(loaded.d_model, random_directions), list(unrelated), [each.direction for each in shuffled]]
    directions = [component.direction, *(direction for group in groups for direction in group)]
    if component.operator not in STRENGTH_OPERATORS:
        directions.append(-component.direction)
    variants = [[], *([replace(component, direction=direction)] for direction in directions)]
    own, *steered = measure_margins(loaded, items, variants)
    slopes = (np.stack(steered) - own) / float(alpha)
    random, others, mixed, _ = np.split(slopes[1:], np.cumsum([len(group) for group in groups]))
    return Controls(
        items=tuple(items),
        effect=slopes[0],
        random=random,
        unrelated=others,
        shuffled=mixed,
        shuffled_norms=tuple(abs(each.norm / norm) for each in shuffled),
        negated=None if component.operator in STRENGTH_OPERATORS else slopes[-1],
        prompt_only=_measure_prompts(loaded, items, pairs, own),
    )


def random_unit_directions(d_model: int, count: int, seed: int = SEED) -> list[Tensor]:
    """Unit vectors (d_model,) float32, uniform on the sphere."""
    drawn = np.random.default_rng(seed).normal(size=(count, d_model))
    return list(torch.from_numpy(drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).float())


def shuffle_labels(
    loaded: LoadedModel, pairs: Sequence[ContrastPair], like: LayerDirection, *, count: int = SHUFFLES, seed: int = SEED
) -> list[LayerDirection]:
    """Directions extracted as `like` was, after half of the pairs changed sides, a different half each time.

    Exactly half: what all pairs have in common then cancels, and what is left is what the method makes of labels that mean
    nothing. Where nothing is left there is no direction, and the shuffle is left out.

    Raises: EngineError NOTHING_MEASURED with less than two pairs, and the codes of `extract_directions` but ZERO_DIRECTION.
    """
    if len(pairs) < 2:
        raise EngineError("NOTHING_MEASURED", "shuffling labels needs two pairs at least", str(len(pairs)))
    even = pairs[: len(pairs) // 2 * 2]
    rng = np.random.default_rng(seed)
    directions = []
    for _ in range(count):
        swapped = set(rng.permutation(len(even))[: len(even) // 2].tolist())
        shuffled = [
            replace(pair, positive=pair.negative, negative=pair.positive) if index in swapped else pair for index, pair in enumerate(even)
        ]
        try:
            [extracted] = extract_directions(
                loaded, shuffled, method=like.method, read_position=like.read_position, site=like.site, layers=[like.layer]
            )
        except EngineError as error:
            if error.code != "ZERO_DIRECTION":
                raise
        else:
            directions.append(extracted)
    return directions


def _measure_prompts(loaded: LoadedModel, items: Sequence[MarginItem], pairs: Sequence[ContrastPair], own: Floats) -> Floats | None:
    pair_of = {pair.id: pair for pair in pairs}
    sides = [pair_of[item.id].positive for item in items]
    positive = [side[:-1] if side[-1].role == "assistant" else side for side in sides]
    prompts = [encoded.token_ids for encoded in encode_prompts(loaded, positive, names=[item.id for item in items])]
    prompted = [item.asked_by(prompt) for item, prompt in zip(items, prompts, strict=True)]
    if all(one.prompt == item.prompt for one, item in zip(prompted, items, strict=True)):
        return None
    shift: Floats = measure_margins(loaded, prompted, [[]])[0] - own
    return shift
