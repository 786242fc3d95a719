"""What random directions of the candidate's norm do to replies, on some of the items: the part of a loss that any push brings.

A model has borderline items, which come and go with any change. Teacher-forced controls (`judging.controls`) say whether the wanted
effect stands out from a push; these say whether the damage does. They cost replies, and are written only where a gate asks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steernode.answers import cluster_of, is_right
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.judging import stages
from steernode.engine.judging.acting import Rows
from steernode.engine.judging.comparison import beside, find_empty_baseline
from steernode.engine.judging.controls import random_unit_directions
from steernode.engine.judging.runs import Runs
from steernode.engine.measuring.items import spread
from steernode.engine.measuring.metrics import measure_refusing, measure_surprisal
from steernode.engine.measuring.stats import SEED, Floats, estimate_net_loss, estimate_perplexity_ratio
from steernode.gates import OF_RANDOM
from steernode.power import HELD
from steernode.records.decoding import Decoding

DIRECTIONS = 4
# Replies to so many tickets under each direction; of what held without steering, to `HELD` items.
TICKETS = 48
Written = Mapping[int, Reply]
_FACTS, _REFUSALS, _PERPLEXITY = OF_RANDOM


@dataclass(frozen=True)
class RandomReplies:
    """The metrics that were asked for, and how they were made."""

    metrics: dict[str, dict[str, Any]]
    document: dict[str, Any]


def measure_random_replies(
    loaded: LoadedModel,
    runs: Runs,
    component: Component,
    asked: Collection[str],
    *,
    acts: Rows,
    max_new_tokens: int,
    decoding: Decoding,
) -> RandomReplies:
    """Of the metrics of `OF_RANDOM` those that are `asked` for. Where the candidate does not act, nothing does.

    Both sides of a comparison are of the same items; the items whose loss is counted held in the same run without steering.
    Raises: the codes of `generate`.
    """
    wanted = [name for name in OF_RANDOM if name in asked]
    loaded.work.enter(stages.RANDOM)
    rows = {name: _choose_rows(runs, name) for name in wanted}
    acts = runs.items.repeat_rows(acts, decoding.replies_per_item)
    needed = sorted({row for chosen in rows.values() for row in chosen if acts[row]})
    items = runs.items.all
    sampling = None if decoding.is_greedy else [runs.items.sampling(decoding)[row] for row in needed]
    own: dict[int, Reply] = dict(enumerate(runs.own))
    replies: list[Written] = []
    for direction in random_unit_directions(loaded.d_model, DIRECTIONS) if needed else ():
        pushed = [replace(component, direction=direction)]
        written = generate(
            loaded, [items[row].messages for row in needed], components=pushed, max_new_tokens=max_new_tokens, sampling=sampling
        )
        replies.append(own | dict(zip(needed, written, strict=True)))
    metrics = {}
    for name, chosen in rows.items():
        if name == _PERPLEXITY:
            metrics[name] = _compare_perplexity(loaded, runs, chosen, replies)
        else:
            metrics[name] = _compare_losses(runs, chosen, replies)
    if _REFUSALS in metrics and (empty := find_empty_baseline(runs.own_scores)):
        metrics[_REFUSALS]["undecidable"] = empty
    counts = {name: len(chosen) for name, chosen in rows.items()}
    return RandomReplies(metrics, {"directions": DIRECTIONS, "seed": SEED, "items": counts})


def _choose_rows(runs: Runs, metric: str) -> tuple[int, ...]:
    """Among all items of the run, evenly over those that can say something."""
    items, own, tickets = runs.items, runs.own_scores, len(runs.items.behaviour)
    if metric == _PERPLEXITY:
        return spread(range(tickets), TICKETS)
    if metric == _FACTS:
        return spread([tickets + row for row in np.flatnonzero(own.facts > 0).tolist()], HELD)
    first = tickets + len(items.facts)
    harmful = [first + row for row, item in enumerate(items.refusals) if item.expect["refuse"]]
    return spread([row for row, refused in zip(harmful, own.harmful_refused, strict=True) if refused], HELD)


def _compare_losses(runs: Runs, rows: Sequence[int], replies: Sequence[Written]) -> dict[str, Any]:
    """The share that steering loses minus the share that a random direction loses on the average, by item."""
    items = [runs.items.all[row] for row in rows]

    def lost(written: Sequence[Reply] | Written) -> Floats:
        said = [written[row] for row in rows]
        if items and "refuse" in items[0].expect:
            return 1 - measure_refusing(items, said)
        return np.array([not is_right(item, reply.text) for item, reply in zip(items, said, strict=True)], np.float64)

    pushed: Sequence[Sequence[Reply] | Written] = replies or [runs.own]
    beyond = lost(runs.steered) - np.mean([lost(each) for each in pushed], axis=0) if rows else np.zeros(0)
    share = estimate_net_loss(np.maximum(beyond, 0.0), np.maximum(-beyond, 0.0), [cluster_of(item) for item in items])
    return beside(share, 0.0)


def _compare_perplexity(loaded: LoadedModel, runs: Runs, rows: Sequence[int], replies: Sequence[Written]) -> dict[str, Any]:
    tickets = [runs.items.behaviour[row] for row in rows]
    asked = [item.messages for item in tickets]
    pushed: Sequence[Sequence[Reply] | Written] = replies or [runs.own]
    surprisal = [measure_surprisal(loaded, asked, [each[row] for row in rows]) for each in pushed]
    nats, tokens = (np.sum([each[part] for each in surprisal], axis=0) for part in (0, 1))
    chosen, clusters = list(rows), [item.id for item in tickets]
    own, steered = (
        estimate_perplexity_ratio((scores.nats[chosen], scores.tokens[chosen]), (nats, tokens), clusters)
        for scores in (runs.own_scores, runs.steered_scores)
    )
    return {"baseline": own.to_document(), "steered": steered.to_document()}
