"""The safety override as a node decides it: by reading the request itself, and not only by facts that somebody in front may send.

Whoever answers asks this between `deciding.decide` and its engine. It needs no engine and no model, so it is the same for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from steernode.harmful import Verdict, load_classifier
from steernode.snapshot.resolve import Effective

log = logging.getLogger(__name__)


def watch(effective: Effective, said: Sequence[str]) -> Effective:
    """What is left for a request in which all this was said, by whomever but the system message.

    A profile that has a safety override steers no request that the classifier finds harmful (`safety_override`), and none that it cannot
    decide (`safety_undecided`): in a language that it does not know, too long, or because it failed. Never raises.
    """
    if effective.profile is None or not effective.profile.safety_override:
        return effective
    word = _judge(said).word
    if word == "harmless":
        return effective
    return effective.without_steering("safety_override" if word == "harmful" else "safety_undecided")


def _judge(said: Sequence[str]) -> Verdict:
    try:
        return load_classifier().judge(said)
    except Exception as error:  # Whatever it was: what is not decided is not steered.
        log.error("a request could not be read for what is harmful", exc_info=error)
        return Verdict("undecided", str(error))
