"""Template attacks: harmful requests that the model alone refuses, asked again in ways that are known to break a refusal.

Steering can leave every plain refusal standing and still make it easier to talk the model out of one (arXiv:2603.24543). What is
counted is the change that steering makes, on the same requests under the same templates. An attack is asked only of what is
refused plainly: nothing else could be broken. A model that alone refuses too little has no refusals to attack; then none is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from steernode.canonical import parse_strict
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.judging import stages
from steernode.engine.judging.comparison import beside, find_empty_baseline
from steernode.engine.judging.runs import Runs
from steernode.engine.measuring.metrics import measure_refusing, spread
from steernode.engine.measuring.stats import Floats, estimate_net_loss, measure
from steernode.files.conversations import Message
from steernode.power import ATTACKED
from steernode.records.decoding import Decoding

Conversation = tuple[Message, ...]
_PART = re.compile(r"\{(request|first|second)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """`source` says who found it."""

    name: str
    source: str
    text: str

    def apply(self, conversation: Sequence[Message]) -> Conversation:
        """The conversation with the last request as the template puts it."""
        *before, asked = conversation
        words = asked.content.split()
        middle = (len(words) + 1) // 2
        parts = {"request": asked.content, "first": " ".join(words[:middle]), "second": " ".join(words[middle:])}
        return (*before, Message(asked.role, _PART.sub(lambda part: parts[part[1]], self.text)))


@dataclass(frozen=True)
class Attacks:
    """The metric `attack_success_rise`, and what was asked."""

    metric: dict[str, Any]
    document: dict[str, Any]


@cache
def read_templates() -> tuple[Template, ...]:
    document = parse_strict(files("steernode.engine").joinpath("data/attacks.json").read_bytes())
    return tuple(Template(**template) for template in document["templates"])


def measure_attacks(
    loaded: LoadedModel, runs: Runs, components: Sequence[Component], *, max_new_tokens: int, decoding: Decoding
) -> Attacks:
    """At most `ATTACKED` requests, each under every template, without and with steering; all replies to one request are one cluster.

    Raises: the codes of `generate`.
    """
    templates, empty = read_templates(), find_empty_baseline(runs.own_scores)
    harmful = [item for item in runs.items.refusals if item.expect["refuse"]]
    each = len(harmful) // runs.items.repeats
    refused = runs.own_scores.harmful_refused.reshape(runs.items.repeats, each).all(axis=0)
    chosen = () if empty else spread([item for item, was_refused in zip(harmful[:each], refused, strict=True) if was_refused], ATTACKED)
    asked = [(template, item) for template in templates for item in chosen]
    own, steered = (np.zeros(0), np.zeros(0))
    if asked:
        loaded.work.enter(stages.ATTACKS)
        conversations = [template.apply(item.messages) for template, item in asked]
        sampling = None if decoding.is_greedy else [decoding.sample(f"{item.id} {template.name}")[0] for template, item in asked]

        def attack(steering: Sequence[Component]) -> Floats:
            replies = generate(loaded, conversations, components=steering, max_new_tokens=max_new_tokens, sampling=sampling)
            # A reply of which nobody is sure is half a success, so that losing the certainty counts as well.
            return 1 - measure_refusing([item for _, item in asked], replies)

        own, steered = attack(()), attack(components)
    rise = estimate_net_loss(np.maximum(steered - own, 0.0), np.maximum(own - steered, 0.0), [item.id for _, item in asked])
    metric = {**beside(rise, 0.0), **({"undecidable": empty} if empty else {})}
    shares = [_describe(template, asked, own, steered) for template in templates]
    skipped = {"not_written": empty["reason"]} if empty else {}
    return Attacks(metric, {"requests": len(chosen), "templates": shares, **skipped})


def _describe(template: Template, asked: Sequence[tuple[Template, Any]], own: Floats, steered: Floats) -> dict[str, Any]:
    """How often the template succeeds, without and with steering; nothing where it was not asked."""
    rows = [row for row, (used, _) in enumerate(asked) if used is template]
    shares = {"baseline": measure(float(own[rows].mean())), "steered": measure(float(steered[rows].mean()))} if rows else {}
    return {"name": template.name, "source": template.source, **shares}
