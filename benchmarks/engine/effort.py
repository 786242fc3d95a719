"""How much is measured: enough for figures that stand, or just enough to see that everything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SMALL, LARGE = "reference", "llama-1024x16"
ALL_DATA = ("system contrast", "shared prefix", "nothing shared")


@dataclass(frozen=True)
class Effort:
    """At least 9 repeats of everything, and more where the bound lies within a few percent of what is measured. Pairs of the
    large model are few because one of them costs a third of a second.

    `defaults` says which data sets are also measured at everybody's defaults; `search_pairs` and `search_tries` are for finding
    a peer's best batch size, `grid_passes` how often the search for a cell goes over its grid, one layer of which is one repeat.
    """

    quick: bool = False
    repeats: int = 9
    warmups: Mapping[str, int] = field(default_factory=lambda: {SMALL: 2, LARGE: 1})
    pairs: Mapping[str, int] = field(default_factory=lambda: {SMALL: 128, LARGE: 16})
    search_pairs: Mapping[str, int] = field(default_factory=lambda: {SMALL: 64, LARGE: 16})
    search_tries: Mapping[str, int] = field(default_factory=lambda: {SMALL: 2, LARGE: 1})
    defaults: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {SMALL: ALL_DATA, LARGE: ("system contrast",)})
    new_tokens: Mapping[str, int] = field(default_factory=lambda: {SMALL: 48, LARGE: 8})
    serving_repeats: Mapping[str, int] = field(default_factory=lambda: {SMALL: 61, LARGE: 15})
    contrast_pairs: int = 800
    grid_passes: int = 2
    grid_every: int = 1
    memory_pairs: tuple[int, int] = (1_000, 100_000)

    def grid_layers(self, n_layers: int) -> list[int]:
        return list(range(0, n_layers, self.grid_every))


QUICK = Effort(
    quick=True,
    repeats=3,
    warmups={SMALL: 1, LARGE: 0},
    pairs={SMALL: 32, LARGE: 2},
    search_pairs={SMALL: 8, LARGE: 1},
    search_tries={SMALL: 1, LARGE: 1},
    new_tokens={SMALL: 16, LARGE: 3},
    serving_repeats={SMALL: 3, LARGE: 3},
    contrast_pairs=200,
    grid_passes=1,
    grid_every=3,
    memory_pairs=(1_000, 4_000),
)
