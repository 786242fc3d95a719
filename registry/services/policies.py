"""Risk policies: create and change what a risk class limits and demands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, TransitionRefused
from registry.models import CoverableForms, Environment, ProfileRevision, RevisionState, RiskPolicy, Role, SuiteKind, Unit, User
from registry.models.fields import NAME, refuse_rounding
from registry.reads.documents import UNSAID, policy_document
from registry.reads.gates import find_gate_set, say_known
from registry.reads.steering import is_inside_its_limits
from registry.services.approvals import return_to_draft
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.names import check_new_name
from registry.services.transition import lock_environments, publish_at_end, transition
from steernode.gates import gate_sets
from steernode.words import ALPHA_CAPS

LONGEST_PERIOD_DAYS = 3650
MOST_APPROVALS = 10
# It is added to a policy's own wherever several components are judged together.
FOR_COMPOSITIONS = "composition"
MOST_PAIRS = 1_000_000
LARGEST_BUDGET = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTerms:
    """What a policy limits and demands. `alpha_caps` has every unit; `composition_budget` is a share of the mean residual norm."""

    alpha_caps: Mapping[str, Decimal]
    composition_budget: Decimal
    suite_kinds: Sequence[str]
    gate_set: str
    minimum_pairs: int
    refuses_claimed_lineage: bool = False
    coverable_forms: str = CoverableForms.CLOSE.value
    locales: Sequence[str]
    evidence_max_age_days: int
    approvals_needed: int
    reviewer_roles: Sequence[str]
    approval_valid_days: int
    review_after_days: int


@transition
def create_policy(name: str, *, terms: PolicyTerms, reason: str, actor: User) -> RiskPolicy:
    """A new risk class. Raises: TransitionRefused POLICY_EXISTS; InvalidInput POLICY_NAME, NAME_CASE; the codes of `check_terms`."""
    if not NAME.fullmatch(name) or len(name) > 50:
        raise InvalidInput("POLICY_NAME", "a policy's name has up to 50 letters, digits, '-' and '_'", name)
    check_terms(terms)
    if RiskPolicy.objects.filter(name=name).exists():
        raise TransitionRefused("POLICY_EXISTS", f"a risk policy {name!r} exists; change it instead", name)
    check_new_name(RiskPolicy, name)
    policy = RiskPolicy.objects.create(name=name, reason=reason, changed_by=actor, **_columns(terms))
    record(Action.POLICY_CREATED, actor=actor, subject=policy, details={"terms": policy_document(policy), "reason": reason})
    return policy


@transition
def change_policy(name: str, *, terms: PolicyTerms, reason: str, actor: User) -> RiskPolicy:
    """The policy with other terms, for what is in flight as well, and never unseen: unchanged terms leave everything as it is.

    What is submitted under it becomes a draft again, because its reviewers read other terms. What steers keeps the demands that
    it was approved by, and is invalidated if it can go beyond the new limits. Looser limits revive nothing.
    Raises: the codes of `check_terms`.
    """
    check_terms(terms)
    environments = lock_environments(Environment.objects.all())
    policy = RiskPolicy.objects.select_for_update().get(name=name)
    before = policy_document(policy)
    for column, value in _columns(terms).items():
        setattr(policy, column, value)
    after = policy_document(policy)
    if after == before:
        return policy
    policy.reason, policy.changed_by, policy.changed_at = reason, actor, timezone.now()
    policy.save()
    of_class = ProfileRevision.objects.filter(profile__risk_class=policy)
    # A decision that is under way finishes first: what it approves is found by the second of these.
    returned = lock_revisions(of_class.filter(state=RevisionState.SUBMITTED))
    beyond = lock_revisions(of_class.filter(~is_inside_its_limits(), state=RevisionState.APPROVED))
    # What is unsaid is in neither.
    changed = [field for field in {**before, **after} if after.get(field) != before.get(field)]
    record(
        Action.POLICY_CHANGED,
        actor=actor,
        subject=policy,
        details={
            "before": {field: before.get(field, UNSAID.get(field)) for field in changed},
            "after": {field: after.get(field, UNSAID.get(field)) for field in changed},
            "reason": reason,
            "returned": [str(revision) for revision in returned],
            "invalidated": [str(revision) for revision in beyond],
        },
    )
    for revision in returned:
        because = f"the risk policy {policy} changed: {reason}"
        record(
            Action.REVISION_RETURNED,
            actor=actor,
            subject=revision,
            details={"revision_digest": revision.digest, "reason": because},
            base_model_fingerprint=revision.base_model.fingerprint,
        )
        return_to_draft(revision, reason=because)
    if beyond:
        invalidate_revisions(beyond, reason=f"it can go beyond the limits of the risk policy {policy} now: {reason}", actor=actor)
    for environment in environments:
        publish_at_end(environment, cause=Action.POLICY_CHANGED, actor=actor)
    return policy


def check_terms(terms: PolicyTerms) -> None:
    """Raises: InvalidInput POLICY_CAP, POLICY_BUDGET, POLICY_SUITES, POLICY_FORMS, POLICY_GATES, POLICY_ROLES, POLICY_LOCALES,
    POLICY_NUMBER;
    AlphaError ALPHA_FORMAT for a number that the record cannot hold exactly."""
    if set(terms.alpha_caps) != set(Unit.values):
        raise InvalidInput("POLICY_CAP", f"a policy caps every unit: {', '.join(Unit.values)}", "alpha_caps")
    for unit, cap in terms.alpha_caps.items():
        if not cap.is_finite() or not 0 <= refuse_rounding(cap) <= Decimal(ALPHA_CAPS[unit]):
            raise InvalidInput("POLICY_CAP", f"the cap {cap} {unit} is not between 0 and {ALPHA_CAPS[unit]}, the outermost one", unit)
    if not terms.composition_budget.is_finite() or not 0 <= refuse_rounding(terms.composition_budget) <= LARGEST_BUDGET:
        raise InvalidInput("POLICY_BUDGET", f"the composition budget {terms.composition_budget} is not between 0 and {LARGEST_BUDGET}")
    _check_known("POLICY_SUITES", "suite kind", terms.suite_kinds, SuiteKind.values)
    _check_known("POLICY_FORMS", "choice of forms", [terms.coverable_forms], CoverableForms.values)
    refer_to_gates(terms.gate_set)
    if not terms.reviewer_roles:
        raise InvalidInput("POLICY_ROLES", "a policy names at least one reviewer role", "reviewer_roles")
    _check_known("POLICY_ROLES", "role", terms.reviewer_roles, Role.values)
    for locale in terms.locales:
        if not NAME.fullmatch(locale) or len(locale) > 35:
            raise InvalidInput("POLICY_LOCALES", f"{locale!r} is no locale such as en-US", locale)
    for field, least, most in (
        ("minimum_pairs", 2, MOST_PAIRS),
        ("approvals_needed", 1, MOST_APPROVALS),
        ("evidence_max_age_days", 1, LONGEST_PERIOD_DAYS),
        ("approval_valid_days", 1, LONGEST_PERIOD_DAYS),
        ("review_after_days", 1, LONGEST_PERIOD_DAYS),
    ):
        if not least <= getattr(terms, field) <= most:
            raise InvalidInput("POLICY_NUMBER", f"{field} is {getattr(terms, field)}, not between {least} and {most}", field)


def refer_to_gates(reference: str) -> str:
    """A gate set as a policy keeps it: one that ships by its name, the organisation's own by NAME@VERSION, the newest of now unless given.

    Raises: InvalidInput POLICY_GATES.
    """
    found = None if reference == FOR_COMPOSITIONS else find_gate_set(reference)
    if found is None:
        raise InvalidInput("POLICY_GATES", f"no gate set {reference!r} for a policy; known are {say_known()}", reference)
    return found.name if found.name in gate_sets() else f"{found.name}@{found.version}"


def _check_known(code: str, noun: str, given: Sequence[str], known: Any) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(code, f"no {noun} {unknown[0]!r}; known are {', '.join(known)}", unknown[0])


def _columns(terms: PolicyTerms) -> dict[str, Any]:
    """The terms as the record holds them: lists without repetition, in one order."""
    return {
        **{f"alpha_cap_{unit}": cap for unit, cap in terms.alpha_caps.items()},
        "composition_budget": terms.composition_budget,
        "suite_kinds": sorted(set(terms.suite_kinds)),
        "gate_set": refer_to_gates(terms.gate_set),
        "minimum_pairs": terms.minimum_pairs,
        "refuses_claimed_lineage": terms.refuses_claimed_lineage,
        "coverable_forms": terms.coverable_forms,
        "locales": sorted(set(terms.locales)),
        "evidence_max_age_days": terms.evidence_max_age_days,
        "approvals_needed": terms.approvals_needed,
        "reviewer_roles": sorted(set(terms.reviewer_roles)),
        "approval_valid_days": terms.approval_valid_days,
        "review_after_days": terms.review_after_days,
    }
