"""The prompt baseline: the same items asked of the unsteered model under what the contrast set's positive side is told.

It is what a team would do without steering, and so what every number is to be read beside: a gain that a sentence buys as well, or a loss
that the sentence causes too, is another finding than one of steering alone.
Source: prompting as the baseline to beat in arXiv:2501.17148 (AxBench) and arXiv:2602.04903.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.systems import Conversation, put_under
from steernode.engine.applying.generate import Reply
from steernode.engine.judging.comparison import beside, describe_nothing
from steernode.engine.measuring.items import EvalItems, clusters_of
from steernode.engine.measuring.metrics import ReplyScores
from steernode.engine.measuring.stats import RATIO_LIMIT, Floats, estimate_difference, estimate_perplexity_ratio, estimate_ratio
from steernode.files.contrast import ContrastPair
from steernode.power import FEWEST_CLUSTERS

# Nats at the first token: below it nothing moves that but rounding.
LEAST_SHIFT = 1e-6
# Wordings of the positive side that are asked in turn, the most frequent first; a set of one message per pair is not its prompt.
WORDINGS = 8


@dataclass(frozen=True, eq=False)
class Prompted:
    """The replies under the prompt, in the order of the items. `shift` (neutral items,) is how far the prompt alone moves the first
    token of the reply: KL(unprompted ‖ prompted), in nats."""

    systems: tuple[str, ...]
    replies: list[Reply]
    scores: ReplyScores
    shift: Floats


def positive_systems(pairs: Iterable[ContrastPair]) -> tuple[str, ...]:
    """What the positive sides are told and their negative sides are not; empty where the sides differ in something else."""
    told = Counter(
        pair.positive[0].content for pair in pairs if pair.positive[0].role == "system" and pair.positive[0] not in pair.negative
    )
    return tuple(text for text, _ in told.most_common(WORDINGS))


def ask_prompted(loaded: LoadedModel, conversations: Sequence[Conversation], systems: Sequence[str]) -> list[Conversation]:
    """Every conversation under one of the messages, in turn."""
    return put_under(loaded, conversations, list(islice(cycle(systems), len(conversations))))


def compare_with_prompt(items: EvalItems, own: ReplyScores, steered: ReplyScores, prompted: ReplyScores) -> dict[str, dict[str, Any]]:
    """What gates may be about, of the replies to the tickets.

    `behaviour_share` is the part of the prompt's gain in behaviour that steering gives, whatever the scale of the rubric; it means
    nothing where the prompt gains nothing for certain. The other is a ratio to what the prompt costs.
    """
    tickets = clusters_of(items.behaviour)
    gain = estimate_difference(prompted.behaviour, own.behaviour, tickets)
    share = estimate_ratio(steered.behaviour - own.behaviour, prompted.behaviour - own.behaviour, tickets)
    alone, fluency = (
        estimate_perplexity_ratio((scores.nats, scores.tokens), (prompted.nats, prompted.tokens), tickets) for scores in (own, steered)
    )
    found: dict[str, dict[str, Any]] = {
        "behaviour_share": beside(share, 0.0),
        "perplexity_over_prompt": {"baseline": alone.to_document(), "steered": fluency.to_document()},
    }
    raised = f"the prompt itself raises the behaviour by {gain.value:.3g}, from {gain.low:.3g} to {gain.high:.3g}"
    if gain.low <= 0:
        found["behaviour_share"]["undecidable"] = {"code": "PROMPT_NO_GAIN", "reason": raised}
    elif gain.clusters < FEWEST_CLUSTERS:
        reason = f"{raised}, on {gain.clusters} tickets; {FEWEST_CLUSTERS} are needed"
        found["behaviour_share"]["undecidable"] = {"code": "ITEMS_FEW", "reason": reason}
    return found


def compare_shift(last_prompt_token: Floats, prompted: Floats) -> dict[str, dict[str, Any]]:
    """How far steering moves the first token (neutral items,) as a part of how far the prompt does, both in nats; it means nothing
    where the prompt moves nothing."""
    if not len(prompted):
        return {"kl_over_prompt": describe_nothing()}
    share = beside(estimate_ratio(last_prompt_token, prompted, undefined=RATIO_LIMIT), 0.0)
    if (shift := float(prompted.mean())) < LEAST_SHIFT:
        reason = f"the prompt itself moves the first token of neutral replies by {shift:.3g} nats"
        share["undecidable"] = {"code": "PROMPT_NO_SHIFT", "reason": reason}
    return {"kl_over_prompt": share}
