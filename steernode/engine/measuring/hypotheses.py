"""Family-wise error over a grid: which cells of layer × α work, when the best of many is looked at."""

from __future__ import annotations

from itertools import product

import numpy as np

from steernode.engine.measuring.stats import SEED, Clusters, Floats, refuse_bad, refuse_uneven
from steernode.errors import EngineError

PERMUTATIONS = 10_000
MAX_T = f"max-T over sign flips of whole clusters, at most {PERMUTATIONS}, one-sided (Westfall and Young 1993)"
_CHUNK = 4_000_000


def adjust_p_values(shifts: Floats, clusters: Clusters | None = None) -> Floats:
    """The family-wise adjusted p value of each cell: how often chance alone makes the best of all cells as good as this one.

    Shapes: shifts (cells, items), the steered score of an item minus its unsteered one; returns (cells,).
    Null:   steering does nothing, so that an item's shift is as likely to be its negative. The same signs are flipped in all
            cells, which keeps the correlation between neighbouring cells and makes the correction no harder than it must be.
    Exact:  up to 13 clusters every flip is tried, beyond that 10,000 seeded ones with the observed among them.
    Raises: EngineError NOTHING_MEASURED, NON_FINITE, LENGTHS_DIFFER, SHIFTS_SHAPE.
    """
    if shifts.ndim != 2:
        raise EngineError("SHIFTS_SHAPE", f"shifts are (cells, items), got {shifts.shape}", str(shifts.shape))
    refuse_bad(shifts)
    refuse_bad(shifts.T)
    owner = np.arange(shifts.shape[1])
    if clusters is not None:
        refuse_uneven(shifts[0], clusters)
        owner = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]
    sums = np.zeros((shifts.shape[0], int(owner.max()) + 1))
    np.add.at(sums.T, owner, shifts.T)
    # The sum of squares does not change under sign flips, and sum / root of it rises with Student's t: no division by a
    # variance that a lucky flip makes zero.
    scale = np.sqrt((sums**2).sum(axis=1))
    scaled = np.divide(sums, scale[:, None], out=np.zeros_like(sums), where=scale[:, None] > 0)
    # Equal sums in another order differ in the last bits and must count as equal.
    observed = scaled.sum(axis=1) - 1e-12
    reached = np.zeros(len(shifts))
    total = 0
    for signs in _flips(scaled.shape[1]):
        reached += ((signs @ scaled.T).max(axis=1)[:, None] >= observed).sum(axis=0)
        total += len(signs)
    return reached / total


def _flips(clusters: int) -> list[Floats]:
    """Signs (flips, clusters) in chunks; the first row flips nothing."""
    if 2**clusters <= PERMUTATIONS:
        return [np.array(list(product((1.0, -1.0), repeat=clusters)))]
    rng = np.random.default_rng(SEED)
    rows = max(1, _CHUNK // clusters)
    chunks = [
        rng.integers(0, 2, size=(min(rows, PERMUTATIONS - start), clusters)).astype(np.float64) * 2 - 1
        for start in range(0, PERMUTATIONS, rows)
    ]
    chunks[0][0] = 1.0
    return chunks
