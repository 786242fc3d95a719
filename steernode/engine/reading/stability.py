"""Stability: how far a direction moves when it is read from other pairs of the same kind, and how large it is beside what it is added to.

The number of pairs says little by itself: of one axis 45 and 266 pairs gave directions of cosine 0.998, of another they need not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from steernode.engine.access.encoding import EncodedConversation
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.capture import capture_pairs, capture_spec, read_activations
from steernode.engine.reading.directions import LayerDirection
from steernode.engine.reading.methods import NO_DIRECTION, Floats, find_direction
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import prompt_key

DRAWS = 200
# Of a method that solves for its direction.
FEWER_DRAWS = 40
_PROMPTS_AT_ONCE = 8


class Stability(NamedTuple):
    """Cosines (draws,), and how many questions the pairs ask: pairs that ask the same are drawn together."""

    cosines: Floats
    questions: int


def measure_stability(loaded: LoadedModel, pairs: Sequence[ContrastPair], like: LayerDirection, *, seed: int) -> Stability:
    """Cosines with this direction, of those that its method reads from as many pairs drawn from these with replacement.

    A draw that gives no direction has the cosine 0.
    Raises: the codes of `capture_pairs`.
    """
    spec = capture_spec(loaded, layers=[like.layer], site=like.site, read_position=like.read_position)
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for captured in capture_pairs(loaded, pairs, spec):
        sides[0].append(captured.positive[:, 0].clone())
        sides[1].append(captured.negative[:, 0].clone())
    positive, negative = (torch.cat(side) for side in sides)
    whole = like.direction.double()
    groups: dict[str, list[int]] = {}
    for row, pair in enumerate(pairs):
        groups.setdefault(prompt_key(pair.positive), []).append(row)
    rows, rng = list(groups.values()), np.random.default_rng(seed)
    cosines = []
    for _ in range(DRAWS if like.method == "mean_difference" else FEWER_DRAWS):
        drawn = torch.tensor([row for group in rng.integers(len(rows), size=len(rows)) for row in rows[group]])
        cosines.append(float(_read(like.method, positive[drawn], negative[drawn]) @ whole))
    return Stability(np.array(cosines), len(rows))


def _read(method: str, positive: Tensor, negative: Tensor) -> Tensor:
    try:
        return find_direction(method, positive, negative).double()
    except EngineError as error:
        if error.code not in NO_DIRECTION:
            raise
        return torch.zeros(positive.shape[1], dtype=torch.float64)


def measure_norms(loaded: LoadedModel, prompts: Sequence[EncodedConversation], like: LayerDirection) -> Floats:
    """The length of the residual stream (prompts,) where the reply begins, at the layer and site of the direction."""
    spec = capture_spec(loaded, layers=[like.layer], site=like.site)
    norms = [
        read_activations(loaded, prompts[start : start + _PROMPTS_AT_ONCE], spec)[:, 0].double().norm(dim=-1)
        for start in range(0, len(prompts), _PROMPTS_AT_ONCE)
    ]
    return torch.cat(norms).cpu().numpy()
