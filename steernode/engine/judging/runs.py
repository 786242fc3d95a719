"""Both runs over the test items: the model's own replies and those under steering, and what is measured of the two."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.systems import Conversation
from steernode.engine.access.work import NO_WORK
from steernode.engine.applying.components import Component, group_acting
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.judging import stages
from steernode.engine.judging.acting import Rows, any_acts, by_component
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.comparison import Loss, beside, describe_divergence, describe_metrics, find_empty_baseline, measure_losses
from steernode.engine.judging.prompting import Prompted, ask_prompted, compare_with_prompt
from steernode.engine.measuring.metrics import (
    MAY_REFUSE,
    EvalItems,
    ReplyScores,
    Scorer,
    TokenDivergence,
    measure_divergence,
    measure_first_token_shift,
    measure_surprisal,
    score_replies,
)
from steernode.engine.measuring.refusaljudge import shipped_judge
from steernode.engine.measuring.stats import SEED, estimate_mean, measure
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.suites import SuiteFile
from steernode.records.decoding import GREEDY_DECODING, Decoding
from steernode.strict import are_same_arguments

SIDE_BY_SIDE = 8
# What says that a model still refuses what it refused.
OF_REFUSALS = ("refusals", "harmful_refused", "harmful_compliance_gained")
UNSURE_REPLIES = 100
SPEED_CONVERSATIONS = 4
SPEED_RUNS = 3


@dataclass(frozen=True, eq=False)
class Runs:
    """The replies to `items.conversations` without and with steering, their scores, what was lost, and the divergence on the rest;
    and what the prompt makes of them, where there is one."""

    items: EvalItems
    own: list[Reply]
    steered: list[Reply]
    own_scores: ReplyScores
    steered_scores: ReplyScores
    losses: Mapping[str, Loss]
    divergence: TokenDivergence
    prompted: Prompted | None = None

    def metrics(self) -> dict[str, dict[str, Any]]:
        described = {
            **describe_metrics(self.items, self.own_scores, self.steered_scores, self.prompted and self.prompted.scores),
            **describe_divergence(self.divergence),
            **{name: beside(loss.share, 0.0) for name, loss in self.losses.items()},
        }
        if self.prompted is not None:
            compared = compare_with_prompt(
                self.items, self.own_scores, self.steered_scores, self.prompted, self.divergence.last_prompt_token
            )
            described |= compared
            described["kl_last_prompt_token"]["prompt"] = estimate_mean(self.prompted.shift).to_document()
        if empty := find_empty_baseline(self.own_scores):
            for name in OF_REFUSALS:
                described[name]["undecidable"] = empty
        return described

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


def run_both(
    loaded: LoadedModel,
    items: EvalItems,
    components: Sequence[Component],
    scorer: Scorer,
    *,
    max_new_tokens: int,
    decoding: Decoding = GREEDY_DECODING,
    systems: Sequence[str] = (),
    acts: Rows | None = None,
) -> Runs:
    """Answers every item without and with steering, once or once for each seed, both with the same noise; and, where there are
    `systems`, without steering under these messages in turn, which is the prompt to compare with.

    `acts` (items,) says where the components act, or (items, components) where each does, and the prompt with any; elsewhere the model's
    own reply stands. None is everywhere.

    Raises: the codes of `generate` and `score_forced`.
    """
    acts = items.repeat_rows(by_component(acts, len(items.all), len(components)), decoding.replies_per_item)
    items = items.repeated(decoding.replies_per_item)
    sampling = None if decoding.is_greedy else items.sampling(decoding)
    asked, is_acted_on = items.conversations, any_acts(acts)
    loaded.work.enter(stages.ANSWERS)
    own = generate(loaded, asked, max_new_tokens=max_new_tokens, sampling=sampling)

    def answer(conversations: Sequence[Conversation], groups: Iterable[tuple[Sequence[int], Sequence[Component]]]) -> list[Reply]:
        replies = list(own)
        for rows, steering in groups:
            drawn = None if sampling is None else [sampling[row] for row in rows]
            wanted = [conversations[row] for row in rows]
            written = generate(loaded, wanted, components=steering, max_new_tokens=max_new_tokens, sampling=drawn) if rows else []
            for row, reply in zip(rows, written, strict=True):
                replies[row] = reply
        return replies

    def score(replies: Sequence[Reply]) -> ReplyScores:
        # However a reply was brought about, what is unexpected about it is read by the model alone.
        tickets = [item.messages for item in items.behaviour]
        return score_replies(items, replies, scorer, measure_surprisal(loaded, tickets, replies[: len(tickets)]))

    steered = answer(asked, group_acting(components, acts))
    told = ask_prompted(loaded, asked, systems) if systems else []
    prompted_replies = answer(told, [(np.flatnonzero(is_acted_on).tolist(), ())]) if told else []
    loaded.work.enter(stages.LOSSES)
    own_scores, steered_scores = score(own), score(steered)
    losses = measure_losses(items, own_scores, steered_scores)
    neutral = neutral_rows(items)
    divergence = measure_divergence(loaded, *neutral_of(items, own), components, acts[neutral])
    prompted = None
    if told:
        moved = [told[row] if is_acted_on[row] else asked[row] for row in neutral]
        shift = measure_first_token_shift(loaded, [asked[row] for row in neutral], moved)
        prompted = Prompted(tuple(systems), prompted_replies, score(prompted_replies), shift)
    return Runs(items, own, steered, own_scores, steered_scores, losses, divergence, prompted)


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
