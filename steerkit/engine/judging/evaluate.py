"""Evaluation: one candidate on the test split, once, as the evidence document that an approval names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steerkit.contrast import ContrastPair
from steerkit.engine.access.batches import Progress
from steerkit.engine.access.models import LoadedModel
from steerkit.engine.applying.components import Component, coefficient_of, component_of
from steerkit.engine.applying.generate import Reply, generate
from steerkit.engine.judging.comparison import (
    beside,
    describe_behaviour_shrinkage,
    describe_divergence,
    describe_metrics,
    measure_losses,
)
from steerkit.engine.judging.contrastevidence import ContrastEvidence
from steerkit.engine.judging.evidence import describe_engine, write_evidence
from steerkit.engine.measuring.gates import DEFAULT_GATES, refuse_unmeasurable
from steerkit.engine.measuring.metrics import EvalItems, ReplyScores, Scorer, measure_divergence, measure_surprisal, score_replies
from steerkit.engine.measuring.stats import SEED, measure
from steerkit.engine.reading.directions import LayerDirection
from steerkit.gates import load_gates
from steerkit.suite import SuiteFile

SIDE_BY_SIDE = 8
SPEED_CONVERSATIONS = 4
SPEED_RUNS = 3


@dataclass(frozen=True, eq=False)
class Candidate:
    """What is evaluated: a stored vector at one α. `vector_digest` is the sha256 of the vector file."""

    vector_digest: str
    direction: LayerDirection
    alpha: str
    unit: str = "mean_difference"
    operator: str = "add"
    scope: str = "generated"

    def component(self) -> Component:
        return component_of(self.direction, self.alpha, self.unit, self.operator, self.scope)

    def to_document(self) -> dict[str, Any]:
        return {
            "vector_digest": self.vector_digest,
            "layer": self.direction.layer,
            "site": self.direction.site,
            "operator": self.operator,
            "alpha": self.alpha,
            "unit": self.unit,
            "coefficient": measure(float(coefficient_of(self.direction, self.alpha, self.unit))),
            "norm": measure(self.direction.norm),
            "mean_residual_norm": measure(self.direction.mean_residual_norm),
            "scope": self.scope,
            "method": self.direction.method,
            "read_position": self.direction.read_position,
        }


def evaluate(
    loaded: LoadedModel,
    candidate: Candidate,
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    gates: str | Sequence[Mapping[str, str]] = DEFAULT_GATES,
    *,
    pairs: Mapping[str, Sequence[ContrastPair]] | None = None,
    max_new_tokens: int = 64,
    curve: Sequence[Mapping[str, Any]] = (),
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """The evidence document: canonical JSON, all numbers decimal strings or integers.

    `gates` is the name of a set or a list. `pairs` is the contrast set as `split_pairs` parts it: the test part is measured, the
    select part says what the choice had promised, the extract part makes the shuffled-label controls. Without it, or at α = 0,
    there is no dose-response and there are no controls, and a gate about them is refused. `curve` is what the sweep measured on
    the select split. `on_progress(done, total)` counts replies.

    Raises: EngineError SUITE_MISSING, GATE_INVALID, GATE_SET_UNKNOWN, GATE_UNMEASURED, EVIDENCE_INVALID, MARGIN_EMPTY, and the
    codes of `generate` and `score_forced`.
    """
    gates = load_gates(gates)
    items = EvalItems.of(suites, "test", with_capability=True)
    component = candidate.component()
    contrast = ContrastEvidence(candidate.direction, component, candidate.alpha, candidate.unit, pairs or {})
    refuse_unmeasurable(gates, contrast.missing | _missing_from(items))
    total = 2 * len(items.all)

    def answer(components: Sequence[Component], before: int) -> list[Reply]:
        def advance(done: int, _total: int) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        return generate(loaded, items.conversations, components=components, max_new_tokens=max_new_tokens, on_progress=advance)

    contrast.measure(loaded)
    own, steered = answer((), 0), answer((component,), len(items.all))
    tickets = [item.messages for item in items.behaviour]
    own_scores, steered_scores = (
        score_replies(items, replies, scorer, measure_surprisal(loaded, tickets, replies[: len(tickets)])) for replies in (own, steered)
    )
    losses = measure_losses(items, own_scores, steered_scores)
    neutral = [row for row, item in enumerate(items.all) if row >= len(tickets) and not item.expect.get("refuse")]
    divergence = measure_divergence(loaded, [items.conversations[row] for row in neutral], [own[row] for row in neutral], [component])
    return write_evidence(
        run=_describe_run(loaded, suites, scorer, max_new_tokens),
        engine=describe_engine(loaded),
        candidate=candidate.to_document(),
        layer_depth=candidate.direction.layer / loaded.n_layers,
        items=items.counts,
        splits=_describe_splits(suites, pairs),
        metrics={
            **describe_metrics(items, own_scores, steered_scores),
            **describe_divergence(divergence),
            **{name: beside(loss.share, 0.0) for name, loss in losses.items()},
            **contrast.metrics(),
        },
        collateral={name: loss.to_document() for name, loss in losses.items()},
        dose_response=contrast.describe_dose(),
        controls=contrast.controls.to_document() if contrast.controls else None,
        selection={
            "behaviour": describe_behaviour_shrinkage(curve, candidate.direction.layer, candidate.alpha, own_scores, steered_scores),
            "slope": contrast.describe_shrinkage(),
        },
        gates=gates,
        curve=curve,
        replies=_side_by_side(items, own, steered, own_scores, steered_scores),
        speed=measure_speed(loaded, items, component, max_new_tokens),
    )


def _missing_from(items: EvalItems) -> dict[str, str]:
    harmful = sum(bool(item.expect["refuse"]) for item in items.refusals)
    missing = {} if harmful else dict.fromkeys(("harmful_refused", "harmful_compliance_gained"), "the safety suite has no harmful request")
    if harmful == len(items.refusals):
        missing |= dict.fromkeys(("over_refusal", "over_refusal_gained"), "the safety suite has no harmless look-alike")
    return missing if items.capability else missing | {"capability": "there is no capability suite"}


def _describe_splits(suites: Mapping[str, SuiteFile], pairs: Mapping[str, Sequence[ContrastPair]] | None) -> dict[str, Any]:
    return {
        "suites": {kind: {name: len(suite.split(name)) for name in ("select", "test")} for kind, suite in sorted(suites.items())},
        "pairs": None if pairs is None else {name: len(part) for name, part in pairs.items()},
    }


def measure_speed(loaded: LoadedModel, items: EvalItems, component: Component, max_new_tokens: int) -> dict[str, Any]:
    """Milliseconds per token of one request at a time: the median over runs that alternate, so that a slow spell hits both."""
    conversations = [item.messages for item in items.subset(SPEED_CONVERSATIONS, 1, 1).behaviour]
    times: dict[str, list[float]] = {"baseline": [], "steered": []}
    for _ in range(SPEED_RUNS):
        for name, components in (("baseline", ()), ("steered", (component,))):
            started = time.perf_counter()
            replies = [generate(loaded, [messages], components=components, max_new_tokens=max_new_tokens)[0] for messages in conversations]
            tokens = sum(len(reply.scored_token_ids) for reply in replies)
            times[name].append((time.perf_counter() - started) * 1000 / tokens)
    medians = {name: measure(float(np.median(values))) for name, values in times.items()}
    return {"milliseconds_per_token": medians, "batch": 1, "runs": SPEED_RUNS, "conversations": len(conversations)}


def _describe_run(loaded: LoadedModel, suites: Mapping[str, SuiteFile], scorer: Scorer, max_new_tokens: int) -> dict[str, Any]:
    return {
        "base_model_fingerprint": loaded.fingerprint,
        "suites": {kind: suite.digest for kind, suite in sorted(suites.items())},
        "split": "test",
        "scorer": dict(scorer.description),
        "max_new_tokens": max_new_tokens,
        "decoding": "greedy",
        "seed": SEED,
    }


def _side_by_side(
    items: EvalItems, own: Sequence[Reply], steered: Sequence[Reply], own_scores: ReplyScores, steered_scores: ReplyScores
) -> list[dict[str, Any]]:
    count = min(SIDE_BY_SIDE, len(items.behaviour))
    rows = [index * len(items.behaviour) // count for index in range(count)]
    return [
        {
            "item": items.behaviour[row].id,
            "messages": [message.to_document() for message in items.behaviour[row].messages],
            "baseline": {"text": own[row].text, "score": measure(float(own_scores.behaviour[row]))},
            "steered": {"text": steered[row].text, "score": measure(float(steered_scores.behaviour[row]))},
        }
        for row in rows
    ]
