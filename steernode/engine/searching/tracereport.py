"""The trace document: several pairs' causal traces averaged by layer and group of tokens, as canonical JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steernode.engine.access.batches import Progress
from steernode.engine.access.models import LoadedModel
from steernode.engine.measuring.forced import Floats
from steernode.engine.measuring.stats import measure
from steernode.engine.searching.trace import GROUPS, PairTrace, TracePair, trace_pair
from steernode.errors import EngineError

SCHEMA = "steerhub.trace/1"


def trace(loaded: LoadedModel, pairs: Sequence[TracePair], *, detailed: int = 1, on_progress: Progress | None = None) -> dict[str, Any]:
    """Traces pairs at every layer. The first `detailed` ones position by position too, which costs a run per token.

    A pair whose two runs do not differ by more than noise says nothing and is named under `left_out`. `on_progress(done, total)`
    counts layers over all pairs.

    Raises: EngineError TRACE_EMPTY, TRACE_NO_EFFECT if no pair is left, and the codes of `trace_pair`.
    """
    if not pairs:
        raise EngineError("TRACE_EMPTY", "there are no pairs to trace")
    traced: list[PairTrace] = []
    left_out: list[str] = []
    total = len(pairs) * loaded.n_layers
    for index, pair in enumerate(pairs):

        def advance(done: int, _total: int, before: int = index * loaded.n_layers) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        try:
            traced.append(trace_pair(loaded, pair, with_positions=len(traced) < detailed, on_progress=advance))
        except EngineError as error:
            if error.code != "TRACE_NO_EFFECT":
                raise
            left_out.append(pair.id)
            advance(loaded.n_layers, loaded.n_layers)
    if not traced:
        raise EngineError("TRACE_NO_EFFECT", f"in none of {len(pairs)} pairs do the two runs differ; nothing to trace", pairs[0].id)
    return describe_trace(loaded, traced, left_out)


def describe_trace(loaded: LoadedModel, traced: Sequence[PairTrace], left_out: Sequence[str] = ()) -> dict[str, Any]:
    """`recovered`: group -> one value per layer, the mean over the pairs that have the group; null where none has it."""
    stacked = np.stack([each.groups for each in traced])
    counts = (~np.isnan(stacked)).any(axis=1).sum(axis=0)
    return {
        "schema": SCHEMA,
        "base_model_fingerprint": loaded.fingerprint,
        "site": "resid_pre",
        "metric": "log p(clean answer) - log p(corrupt answer), in nats",
        "layers": loaded.n_layers,
        "pairs": [_describe_pair(loaded, each) for each in traced],
        "left_out": list(left_out),
        "groups": {
            group: {"pairs": int(counts[index]), "recovered": _write(_mean_known(stacked[:, :, index]))}
            for index, group in enumerate(GROUPS)
        },
    }


def _describe_pair(loaded: LoadedModel, traced: PairTrace) -> dict[str, Any]:
    pair = traced.pair
    document: dict[str, Any] = {
        "id": pair.id,
        "clean": measure(traced.clean),
        "corrupt": measure(traced.corrupt),
        "noise_floor": measure(traced.noise_floor),
        "groups": {group: _write(traced.groups[:, index]) for index, group in enumerate(GROUPS)},
    }
    if traced.positions is not None:
        document["tokens"] = [
            {"position": index, "text": loaded.tokenizer.decode([token]), "group": pair.groups[index], "recovered": _write(column)}
            for index, (token, column) in enumerate(zip(pair.corrupt, traced.positions.T, strict=True))
        ]
    return document


def _mean_known(values: Floats) -> Floats:
    """The mean over pairs (pairs, layers) of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)
    means: Floats = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return means


def _write(values: Floats) -> list[str | None]:
    return [None if np.isnan(value) else measure(float(value)) for value in values]


def read_groups(document: Mapping[str, Any]) -> tuple[list[str], Floats]:
    """The groups that any pair has, and what patching them recovers: (layers, groups)."""
    names = [group for group in GROUPS if document["groups"][group]["pairs"]]
    return names, np.array([[float(value) for value in document["groups"][name]["recovered"]] for name in names]).T
