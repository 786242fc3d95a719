"""Whether there is anything to search for: what the model itself does of a behaviour under the two instructions of a contrast set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steernode.engine.applying.generate import Reply
from steernode.engine.measuring.gates import BEHAVIOUR_TOLERANCE
from steernode.engine.measuring.metrics import Scorer
from steernode.engine.measuring.stats import Estimate, estimate_difference, estimate_mean, measure
from steernode.errors import EngineError

# Fewer pairs say nothing either way.
MIN_PAIRS = 4
KEPT_PAIRS = 4
# The middle of the rubric's 1 to 5: above it a reply rather shows the behaviour.
_MIDDLE = 3


def compare_instructions(sides: Mapping[str, tuple[Reply, Reply]], scorer: Scorer) -> dict[str, Any]:
    """The behaviour of the replies to the positive and to the negative instruction, and their difference by pair.

    A direction is made from what differs between the two. Where the scorer sees no difference in what the model says, there is none
    that a search could be judged by: the model does not do it under either instruction, or does it as much under both.

    Raises: EngineError BEHAVIOUR_ABSENT if the difference is below what the scorer tells apart, and is not shown to be any at all.
    """
    if len(sides) < MIN_PAIRS:
        return {"pairs": len(sides)}
    texts = [[both[side].text for both in sides.values()] for side in (0, 1)]
    positive, negative = (scorer.score(each) for each in texts)
    gain = estimate_difference(positive, negative)
    under = [estimate_mean(scores) for scores in (positive, negative)]
    kept = list(sides)[:KEPT_PAIRS]
    document = {
        "pairs": len(sides),
        **{name: each.to_document() for name, each in zip(("positive", "negative", "difference"), (*under, gain), strict=True)},
        "replies": [
            {"pair": pair, "positive": sides[pair][0].text, "negative": sides[pair][1].text, "difference": measure(float(difference))}
            for pair, difference in zip(kept, positive - negative, strict=False)
        ],
    }
    if abs(gain.value) < float(BEHAVIOUR_TOLERANCE) and gain.low <= 0 <= gain.high:
        raise EngineError("BEHAVIOUR_ABSENT", _say_absent(under, gain, sides[kept[0]]))
    return document


def _say_absent(under: Sequence[Estimate], gain: Estimate, both: tuple[Reply, Reply]) -> str:
    positive, negative = under
    how = "as much under both instructions" if min(positive.value, negative.value) > _MIDDLE else "not do it under either instruction"
    verb = "does it" if how.startswith("as") else "does"
    return (
        f"the model {verb} {how}: its replies to {gain.n} select pairs score {positive.value:.2f} under the positive and "
        f"{negative.value:.2f} under the negative one, a difference of {gain.value:.2f} [{gain.low:.2f}, {gain.high:.2f}] of 1 to 5. "
        f"It says {_cut(both[0].text)!r} and {_cut(both[1].text)!r}. A search would find nothing: change the instructions of the contrast "
        "set until the replies differ, or the rubric until it sees that they do"
    )


def _cut(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 100 else f"{words[:99]}…"
