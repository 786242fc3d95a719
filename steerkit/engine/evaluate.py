"""Evaluation: one candidate on the test split, once, as the evidence document that an approval names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from steerkit import __version__
from steerkit.engine.batches import Progress
from steerkit.engine.directions import LayerDirection
from steerkit.engine.gates import DEFAULT_GATES, check_gates, judge_gates
from steerkit.engine.generate import Reply, generate
from steerkit.engine.metrics import EvalItems, ReplyScores, Scorer, measure_surprisal, score_replies
from steerkit.engine.models import LoadedModel
from steerkit.engine.stats import (
    METHODS,
    SEED,
    Estimate,
    estimate_difference,
    estimate_mean,
    estimate_perplexity,
    estimate_perplexity_ratio,
    estimate_share,
    measure,
    reference,
)
from steerkit.engine.steer import Component
from steerkit.engine.sweep import coefficient_of
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
        direction = self.direction
        coefficient = float(coefficient_of(direction, self.alpha, self.unit))
        return Component(direction.direction, direction.layer, coefficient, direction.site, self.operator, self.scope)

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
        }


def evaluate(
    loaded: LoadedModel,
    candidate: Candidate,
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    gates: Sequence[Mapping[str, str]] = DEFAULT_GATES,
    *,
    max_new_tokens: int = 64,
    curve: Sequence[Mapping[str, Any]] = (),
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """The evidence document: canonical JSON, all numbers decimal strings or integers.

    `curve` is the dose-response that the sweep measured on the select split. `on_progress(done, total)` counts replies.

    Raises: EngineError SUITE_MISSING, GATE_INVALID, and the codes of `generate`.
    """
    check_gates(gates)
    items = EvalItems.of(suites, "test")
    component = candidate.component()
    total = 2 * len(items.all)

    def answer(components: Sequence[Component], before: int) -> list[Reply]:
        def advance(done: int, _total: int) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        return generate(loaded, items.conversations, components=components, max_new_tokens=max_new_tokens, on_progress=advance)

    own, steered = answer((), 0), answer((component,), len(items.all))
    tickets = [item.messages for item in items.behaviour]
    own_scores, steered_scores = (
        score_replies(items, replies, scorer, measure_surprisal(loaded, tickets, replies[: len(tickets)])) for replies in (own, steered)
    )
    metrics = describe_metrics(own_scores, steered_scores)
    values = {name: metric["steered"]["value"] for name, metric in metrics.items()}
    values["layer_depth"] = measure(candidate.direction.layer / loaded.n_layers)
    verdicts = judge_gates(gates, values, {name: metric["baseline"]["value"] for name, metric in metrics.items()})
    return {
        "schema": "steerhub.evidence/1",
        "run": _describe_run(loaded, suites, scorer, max_new_tokens),
        "candidate": candidate.to_document(),
        "items": items.counts,
        "metrics": metrics,
        "gates": verdicts,
        "verdict": "pass" if all(judged["verdict"] == "pass" for judged in verdicts) else "fail",
        "curve": [dict(cell) for cell in curve],
        "replies": _side_by_side(items, own, steered, own_scores, steered_scores),
        "speed": measure_speed(loaded, items, component, max_new_tokens),
        "interval_methods": dict(METHODS),
    }


def describe_metrics(own: ReplyScores, steered: ReplyScores) -> dict[str, dict[str, Any]]:
    """Each metric at α = 0 and at the proposed α, with the paired difference where one has a meaning.

    `anti_steered` is the share of tickets whose behaviour fell: an average can rise while many fall (arXiv:2407.12404).
    """

    def compare(baseline: Estimate, value: Estimate, difference: Estimate) -> dict[str, Any]:
        return {"baseline": baseline.to_document(), "steered": value.to_document(), "difference": difference.to_document()}

    def compare_means(name: str) -> dict[str, Any]:
        before, after = getattr(own, name), getattr(steered, name)
        return compare(estimate_mean(before), estimate_mean(after), estimate_difference(after, before))

    def compare_shares(name: str) -> dict[str, Any]:
        before, after = getattr(own, name), getattr(steered, name)
        return compare(estimate_share(before), estimate_share(after), estimate_difference(after, before))

    # A ratio is already against the baseline, which therefore stands at exactly one.
    one = reference(1.0, len(own.nats)).to_document()
    zero = reference(0.0, len(own.nats)).to_document()
    fell = (steered.behaviour < own.behaviour - 0.05).astype(np.float64)
    ratio = estimate_perplexity_ratio((steered.nats, steered.tokens), (own.nats, own.tokens))
    perplexities = [estimate_perplexity(scores.nats, scores.tokens).to_document() for scores in (own, steered)]
    return {
        "behaviour": compare_means("behaviour"),
        "facts": compare_shares("facts"),
        "refusals": compare_shares("refusals"),
        "perplexity": {"baseline": perplexities[0], "steered": perplexities[1]},
        "perplexity_ratio": {"baseline": one, "steered": ratio.to_document()},
        "anti_steered": {"baseline": zero, "steered": estimate_share(fell).to_document()},
        "repetition": compare_means("repetition"),
        "reply_tokens": compare_means("reply_tokens"),
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
        "engine": {
            "steerkit": __version__,
            **{name: version(name) for name in ("torch", "transformers", "numpy", "scipy", "scikit-learn")},
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "device": loaded.device.type,
        },
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
