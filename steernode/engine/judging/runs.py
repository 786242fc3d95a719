"""Both runs over the test items, as they are told of: the model's own replies and those under steering, and what is measured of the two."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import NO_WORK
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.judging import stages
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.comparison import Loss, beside, describe_divergence, describe_metrics, find_empty_baseline, measure_losses
from steernode.engine.judging.prompting import Prompted, compare_shift, compare_with_prompt
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import MAY_REFUSE, ReplyScores, Scorer, TokenDivergence
from steernode.engine.measuring.refusaljudge import shipped_judge
from steernode.engine.measuring.stats import NOTHING, SEED, Floats, estimate_mean, measure
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.suites import SuiteFile
from steernode.records.decoding import Decoding
from steernode.strict import are_same_arguments

SIDE_BY_SIDE = 8
# What says that a model still refuses what it refused.
OF_REFUSALS = ("refusals", "harmful_refused", "harmful_compliance_gained")
UNSURE_REPLIES = 100
SPEED_CONVERSATIONS = 4
SPEED_RUNS = 3
# By metric, as gates read it.
Metrics = dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Runs:
    """The replies to `items.conversations` without and with steering, their scores, what was lost, and the divergence on the rest;
    what the prompt makes of them, where there is one; and what gates read of all that."""

    items: EvalItems
    own: list[Reply]
    steered: list[Reply]
    own_scores: ReplyScores
    steered_scores: ReplyScores
    losses: Mapping[str, Loss]
    divergence: TokenDivergence
    prompted: Prompted | None
    metrics: Metrics

    def collateral(self) -> dict[str, dict[str, Any]]:
        return {name: loss.to_document() for name, loss in self.losses.items()}

    def describe_judge(self) -> dict[str, Any]:
        """What judged refusals, of how many replies nobody was sure, and the first of those, so that a person can label them."""
        before = len(self.items.behaviour) + len(self.items.facts)
        sides = {"baseline": (self.own, self.own_scores), "steered": (self.steered, self.steered_scores)}
        doubtful = {
            (item.id, said[before + row].text)
            for said, scores in sides.values()
            for row, item in enumerate(self.items.refusals)
            if scores.refusing[row] == MAY_REFUSE
        }
        return {
            **shipped_judge().description,
            "unsure": {side: int((scores.refusing == MAY_REFUSE).sum()) for side, (_, scores) in sides.items()},
            "unsure_replies": [{"item": name, "text": text} for name, text in sorted(doubtful)[:UNSURE_REPLIES]],
        }

    def side_by_side(self) -> list[dict[str, Any]]:
        """A few tickets, evenly from first to last, with both replies."""
        tickets = self.items.behaviour[: len(self.items.behaviour) // self.items.repeats]
        count = min(SIDE_BY_SIDE, len(tickets))
        rows = [index * len(tickets) // count for index in range(count)]
        return [
            {
                "item": tickets[row].id,
                "messages": [message.to_document() for message in tickets[row].messages],
                "baseline": {"text": self.own[row].text, "score": measure(float(self.own_scores.behaviour[row]))},
                "steered": {"text": self.steered[row].text, "score": measure(float(self.steered_scores.behaviour[row]))},
                **self._side_of_prompt(row),
            }
            for row in rows
        ]

    def _side_of_prompt(self, row: int) -> dict[str, Any]:
        if self.prompted is None:
            return {}
        return {"prompt": {"text": self.prompted.replies[row].text, "score": measure(float(self.prompted.scores.behaviour[row]))}}


def neutral_of(items: EvalItems, own: Sequence[Reply]) -> tuple[list[tuple[Message, ...]], list[Reply]]:
    """The conversations on which any divergence is collateral, with the model's own replies to them.

    They are all but the tickets, whose replies are meant to change, and the requests that are to be refused; the first reply to each.
    """
    rows = neutral_rows(items)
    return [items.conversations[row] for row in rows], [own[row] for row in rows]


def neutral_rows(items: EvalItems) -> list[int]:
    """Where `neutral_of` stand among all items."""
    asked = items.all
    return [row for row in items.first_rows if row >= len(items.behaviour) and not asked[row].expect.get("refuse")]


def describe_replies(items: EvalItems, own: ReplyScores, steered: ReplyScores, prompted: ReplyScores | None = None) -> Metrics:
    """What the replies to these items say as gates read it, of whichever kinds there are."""
    described = describe_metrics(items, own, steered, prompted)
    described |= {name: beside(loss.share, 0.0) for name, loss in measure_losses(items, own, steered).items()}
    if items.behaviour and prompted is not None:
        described |= compare_with_prompt(items, own, steered, prompted)
    if empty := find_empty_baseline(own):
        for name in OF_REFUSALS:
            described[name]["undecidable"] = empty
    return described


def describe_shift(divergence: TokenDivergence, prompted: Floats | None = None) -> Metrics:
    """What steering does to the next token on neutral items, beside what the prompt does to the first one."""
    described = describe_divergence(divergence)
    if prompted is not None:
        described |= compare_shift(divergence.last_prompt_token, prompted)
        described["kl_last_prompt_token"]["prompt"] = (estimate_mean(prompted) if len(prompted) else NOTHING).to_document()
    return described


def measure_speed(loaded: LoadedModel, items: EvalItems, components: Sequence[Component], max_new_tokens: int) -> dict[str, Any]:
    """Milliseconds per token of one request at a time: the median over runs that alternate, so that a slow spell hits both."""
    conversations = [item.messages for item in items.subset(SPEED_CONVERSATIONS, 1, 1).behaviour]
    times: dict[str, list[float]] = {"baseline": [], "steered": []}
    # A reply that is kept would take no time at all, so that these are always written anew.
    loaded.work.enter(stages.SPEED)
    timed = replace(loaded, work=NO_WORK)
    for _ in range(SPEED_RUNS):
        for name, steering in (("baseline", ()), ("steered", components)):
            started = time.perf_counter()
            replies = [generate(timed, [messages], components=steering, max_new_tokens=max_new_tokens)[0] for messages in conversations]
            tokens, seconds = sum(len(reply.scored_token_ids) for reply in replies), time.perf_counter() - started
            times[name].append(seconds * 1000 / tokens)
            loaded.work.passed("replies", len(replies), tokens, seconds)
    medians = {name: measure(float(np.median(values))) for name, values in times.items()}
    return {"milliseconds_per_token": medians, "batch": 1, "runs": SPEED_RUNS, "conversations": len(conversations)}


def describe_run(
    loaded: LoadedModel,
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    max_new_tokens: int,
    decoding: Decoding,
    systems: Sequence[str] = (),
    system_message: str = "",
) -> dict[str, Any]:
    return {
        "base_model_fingerprint": loaded.fingerprint,
        "architecture_digest": loaded.architecture_digest,
        "measured_form": describe_measured(loaded),
        **({"form": loaded.manifest.form} if loaded.manifest.form else {}),
        "suites": {kind: suite.digest for kind, suite in sorted(suites.items())},
        "split": "test",
        "scorer": dict(scorer.description),
        "max_new_tokens": max_new_tokens,
        "template_arguments": dict(loaded.template_arguments),
        "decoding": decoding.to_document(),
        **({"prompt": list(systems)} if systems else {}),
        **({"system_message": system_message} if system_message else {}),
        "seed": SEED,
    }


def describe_measured(loaded: LoadedModel) -> dict[str, Any]:
    """Which form of the model was measured: its name on record, the dtype of its weights, and what they were quantised as and made from.

    What they ran in is of the engine. An approval may cover other forms, and then this is what says on which nothing was.
    """
    files = loaded.manifest
    return {
        **({"name": loaded.name} if loaded.name else {}),
        "dtype": files.dtype,
        **({"quantization": files.quantization} if files.quantization else {}),
        **({"made_from": files.made_from.to_document()} if files.made_from else {}),
    }


def refuse_other_template(loaded: LoadedModel, candidates: Iterable[Candidate]) -> None:
    """Raises: EngineError TEMPLATE_MISMATCH if the chat template is not given what it was given when a candidate was read."""
    asked = dict(loaded.template_arguments)
    for candidate in candidates:
        read = dict(candidate.direction.template_arguments)
        if not are_same_arguments(read, asked):
            raise EngineError(
                "TEMPLATE_MISMATCH",
                f"the vector was read with the template arguments {read}, the model is asked with {asked}",
                candidate.record.vector.sha256,
            )


def describe_suite_splits(suites: Mapping[str, SuiteFile]) -> dict[str, dict[str, int]]:
    return {kind: {name: len(suite.split(name)) for name in ("select", "test")} for kind, suite in sorted(suites.items())}


def missing_metrics(items: EvalItems) -> dict[str, str]:
    """What these items cannot say, by metric, with the reason."""
    harmful = sum(bool(item.expect["refuse"]) for item in items.refusals)
    missing = {} if harmful else dict.fromkeys(("harmful_refused", "harmful_compliance_gained"), "the safety suite has no harmful request")
    if harmful == len(items.refusals):
        missing |= dict.fromkeys(("over_refusal", "over_refusal_gained"), "the safety suite has no harmless look-alike")
    return missing if items.capability else missing | {"capability": "there is no capability suite"}
