"""The safety override as a node decides it: by reading the request itself, and not only by facts that somebody in front may send.

Whoever answers asks this between `deciding.decide` and its first token. It needs no engine and no model, so it is the same for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from steernode.files.conversations import Message
from steernode.harmful import Verdict, load_classifier
from steernode.snapshot.conditions import RequestFacts
from steernode.snapshot.resolve import Effective

log = logging.getLogger(__name__)


def watch_request(effective: Effective, messages: Sequence[Message], facts: RequestFacts) -> tuple[Effective, RequestFacts]:
    """`watch` of all that was said but the system message, and the facts that say so; as they are if somebody did that before."""
    if facts.is_watched:
        return effective, facts
    said = [message.content for message in messages if message.role != "system"]
    return watch(effective, said), replace(facts, is_watched=True)


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
