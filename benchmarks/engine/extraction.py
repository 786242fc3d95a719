"""Extraction side by side: from texts to one vector per layer, ours against both peers and against a bare forward pass."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.effort import Effort
from benchmarks.engine.workloads import BenchModel, Pair, Texts
from benchmarks.processes import Worker
from benchmarks.timing import alternate, ratio, summarize

BATCH_SIZES = (1, 4, 8, 16, 32, 64)
# Larger batches that are this much slower than the best so far, twice in a row, end the search for the best one.
CLEARLY_SLOWER = 1.1
PEERS = ("steering-vectors", "repeng")
BESIDE_PEERS = "ours beside the peers"


@dataclass(frozen=True)
class Sides:
    """The processes, each with the same model in memory. `ours_beside_peers` is our engine in the peers' own environment."""

    ours: Worker
    bare: Worker
    peers: dict[str, Worker]
    ours_beside_peers: Worker | None


def measure_extraction(sides: Sides, model: BenchModel, texts: Texts, effort: Effort) -> list[dict[str, Any]]:
    """One document per data set."""
    makers: dict[str, Callable[[int], list[Pair]]] = {
        "system contrast": texts.system_contrast,
        "shared prefix": texts.shared_prefix,
        "nothing shared": texts.nothing_shared,
    }
    count = effort.pairs[model.name]
    return [_measure_data_set(sides, model, texts, name, make(count), effort) for name, make in makers.items()]


def _measure_data_set(sides: Sides, model: BenchModel, texts: Texts, name: str, pairs: list[Pair], effort: Effort) -> dict[str, Any]:
    print(f"extraction, {model.name}, {name}: {len(pairs)} pairs", flush=True)
    layers, few = model.candidates, pairs[: effort.search_pairs[model.name]]
    refuse_different_tokens(sides, few)
    setups = {peer: best_setup(worker, few, layers, effort.search_tries[model.name]) for peer, worker in sides.peers.items()}
    rows_per_batch = best_bare_batch(sides.bare, few, layers[-1], effort.search_tries[model.name])
    # The faster peer at its best is the one to beat; the other was measured in the search and is left at that.
    rival = min(setups, key=lambda peer: setups[peer]["seconds"])
    flat = [text for pair in pairs for text in pair]

    def ask(worker: Worker, arguments: dict[str, Any]) -> Callable[[], float]:
        def work() -> float:
            answer = worker.ask("extract", pairs=pairs, **arguments)
            memory[worker.name] = max(memory.get(worker.name, 0), answer["memory_peak"] - answer["memory_before"])
            if worker is sides.ours:
                from_ids.append(answer["from_token_ids"])
            return float(answer["seconds"])

        return work

    def ask_bare() -> float:
        answer = sides.bare.ask("forward", texts=flat, deepest_layer=layers[-1], batch_size=rows_per_batch)
        memory["bare"] = max(memory.get("bare", 0), answer["memory_peak"] - answer["memory_before"])
        tokens["bare"] = {"tokens_at_first_block": answer["tokens_at_first_block"]}
        return float(answer["seconds"])

    memory: dict[str, int] = {}
    tokens: dict[str, dict[str, int]] = {}
    from_ids: list[float] = []
    setup = {"layers": layers, "batch_size": setups[rival]["batch_size"], "side": setups[rival]["side"]}
    works = {"ours": ask(sides.ours, {"layers": layers}), rival: ask(sides.peers[rival], setup), "bare": ask_bare}
    if sides.ours_beside_peers is not None:
        works[BESIDE_PEERS] = ask(sides.ours_beside_peers, {"layers": layers})
    times = alternate(works, repeats=effort.repeats, warmups=effort.warmups[model.name])
    times["ours from token ids"] = from_ids[-effort.repeats :]
    tokens["ours"] = sides.ours.ask("count", pairs=pairs, layers=layers)
    tokens[rival] = sides.peers[rival].ask("count", pairs=pairs, **setup)
    document = {
        "model": model.name,
        "data": name,
        "pairs": len(pairs),
        "layers": layers,
        **texts.count_tokens(pairs),
        "setups": setups,
        "rival": rival,
        "bare_rows_per_batch": rows_per_batch,
        "sides": {
            side: summarize(seconds) | {"pairs_per_s": len(pairs) / summarize(seconds)["median_s"]} for side, seconds in times.items()
        },
        "tokens": tokens,
        "memory_peak_above_start_bytes": memory,
        "times_s": times,
        "ratio_to_rival": ratio(times[rival], times["ours"]),
        "ratio_to_bare": ratio(times["bare"], times["ours from token ids"]),
        "ratio_to_rival_beside_peers": ratio(times[rival], times[BESIDE_PEERS]) if BESIDE_PEERS in times else None,
        "relative_error": relative_errors(sides, pairs, layers, setups["steering-vectors"]),
    }
    if name in effort.defaults[model.name]:
        document["defaults"] = _measure_defaults(sides, model, pairs, effort)
    return document


def _measure_defaults(sides: Sides, model: BenchModel, pairs: list[Pair], effort: Effort) -> dict[str, Any]:
    """Everybody as they come: their own layers, batch size and method. The peers read every layer, we the candidates; beside it
    stands what every layer takes us."""

    def ask(worker: Worker, **arguments: Any) -> Callable[[], float]:
        return lambda: float(worker.ask("extract", pairs=pairs, **arguments)["seconds"])

    works = {"ours": ask(sides.ours, layers=None), "ours, every layer": ask(sides.ours, layers=list(range(model.n_layers)))}
    works |= {peer: ask(worker, layers=None, batch_size=None, side="left") for peer, worker in sides.peers.items()}
    times = alternate(works, repeats=effort.repeats, warmups=1)
    return {
        "sides": {side: summarize(seconds) for side, seconds in times.items()},
        "times_s": times,
        "ratios": {peer: ratio(times[peer], times["ours"]) for peer in sides.peers},
    }


def refuse_different_tokens(sides: Sides, pairs: Sequence[Pair]) -> None:
    """If the two tokenizers disagree, the comparison means nothing."""
    texts = [text for pair in pairs for text in pair]
    own = sides.ours.ask("token_ids", texts=texts)
    for peer, worker in sides.peers.items():
        for text, ours, theirs in zip(texts, own, worker.ask("token_ids", texts=texts), strict=True):
            if ours != theirs:
                raise SystemExit(f"steernode and {peer} tokenise {text!r} differently, so the comparison would mean nothing")


def best_setup(worker: Worker, pairs: list[Pair], layers: list[int], tries: int) -> dict[str, Any]:
    """The batch size and padding side at which a peer is fastest, and the seconds of every try."""
    tried: dict[int, float] = {}

    def seconds(batch_size: int, side: str = "left") -> float:
        return float(worker.ask("extract", pairs=pairs, layers=layers, batch_size=batch_size, side=side)["seconds"])

    seconds(BATCH_SIZES[1])
    slower = 0
    for size in BATCH_SIZES:
        tried[size] = min(seconds(size) for _ in range(tries))
        slower = slower + 1 if tried[size] > CLEARLY_SLOWER * min(tried.values()) else 0
        if slower == 2:
            break
    best = min(tried, key=lambda size: tried[size])
    right = min(seconds(best, "right") for _ in range(tries))
    side = "right" if right < tried[best] else "left"
    return {
        "batch_size": best,
        "side": side,
        "seconds": min(right, tried[best]),
        "search_pairs": len(pairs),
        "tried_s": {str(size): took for size, took in tried.items()},
        "right_padding_s": right,
    }


def best_bare_batch(bare: Worker, pairs: list[Pair], deepest_layer: int, tries: int) -> int:
    """Rows per batch at which the bare forward pass is fastest."""
    texts = [text for pair in pairs for text in pair]

    def seconds(rows: int) -> float:
        return float(bare.ask("forward", texts=texts, deepest_layer=deepest_layer, batch_size=rows)["seconds"])

    seconds(BATCH_SIZES[1])
    return min(BATCH_SIZES, key=lambda rows: min(seconds(rows) for _ in range(tries)))


def relative_errors(sides: Sides, pairs: list[Pair], layers: list[int], setup: dict[str, Any]) -> dict[str, float]:
    """Per layer |ours - theirs| / |theirs|, theirs being the mean difference of steering-vectors from the same texts."""
    with tempfile.TemporaryDirectory() as name:
        own, other = str(Path(name) / "ours.npz"), str(Path(name) / "theirs.npz")
        sides.ours.ask("extract", pairs=pairs, layers=layers, keep=own)
        peer = sides.peers["steering-vectors"]
        peer.ask("extract", pairs=pairs, layers=layers, batch_size=setup["batch_size"], side=setup["side"], keep=other)
        with np.load(own) as ours, np.load(other) as theirs:
            return {layer: _relative_error(ours[layer], theirs[layer]) for layer in ours.files}


def _relative_error(ours: Any, theirs: Any) -> float:
    difference = ours.astype(np.float64) - theirs.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(theirs.astype(np.float64)))
