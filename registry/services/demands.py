"""The checklist: what a risk policy demands of a revision and its evidence, and what of it is met.

Submitting and approving refuse the first demand that is not met; the pages show all of them. What a revision keeps of its policy may be
of an earlier form: what was not demanded then is not on its checklist. Nothing is approved by it, because approving takes the terms of now.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_UP, Decimal, localcontext
from typing import Any

from django.utils import timezone

from registry.errors import TransitionRefused
from registry.models import (
    Approval,
    Component,
    CoverableForms,
    Evaluation,
    Operator,
    ProfileRevision,
    RevisionState,
    SteeringVector,
    Unit,
    Waiver,
)
from registry.reads.documents import COVERS, UNSAID, describe_waiver, digest_components, policy_document, waiver_document
from registry.reads.evidence import evidence_of, is_plain_addition, valid_approvals
from registry.reads.waivers import rested_on, waivers_for
from registry.services.covers import COVERABLE, find_uncoverable
from registry.services.gate_demands import find_unmet_gate, find_weaker_gate
from steernode.canonical import format_decimal
from steernode.errors import AlphaError, SteerError
from steernode.snapshot.conditions import are_same_conditions, describe_condition
from steernode.snapshot.records import AlphaBounds
from steernode.snapshot.resolve import absolute_coefficient

_SHARE = Decimal("0.000001")
# Of a text that a sentence quotes.
_LONGEST_SHOWN = 80


# What is wrong with the evidence, if anything is.
_Find = Callable[[Evaluation], SteerError | None]


@dataclass(frozen=True, slots=True)
class Requirement:
    """One demand in words, and the refusal that it would mean now; None once it is met."""

    demand: str
    problem: SteerError | None


def measure_peaks(components: Sequence[Component]) -> dict[str, Decimal]:
    """How far components can go inside their ranges: the largest |α| added per unit, and the largest sum of lengths added at one
    layer as a share of the mean residual norm there, rounded up. What ablates or clamps only takes away."""
    peaks = {f"peak_{unit}": Decimal(0) for unit in Unit.values}
    shares: dict[int, Decimal] = defaultdict(Decimal)
    for component in components:
        if component.operator != Operator.ADD:
            continue
        vector, reach = component.vector, component.allowed.reach
        length = absolute_coefficient(reach, unit=component.unit, norm=vector.norm, mean_residual_norm=vector.mean_residual_norm)
        peaks[f"peak_{component.unit}"] = max(peaks[f"peak_{component.unit}"], reach)
        shares[vector.layer] += length / vector.mean_residual_norm
    with localcontext(prec=60):
        peaks["peak_share"] = max(shares.values(), default=Decimal(0)).quantize(_SHARE, ROUND_UP)
    return peaks


def check_limits(components: Sequence[Component], demands: Mapping[str, Any]) -> list[Requirement]:
    """The limits, which need no evidence."""
    peaks, requirements = measure_peaks(components), []
    if caps := {unit: demands["alpha_caps"][unit] for unit in Unit.values if unit in demands.get("alpha_caps", {})}:
        beyond_cap = None
        for unit, cap in caps.items():
            reach = format_decimal(peaks[f"peak_{unit}"])
            if Decimal(reach) > Decimal(cap):
                beyond_cap = AlphaError("ALPHA_CAP", f"α may reach {reach} {unit}, the cap of the risk class is {cap}", reach)
        requirements.append(Requirement(f"|α| of at most {', '.join(f'{cap} {unit}' for unit, cap in caps.items())}", beyond_cap))
    if budget := demands.get("composition_budget"):
        beyond_budget, share = None, format_decimal(peaks["peak_share"])
        if Decimal(share) > Decimal(budget):
            problem = f"one layer may get {share} of its mean residual norm, the composition budget of the risk class is {budget}"
            beyond_budget = AlphaError("COMPOSITION_BUDGET", problem, share)
        requirements.append(Requirement(f"at most {budget} of the mean residual norm added at one layer", beyond_budget))
    return requirements


def check_revision(revision: ProfileRevision, evaluation: Evaluation | None, demands: Mapping[str, Any]) -> list[Requirement]:
    """Every demand on the revision and on this evidence, in the order in which a person would see to them."""
    components = list(revision.components.select_related("vector__contrast_set", "vector__job"))
    rests_on, waivers = rested_on(revision, evaluation), waivers_for(revision, evaluation)
    always: list[tuple[str, _Find]] = [
        ("evidence of exactly these components", lambda found: _find_other_subject(revision, components, found)),
        ("evidence under the system message that is served", lambda found: _find_other_system(components, found)),
        ("every range inside the evaluated α", lambda _: _find_beyond_evidence(components)),
        (_say_gates(evaluation, waivers), lambda _: _find_unmet(revision, rests_on, waivers)),
    ]
    by_term: dict[str, Callable[[Any], tuple[str, _Find]]] = {
        "gate_set": lambda name: (f"gates as strict as the set {name}", lambda found: find_weaker_gate(components, found, name)),
        "suite_kinds": lambda kinds: (f"suites of the kinds {', '.join(kinds)}", lambda found: _find_missing_kind(found, kinds)),
        "minimum_pairs": lambda count: (f"at least {count} contrast pairs", lambda _: _find_few_pairs(components, count)),
        "locales": lambda locales: (f"the locales {', '.join(locales)}", lambda found: _find_missing_locale(components, found, demands)),
        "evidence_max_age_days": lambda days: (f"evidence of at most {days} days", lambda found: _find_age(found, days)),
    }
    demanded = [*always, *(say(demands[term]) for term, say in by_term.items() if demands.get(term))]
    covers, coverable = list(COVERS.filter(revision=revision)), CoverableForms(demands.get("coverable_forms", UNSAID["coverable_forms"]))
    # A demand on what nothing was measured on, so that no evidence meets it; a revision that covers no form is not asked.
    covered = [Requirement(COVERABLE[coverable], find_uncoverable(revision, covers, coverable))] if covers else []
    if demands.get("refuses_claimed_lineage"):
        demanded.insert(0, ("vectors that were made here, by a job", lambda _: _find_claimed(revision, components)))
    missing = TransitionRefused("EVIDENCE_MISSING", f"{revision} names no evaluation", str(revision))
    judged = [Requirement(demand, missing if evaluation is None else find(evaluation)) for demand, find in demanded]
    return [*check_limits(components, demands), *covered, *judged]


def _say_gates(evaluation: Evaluation | None, waivers: Sequence[Waiver]) -> str:
    said = "; ".join(describe_waiver(waiver_document(waiver, evaluation)) for waiver in waivers)
    return f"every gate of the evidence passed, but for what is waived: {said}" if said else "every gate of the evidence passed"


def _find_unmet(revision: ProfileRevision, rests_on: Sequence[Evaluation], waivers: Sequence[Waiver]) -> SteerError | None:
    """The refusal of any of what a revision rests on: of a waiver that it was submitted with and that counts no more, then of a gate."""
    counting = {str(waiver.pk) for waiver in waivers}
    if gone := [said for said in revision.waivers if said["id"] not in counting]:
        problem = f"{revision} was submitted with a waiver that counts no more: {describe_waiver(gone[0])}; submit it again"
        return TransitionRefused("WAIVER_ENDED", problem, str(revision))
    found = (find_unmet_gate(judged, waivers, author=revision.author) for judged in rests_on)
    return next((problem for problem in found if problem), None)


def list_requirements(revision: ProfileRevision) -> list[Requirement]:
    """The checklist of a revision as it is: a draft is held to what is demanded now, with the evidence that covers it."""
    demands = revision.demands or policy_document(revision.profile.risk_class)
    return check_revision(revision, revision.evaluation or evidence_of(revision), demands)


def missing_approvals(revision: ProfileRevision) -> list[str]:
    """What a submitted revision still waits for, in words; empty once it may be approved."""
    given = list(valid_approvals(revision).select_related("reviewer").prefetch_related("reviewer__groups"))
    short = revision.approvals_needed - len({approval.reviewer_person for approval in given})
    held = {role for approval in given for role in _covered_roles(approval, revision)}
    missing = [f"{short} more approval{'s' if short > 1 else ''}"] if short > 0 else []
    roles = revision.demands.get("reviewer_roles", [])
    return [*missing, *(f"an approval by somebody with the role {role}" for role in roles if role not in held)]


def _covered_roles(approval: Approval, revision: ProfileRevision) -> set[str]:
    """Those that the reviewer held then. Of one that is pending, that they still hold: a role that was taken away covers nothing."""
    held = set(approval.roles)
    if revision.state == RevisionState.SUBMITTED:
        held &= {group.name for group in approval.reviewer.groups.all()}
    return held


def refuse_unmet(requirements: Sequence[Requirement]) -> None:
    """Raises: the refusal of the first demand that is not met."""
    for requirement in requirements:
        if requirement.problem is not None:
            raise requirement.problem


def _find_other_subject(revision: ProfileRevision, components: Sequence[Component], evaluation: Evaluation) -> SteerError | None:
    if evaluation.components_digest:
        if evaluation.components_digest == digest_components(revision):
            return None
        problem = f"the evaluation is of other components than {revision} has now; have these judged together"
        return TransitionRefused("EVIDENCE_MISMATCH", problem, str(evaluation.pk))
    if len(components) > 1:
        problem = f"{revision} combines {len(components)} vectors; it takes an evaluation of them together, not of {evaluation}"
        return TransitionRefused("COMPOSITION_EVIDENCE", problem, str(evaluation.pk))
    (component,) = components
    if (component.vector_id, component.alpha, component.unit) != (evaluation.vector_id, evaluation.alpha, evaluation.unit):
        wanted = f"{component.vector} at α = {format_decimal(component.alpha)} {component.unit}"
        return TransitionRefused("EVIDENCE_MISMATCH", f"the evaluation is of {evaluation}, not of {wanted}", str(evaluation.pk))
    if not is_plain_addition(components):
        problem = f"the evaluation is of adding {component.vector} to generated tokens; have what this component does with it judged"
        return TransitionRefused("EVIDENCE_MISMATCH", problem, str(evaluation.pk))
    if not are_same_conditions(component.condition, evaluation.condition):
        measured, wanted = describe_condition(evaluation.condition), describe_condition(component.condition)
        problem = f"the evaluation is of steering {measured}, and this component steers {wanted}; have what it does judged"
        return TransitionRefused("EVIDENCE_MISMATCH", problem, str(evaluation.pk))
    return None


def _find_other_system(components: Sequence[Component], evaluation: Evaluation) -> SteerError | None:
    """A vector that came from a recipe is served under the message that the recipe says; of an imported one nobody has said."""
    for component in components:
        made_by = component.vector.job
        if made_by is None:
            continue
        served = made_by.recipe.get("system_message", "")
        if served != evaluation.system_message:
            measured = _quote(evaluation.system_message)
            problem = f"the evidence was measured under {measured}, and {component.vector} was made to be served under {_quote(served)}"
            return TransitionRefused("EVIDENCE_MISMATCH", problem, str(evaluation.pk))
    return None


def _quote(system_message: str) -> str:
    return f"the system message {system_message[:_LONGEST_SHOWN]!r}" if system_message else "no system message"


def _find_claimed(revision: ProfileRevision, components: Sequence[Component]) -> SteerError | None:
    """The vectors that steer, and those that its conditions read along."""
    conditions = [*(component.condition for component in components), *revision.safety_override]
    probes = [condition["vector"]["sha256"] for condition in conditions if condition and "vector" in condition]
    vectors = [*(component.vector for component in components), *SteeringVector.objects.filter(digest__in=probes)]
    claimed = next((vector for vector in vectors if vector.is_lineage_claimed), None)
    if claimed is None:
        return None
    problem = f"{claimed} was imported, so its lineage is only claimed; the policy takes vectors that a job here made"
    return TransitionRefused("LINEAGE_CLAIMED", problem, str(claimed))


def _find_beyond_evidence(components: Sequence[Component]) -> SteerError | None:
    """Evidence reaches from no steering to the evaluated α; a range beyond that would be approved unseen."""
    for component in components:
        lowest, highest = sorted((Decimal(0), component.alpha))
        if not AlphaBounds(lowest, highest).covers(component.allowed):
            return AlphaError(
                "ALPHA_RANGE",
                f"the range {component.allowed} goes beyond the evaluated α = {format_decimal(component.alpha)}",
                format_decimal(component.alpha_max),
            )
    return None


def _find_missing_kind(evaluation: Evaluation, kinds: Sequence[str]) -> SteerError | None:
    judged = {suite.kind for suite in evaluation.job.suites.all()}
    missing = [kind for kind in kinds if kind not in judged]
    return TransitionRefused("SUITES_MISSING", f"no {missing[0]} suite judged the evidence", missing[0]) if missing else None


def _find_few_pairs(components: Sequence[Component], minimum: int) -> SteerError | None:
    for component in components:
        contrast_set = component.vector.contrast_set
        if contrast_set is None:
            return TransitionRefused("PAIRS_UNKNOWN", f"the contrast set of {component.vector} is not on record", str(component.vector))
        if contrast_set.pair_count < minimum:
            problem = f"{contrast_set} has {contrast_set.pair_count} pairs, the policy demands {minimum}"
            return TransitionRefused("PAIRS_FEW", problem, str(contrast_set))
    return None


def _find_missing_locale(components: Sequence[Component], evaluation: Evaluation, demands: Mapping[str, Any]) -> SteerError | None:
    """Each locale must be in what every vector was read from, and in the test split of every kind of suite that is demanded."""
    covered: list[tuple[str, set[str]]] = [
        (str(contrast_set), set(contrast_set.locales))
        for contrast_set in (component.vector.contrast_set for component in components)
        if contrast_set is not None
    ]
    suites = list(evaluation.job.suites.all())
    for kind in demands.get("suite_kinds", []):
        covered.append((f"the {kind} suites", {locale for suite in suites if suite.kind == kind for locale in suite.locales}))
    for locale in demands["locales"]:
        for name, locales in covered:
            if locale not in locales:
                return TransitionRefused("LOCALE_UNCOVERED", f"{name} cover no {locale}, which the policy demands", locale)
    return None


def _find_age(evaluation: Evaluation, days: int) -> SteerError | None:
    age = timezone.now() - evaluation.evaluated_at
    if age <= timedelta(days=days):
        return None
    return TransitionRefused("EVIDENCE_OLD", f"the evidence is {age.days} days old, the policy takes {days}", str(evaluation.pk))
