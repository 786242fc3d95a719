"""Evaluation: one candidate on the test split, once, as the evidence document that an approval names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steernode.canonical import format_decimal
from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.judging.acting import count_acting, describe_untouched, find_acting, keep_acting
from steernode.engine.judging.answering import Answers
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.comparison import describe_behaviour_shrinkage
from steernode.engine.judging.contrastevidence import ContrastEvidence
from steernode.engine.judging.evidence import describe_depth, write_evidence
from steernode.engine.judging.further import Further, find_conversations, missing_further
from steernode.engine.judging.prompting import positive_systems
from steernode.engine.judging.runs import (
    Metrics,
    describe_run,
    describe_suite_splits,
    measure_speed,
    missing_metrics,
    refuse_other_template,
)
from steernode.engine.measuring.gates import DEFAULT_GATES, judge_evidence, judge_whole, refuse_unmeasurable
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import Scorer
from steernode.engine.measuring.stats import estimate_mean, measure
from steernode.engine.reading.stability import measure_norms
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile
from steernode.gates import FAIL, OF_A_COMPOSITION, OF_A_PROMPT, layer_depth, load_gates
from steernode.records.decoding import GREEDY_DECODING, Decoding
from steernode.records.evidence import Evidence
from steernode.words import STRENGTH_OPERATORS


class Evaluation:
    """One candidate on the test split, stage by stage, the cheapest first; of its document, canonical JSON, all numbers are decimal
    strings or integers.

    Replies are chosen as `decoding` says: drawn with several seeds, all replies to an item are one cluster. What is measured without
    writing replies, and how fast it is, does not depend on it.

    `gates` is the name of a set or a list; `gate_set` says which set a list is, by name, version and digest.

    `pairs` is the contrast set as `split_pairs` parts it: the test part is measured, the
    select part says what the choice had promised, the extract part makes the shuffled-label controls. Without it, or at α = 0,
    there is no dose-response and there are no controls, and a gate about them is refused. `curve` is what the sweep measured on
    the select split. `system_message` is what the model is served under: every item is asked under it that has no system message of
    its own. Where the candidate has a condition, it is judged, and the prompt baseline with it, on what it acts on (`judging.acting`).

    Raises: EngineError CONDITION_NEVER, PROBE_MISSING, TEMPLATE_MISMATCH, SUITE_MISSING, GATE_INVALID, GATE_SET_UNKNOWN,
    GATE_UNMEASURED; all before any work.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        candidate: Candidate,
        suites: Mapping[str, SuiteFile],
        scorer: Scorer,
        gates: str | Sequence[Mapping[str, str]] = DEFAULT_GATES,
        *,
        gate_set: Mapping[str, Any] | None = None,
        pairs: Mapping[str, Sequence[ContrastPair]] | None = None,
        max_new_tokens: int = 64,
        decoding: Decoding = GREEDY_DECODING,
        curve: Sequence[Mapping[str, Any]] = (),
        system_message: str = "",
    ) -> None:
        refuse_other_template(loaded, [candidate])
        self.gates, self._gate_set = load_gates(gates), gate_set
        self._loaded, self._candidate, self._suites, self._scorer, self._pairs = loaded, candidate, suites, scorer, pairs
        self._max_new_tokens, self._decoding, self._curve, self._system_message = max_new_tokens, decoding, curve, system_message
        self._asked = EvalItems.of(suites, "test", with_capability=True).under(loaded, system_message)
        self._meets = find_acting(loaded, candidate, self._asked.all)
        self._items, acts = keep_acting(self._asked, self._meets)
        conversations = find_conversations(loaded, suites, system_message, candidate)
        self._alpha = format_decimal(candidate.record.alpha)
        self._component = candidate.component()
        self._contrast = ContrastEvidence(candidate.direction, self._component, self._alpha, candidate.record.unit, pairs or {})
        self._systems = positive_systems(pair for part in (pairs or {}).values() for pair in part)
        alone = dict.fromkeys(OF_A_COMPOSITION, "it is measured where several components are judged together")
        nothing_told = "the contrast set's positive side is told nothing that could be a prompt"
        unasked = {} if self._systems else dict.fromkeys(OF_A_PROMPT, nothing_told)
        missing = missing_metrics(self._asked) | missing_further(self._asked, conversations)
        refuse_unmeasurable(self.gates, self._contrast.missing | missing | unasked | alone)
        self._untouched = describe_untouched(self._asked, self._items)
        self._depth = layer_depth(candidate.direction.layer, loaded.n_layers)
        self._answers = Answers(
            loaded,
            self._items,
            [self._component],
            scorer,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
            systems=self._systems,
            acts=acts,
        )
        self._further = Further(
            loaded,
            [self._component],
            self.gates,
            scorer,
            conversations,
            acts=acts,
            max_new_tokens=max_new_tokens,
            decoding=decoding,
        )

    def measure(self) -> Iterator[Metrics]:
        """What each stage says as gates read it, once it is measured: to the end it is all that they are about.

        Raises: EngineError MARGIN_EMPTY, and the codes of `generate` and `score_forced`.
        """
        yield describe_depth(self._depth)
        yield self._untouched
        self._contrast.measure_dose(self._loaded)
        yield self._contrast.metrics()
        yield from self._answers.measure()
        self._contrast.measure_controls(self._loaded)
        yield self._contrast.metrics()
        yield from self._further.measure(self._answers.runs)

    def write(self) -> Evidence:
        """After `measure`. Raises: EngineError EVIDENCE_INVALID, and the codes of `measure`."""
        loaded, candidate, items, contrast, pairs = self._loaded, self._candidate, self._items, self._contrast, self._pairs
        runs, further = self._answers.runs, self._further
        contrast.measure_promise(loaded)
        return write_evidence(
            loaded,
            run=describe_run(loaded, self._suites, self._scorer, self._max_new_tokens, self._decoding, self._systems, self._system_message),
            candidate=candidate.to_document(),
            layer_depth=self._depth,
            items=items.counts,
            **_describe_dose(loaded, candidate, items),
            **({} if candidate.condition is None else {"acting": count_acting(self._asked, self._meets)}),
            splits={
                "suites": describe_suite_splits(self._suites),
                "pairs": None if pairs is None else {name: len(part) for name, part in pairs.items()},
            },
            metrics={**self._untouched, **runs.metrics, **contrast.metrics(), **further.metrics},
            collateral=runs.collateral(),
            refusal_judge=runs.describe_judge(),
            dose_response=contrast.describe_dose(),
            controls=contrast.controls.to_document() if contrast.controls else None,
            **further.sections,
            selection={
                "behaviour": describe_behaviour_shrinkage(
                    self._curve,
                    candidate.direction.layer,
                    self._alpha,
                    runs.own_scores,
                    runs.steered_scores,
                    self._decoding.replies_per_item,
                ),
                "slope": contrast.describe_shrinkage(),
            },
            gates=self.gates,
            **({"gate_set": dict(self._gate_set)} if self._gate_set else {}),
            curve=[dict(cell) for cell in self._curve],
            replies=runs.side_by_side(),
            speed=measure_speed(loaded, items, [self._component], self._max_new_tokens),
        )

    def finish(self) -> Evidence:
        """All of it, measured to the end. Raises: the codes of `measure` and `write`."""
        for _ in self.measure():
            pass
        return self.write()


@dataclass(frozen=True)
class Judged:
    """The verdict of an evaluation that ended at its first failed gate, if any failed, and those of the gates that it had come to."""

    verdict: str
    gates: tuple[dict[str, Any], ...]


def judge_in_stages(evaluation: Evaluation) -> Judged:
    """Measures no further than to the stage at which a gate fails; the verdict is that of the whole evidence.

    A gate fails by its own metric alone, so that nothing which is measured later makes good for it.
    Raises: EngineError GATE_UNMEASURED, and the codes of `Evaluation.measure`.
    """
    left, verdicts = list(evaluation.gates), list[dict[str, Any]]()
    for metrics in evaluation.measure():
        found = judge_evidence([gate for gate in left if gate["metric"] in metrics], metrics)
        left = [gate for gate in left if gate["metric"] not in metrics]
        verdicts += found
        if judge_whole(found) == FAIL:
            return Judged(FAIL, tuple(verdicts))
    # What no stage was about is an error here as it is in the evidence.
    judge_evidence(left, {})
    return Judged(judge_whole(verdicts), tuple(verdicts))


def _describe_dose(loaded: LoadedModel, candidate: Candidate, items: EvalItems) -> dict[str, Any]:
    """What is added, as a share of what it is added to; nothing where the operator adds nothing."""
    if candidate.record.operator in STRENGTH_OPERATORS:
        return {}
    prompts = encode_prompts(loaded, [item.messages for item in items.behaviour])
    shares = abs(candidate.component().coefficient) / measure_norms(loaded, prompts, candidate.direction)
    tokens = np.mean([len(prompt.token_ids) for prompt in prompts])
    return {"dose": {"share": estimate_mean(shares).to_document(), "prompt_tokens": measure(float(tokens))}}
