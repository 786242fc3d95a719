"""How far rounding alone may move a result, measured where it is needed: for two computations that mean the same and are not the same.

The last bits of a matrix product may depend on the shape of the batch and on the place in it, and whether they do depends on the
processor. What is the same computation is compared bit for bit; everything else with a tolerance from here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steernode.engine.access.models import LoadedModel
from steernode.engine.measuring.forced import ForcedText, Variant, score_forced


def tolerance(moved: Sequence[float], largest: float) -> float:
    """From how far something moved where only rounding could move it, and from its largest value, both in its unit.

    Noise is measured on a few shapes and places. Others may be four times as far off, and differ in a last bit where none of these does.
    """
    return 4 * max(*moved, float(np.finfo(np.float32).eps) * largest)


def tolerance_of_scores(loaded: LoadedModel, texts: Sequence[ForcedText], variant: Variant) -> float:
    """In nats, from one steering that is scored four times in one run, in other rows of its batches each time."""
    scores = score_forced(loaded, texts, [variant] * 4)
    return tolerance(
        [float(np.ptp(values, axis=0).max()) for values in (scores.log_likelihood, *scores.kl)], float(np.abs(scores.log_likelihood).max())
    )
