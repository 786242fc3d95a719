"""What a cell says of its replies."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from steernode.answers import cluster_of
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import ReplyScores
from steernode.engine.measuring.stats import bounds, estimate_mean, estimate_perplexity_ratio, estimate_share, measure


def describe_replies(items: EvalItems, scores: ReplyScores, baseline: ReplyScores) -> dict[str, Any]:
    """Means, with the intervals of those by which layers and doses are compared."""
    # Of what the documents say, so that anybody who reads them reaches the same ratio.
    perplexity, own = measure(scores.perplexity), measure(baseline.perplexity)
    ratio = estimate_perplexity_ratio((scores.nats, scores.tokens), (baseline.nats, baseline.tokens))
    return {
        "items": items.counts,
        "behaviour": measure(float(scores.behaviour.mean())),
        **bounds("behaviour", estimate_mean(scores.behaviour)),
        "facts": measure(float(scores.facts.mean())),
        **bounds("facts", estimate_share(scores.facts, [cluster_of(item) for item in items.facts])),
        "refusals": measure(float(scores.refusals.mean())),
        "perplexity": perplexity,
        "perplexity_ratio": measure(float(Decimal(perplexity) / Decimal(own))),
        **bounds("perplexity_ratio", ratio),
        "repetition": measure(float(scores.repetition.mean())),
        "reply_tokens": measure(float(scores.reply_tokens.mean())),
    }
