"""Evaluation of several components together, on the test split, once: parts that each pass can break safety together.

The replies, losses and divergence are those of all components at once. Beside them stand what each does alone, what each pair does
beyond the sum of its two, and how long the pushes on each layer are together. To each item those reply together whose conditions hold on
it; in what is scored without writing replies, and over several turns of several components, all that can act does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from steernode.engine.access.models import LoadedModel
from steernode.engine.judging import stages
from steernode.engine.judging.acting import count_acting, describe_untouched, find_acting, keep_acting
from steernode.engine.judging.answering import Answers
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.comparison import beside, find_empty_baseline
from steernode.engine.judging.composition import METRICS, OF_REFUSING, Part, measure_composition
from steernode.engine.judging.evidence import write_evidence
from steernode.engine.judging.further import Further, find_conversations, missing_further
from steernode.engine.judging.refusals import refusal_items
from steernode.engine.judging.runs import (
    describe_run,
    describe_suite_splits,
    measure_speed,
    missing_metrics,
    neutral_of,
    neutral_rows,
    refuse_other_template,
)
from steernode.engine.measuring.gates import refuse_unmeasurable
from steernode.engine.measuring.items import EvalItems, spread
from steernode.engine.measuring.margins import MarginItem, margin_items
from steernode.engine.measuring.metrics import Scorer, force_replies
from steernode.engine.measuring.stats import reference
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.files.suites import SuiteFile
from steernode.gates import OF_A_PROMPT, OF_ONE_DIRECTION, OF_RANDOM, composition_gates, layer_depth
from steernode.records.decoding import GREEDY_DECODING, Decoding
from steernode.records.evidence import JOINT, Evidence

# Pairs of each axis that are scored under every part, every pair and all; more narrow the intervals little.
AXIS_PAIRS = 48


def evaluate_together(
    loaded: LoadedModel,
    candidates: Mapping[str, Candidate],
    suites: Mapping[str, SuiteFile],
    scorer: Scorer,
    gates: Sequence[Mapping[str, str]] = (),
    *,
    components_digest: str,
    axes: Mapping[str, Sequence[ContrastPair]] | None = None,
    max_new_tokens: int = 64,
    decoding: Decoding = GREEDY_DECODING,
    system_message: str = "",
) -> Evidence:
    """The evidence, without a candidate and with a composition.

    `candidates` by the names that people call them, in the order in which they are applied: two or more, or one that does anything but
    add to what is generated. `gates` stand beside those of the set `composition`, which always hold. `axes` are pairs of the test split
    by the behaviour they are about. `system_message` is what the model is served under, as of an `Evaluation`.

    A model that hardly refuses, or of whose replies the judge is not sure, leaves what is said of refusals undecidable.

    Raises: EngineError CONDITION_NEVER, PROBE_MISSING, COMPOSITION_PARTS, COMPOSITION_EMPTY, TEMPLATE_MISMATCH, SUITE_MISSING,
    GATE_INVALID, GATE_UNMEASURED, EVIDENCE_INVALID, and the codes of `generate` and `score_forced`.
    """
    if not candidates:
        raise EngineError("COMPOSITION_PARTS", "a composition needs a component at least")
    refuse_other_template(loaded, candidates.values())
    gates = composition_gates([gates])
    asked = EvalItems.of(suites, "test", with_capability=True).under(loaded, system_message)
    meets = np.stack([find_acting(loaded, candidate, asked.all) for candidate in candidates.values()], axis=1)
    items, acts = keep_acting(asked, meets)
    if not neutral_rows(items):
        problem = (
            "no condition holds on any fact or harmless request, so that nothing would show what else is moved; add items that meet one"
        )
        raise EngineError("COMPOSITION_EMPTY", problem, "neutral")
    only = next(iter(candidates.values())) if len(candidates) == 1 else None
    conversations = find_conversations(loaded, suites, system_message, only)
    of_one = dict.fromkeys((*OF_ONE_DIRECTION, *OF_A_PROMPT, *OF_RANDOM), "it is said of one direction")
    refuse_unmeasurable(gates, missing_metrics(asked) | missing_further(asked, conversations) | of_one)
    untouched = describe_untouched(asked, items)
    parts = [Part(name, (candidate.component(),)) for name, candidate in candidates.items()]
    components = [component for part in parts for component in part.components]
    mark = any(component.scope == "assistant" for component in components)
    harmful = [item.messages for item in items.refusals if item.expect["refuse"]]
    # How the model begins to answer is learnt from look-alikes, and from plain questions where there are none.
    harmless = [item.messages for item in items.refusals if not item.expect["refuse"]] or [item.messages for item in asked.facts]
    loaded.work.enter(stages.PAIRS)
    refusals, missing = _find_refusals(loaded, harmful, harmless, mark)
    contrasts = {name: found for name, pairs in (axes or {}).items() if (found := _contrast(loaded, pairs, mark))}
    runs = Answers(loaded, items, components, scorer, max_new_tokens=max_new_tokens, decoding=decoding, acts=acts).finish()
    further = Further(loaded, components, gates, scorer, conversations, max_new_tokens=max_new_tokens, decoding=decoding)
    for _ in further.measure(runs):
        pass
    loaded.work.enter(stages.TOGETHER)
    composition = measure_composition(
        loaded,
        parts,
        axes=contrasts,
        refusals=refusals,
        neutral=force_replies(loaded, *neutral_of(runs.items, runs.own), mark_assistant=mark),
        mean_residual_norms=_least_residual_norms(list(candidates.values())),
        gates=[gate for gate in gates if gate["metric"] in METRICS and gate["kind"] in ("min", "max")],
        undecidable=find_empty_baseline(runs.own_scores) or missing,
    )
    return write_evidence(
        loaded,
        run=describe_run(loaded, suites, scorer, max_new_tokens, decoding, system_message=system_message),
        candidate=None,
        layer_depth=layer_depth(max(candidate.direction.layer for candidate in candidates.values()), loaded.n_layers),
        items=items.counts,
        **({"acting": count_acting(asked, meets)} if any(each.condition for each in candidates.values()) else {}),
        splits={"suites": describe_suite_splits(suites), "pairs": None},
        metrics={**untouched, **runs.metrics, **further.metrics, **_joint_metrics(composition)},
        collateral=runs.collateral(),
        refusal_judge=runs.describe_judge(),
        dose_response=None,
        controls=None,
        **further.sections,
        selection={"behaviour": None, "slope": None},
        gates=gates,
        curve=[],
        replies=runs.side_by_side(),
        speed=measure_speed(loaded, items, components, max_new_tokens),
        composition={
            "components_digest": components_digest,
            "components": [{"name": name, **candidate.to_document()} for name, candidate in candidates.items()],
            **{
                name: composition[name]
                for name in ("cosines", "pairs", "norm_shares", "axes", "refusals", "divergence", "gates", "breaks_jointly")
            },
        },
    )


def _find_refusals(
    loaded: LoadedModel, harmful: Sequence[Sequence[Message]], harmless: Sequence[Sequence[Message]], mark_assistant: bool
) -> tuple[tuple[MarginItem, ...], dict[str, str] | None]:
    """What can be lost, or why there is nothing."""
    try:
        return refusal_items(loaded, harmful, harmless, mark_assistant=mark_assistant), None
    except EngineError as error:
        if error.code != "REFUSALS_MISSING":
            raise
        return (), {"code": error.code, "reason": error.message}


def _contrast(loaded: LoadedModel, pairs: Sequence[ContrastPair], mark_assistant: bool) -> tuple[MarginItem, ...]:
    """Nothing where an axis has no test pairs, or the model says the same to both sides of all of them."""
    try:
        return margin_items(loaded, spread(pairs, AXIS_PAIRS), mark_assistant=mark_assistant) if pairs else ()
    except EngineError as error:
        if error.code != "MARGIN_EMPTY":
            raise
        return ()


def _least_residual_norms(candidates: Sequence[Candidate]) -> dict[int, float]:
    """By layer. Vectors of one layer were read from different texts; the shortest stream makes the largest share."""
    norms: dict[int, float] = {}
    for candidate in candidates:
        layer, norm = candidate.direction.layer, candidate.direction.mean_residual_norm
        norms[layer] = min(norm, norms.get(layer, norm))
    return norms


def _joint_metrics(composition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the gates of the set `composition` judge beside what is measured of any steering."""
    joint = composition["refusals"][JOINT]
    share = max((float(share) for share in composition["norm_shares"][JOINT].values()), default=0.0)
    n = joint["margin"]["n"]
    metrics = {
        "refusal_margin_kept": {"baseline": reference(1.0, n).to_document(), "steered": joint["kept"]},
        "refusal_lost": {"baseline": reference(0.0, n).to_document(), "steered": joint["lost"]},
        "norm_share": beside(reference(share, len(composition["parts"])), 0.0),
    }
    if "undecidable" in composition:
        for name in OF_REFUSING:
            metrics[name]["undecidable"] = composition["undecidable"]
    return metrics
