"""Evaluation: one candidate on the test split, once, as the evidence document that an approval names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steernode.canonical import format_decimal
from steernode.engine.access.encoding import encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.judging.acting import count_acting, find_acting, keep_acting
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.comparison import describe_behaviour_shrinkage
from steernode.engine.judging.contrastevidence import ContrastEvidence
from steernode.engine.judging.evidence import write_evidence
from steernode.engine.judging.further import find_conversations, measure_further, missing_further
from steernode.engine.judging.prompting import positive_systems
from steernode.engine.judging.runs import (
    describe_run,
    describe_suite_splits,
    measure_speed,
    missing_metrics,
    refuse_other_template,
    run_both,
)
from steernode.engine.measuring.gates import DEFAULT_GATES, refuse_unmeasurable
from steernode.engine.measuring.metrics import EvalItems, Scorer
from steernode.engine.measuring.stats import estimate_mean, measure
from steernode.engine.reading.stability import measure_norms
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile
from steernode.gates import OF_A_COMPOSITION, OF_A_PROMPT, layer_depth, load_gates
from steernode.records.decoding import GREEDY_DECODING, Decoding
from steernode.records.evidence import Evidence
from steernode.words import STRENGTH_OPERATORS


def evaluate(
    loaded: LoadedModel,
    candidate: Candidate,
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    gates: str | Sequence[Mapping[str, str]] = DEFAULT_GATES,
    *,
    pairs: Mapping[str, Sequence[ContrastPair]] | None = None,
    max_new_tokens: int = 64,
    decoding: Decoding = GREEDY_DECODING,
    curve: Sequence[Mapping[str, Any]] = (),
    system_message: str = "",
) -> Evidence:
    """The evidence; of its document, canonical JSON, all numbers are decimal strings or integers.

    Replies are chosen as `decoding` says: drawn with several seeds, all replies to an item are one cluster. What is measured without
    writing replies, and how fast it is, does not depend on it.

    `gates` is the name of a set or a list. `pairs` is the contrast set as `split_pairs` parts it: the test part is measured, the
    select part says what the choice had promised, the extract part makes the shuffled-label controls. Without it, or at α = 0,
    there is no dose-response and there are no controls, and a gate about them is refused. `curve` is what the sweep measured on
    the select split. `system_message` is what the model is served under: every item is asked under it that has no system message of
    its own. Where the candidate has a condition, it acts, and the prompt baseline with it, only where that holds (`judging.acting`).

    Raises: EngineError CONDITION_NEVER, PROBE_MISSING, TEMPLATE_MISMATCH, SUITE_MISSING, GATE_INVALID, GATE_SET_UNKNOWN,
    GATE_UNMEASURED, EVIDENCE_INVALID, MARGIN_EMPTY, and the codes of `generate` and `score_forced`.
    """
    refuse_other_template(loaded, [candidate])
    gates = load_gates(gates)
    asked = EvalItems.of(suites, "test", with_capability=True).under(loaded, system_message)
    meets = find_acting(loaded, candidate, asked.all)
    items, acts = keep_acting(asked, meets)
    conversations = find_conversations(loaded, suites, system_message, candidate)
    component, alpha = candidate.component(), format_decimal(candidate.record.alpha)
    contrast = ContrastEvidence(candidate.direction, component, alpha, candidate.record.unit, pairs or {})
    systems = positive_systems(pair for part in (pairs or {}).values() for pair in part)
    alone = dict.fromkeys(OF_A_COMPOSITION, "it is measured where several components are judged together")
    unasked = {} if systems else dict.fromkeys(OF_A_PROMPT, "the contrast set's positive side is told nothing that could be a prompt")
    refuse_unmeasurable(gates, contrast.missing | missing_metrics(items) | missing_further(items, conversations) | unasked | alone)
    contrast.measure(loaded)
    runs = run_both(loaded, items, [component], scorer, max_new_tokens=max_new_tokens, decoding=decoding, systems=systems, acts=acts)
    further = measure_further(
        loaded, runs, [component], gates, scorer, conversations, acts=acts, max_new_tokens=max_new_tokens, decoding=decoding
    )
    return write_evidence(
        loaded,
        run=describe_run(loaded, suites, scorer, max_new_tokens, decoding, systems, system_message),
        candidate=candidate.to_document(),
        layer_depth=layer_depth(candidate.direction.layer, loaded.n_layers),
        items=items.counts,
        **_describe_dose(loaded, candidate, items),
        **({} if candidate.condition is None else {"acting": count_acting(asked, meets)}),
        splits={
            "suites": describe_suite_splits(suites),
            "pairs": None if pairs is None else {name: len(part) for name, part in pairs.items()},
        },
        metrics={**runs.metrics(), **contrast.metrics(), **further.metrics},
        collateral=runs.collateral(),
        refusal_judge=runs.describe_judge(),
        dose_response=contrast.describe_dose(),
        controls=contrast.controls.to_document() if contrast.controls else None,
        **further.sections,
        selection={
            "behaviour": describe_behaviour_shrinkage(
                curve, candidate.direction.layer, alpha, runs.own_scores, runs.steered_scores, decoding.replies_per_item
            ),
            "slope": contrast.describe_shrinkage(),
        },
        gates=gates,
        curve=[dict(cell) for cell in curve],
        replies=runs.side_by_side(),
        speed=measure_speed(loaded, items, [component], max_new_tokens),
    )


def _describe_dose(loaded: LoadedModel, candidate: Candidate, items: EvalItems) -> dict[str, Any]:
    """What is added, as a share of what it is added to; nothing where the operator adds nothing."""
    if candidate.record.operator in STRENGTH_OPERATORS:
        return {}
    prompts = encode_prompts(loaded, [item.messages for item in items.behaviour])
    shares = abs(candidate.component().coefficient) / measure_norms(loaded, prompts, candidate.direction)
    tokens = np.mean([len(prompt.token_ids) for prompt in prompts])
    return {"dose": {"share": estimate_mean(shares).to_document(), "prompt_tokens": measure(float(tokens))}}
