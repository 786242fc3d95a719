"""Which evaluation and which approvals count for a revision as it is now."""

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from registry.models import Approval, Component, Decision, Evaluation, ProfileRevision, RevisionState, Role, SteeringVector
from registry.reads.departures import people_who_still_may
from registry.reads.documents import digest_components
from steernode.snapshot.conditions import are_same_conditions
from steernode.snapshot.records import STATED
from steernode.words import STRENGTH_OPERATORS

# What changes how a component acts. α is its own dose, a schedule only takes away, and a condition is that of the evidence or is not.
_HOW_IT_ACTS = [each for each in STATED if not each.is_required and each.kind not in ("schedule", "condition")]


def valid_approvals(revision: ProfileRevision) -> QuerySet[Approval]:
    """Those that count. Until it is approved that takes a reviewer who still may; what it was approved by stays what it was."""
    fresh = fresh_approvals(revision)
    return fresh.filter(reviewer__in=people_who_still_may(Role.APPROVER)) if revision.state == RevisionState.SUBMITTED else fresh


def fresh_approvals(revision: ProfileRevision) -> QuerySet[Approval]:
    """Approvals of the revision and the evidence as they are now; decisions on an earlier state do not count, nor do old ones."""
    evidence = revision.evaluation.digest if revision.evaluation else ""
    oldest = timezone.now() - timedelta(days=revision.demands.get("approval_valid_days", 0))
    approvals = revision.approvals.filter(decision=Decision.APPROVE, revision_digest=revision.digest, evidence_digest=evidence)
    # Once it is approved, what it was approved by stays what it was.
    return approvals.filter(decided_at__gt=oldest) if revision.state == RevisionState.SUBMITTED else approvals


def latest_evaluation(vector: SteeringVector) -> Evaluation | None:
    return vector.evaluations.order_by("-evaluated_at").first()


def evidence_of_part(component: Component) -> Evaluation | None:
    """What the vector of a component showed alone: the newest look at its α, or else at the nearest α beyond it in the same unit, because
    evidence reaches from no steering to the α that was judged. What only removes has a strength and no α: the newest look.
    """
    looks = component.vector.evaluations.order_by("-evaluated_at")
    if component.operator in STRENGTH_OPERATORS:
        return looks.first()
    looks = looks.filter(unit=component.unit)
    if component.alpha < 0:
        return looks.filter(alpha__lte=component.alpha).order_by("-alpha", "-evaluated_at").first()
    return looks.filter(alpha__gte=component.alpha).order_by("alpha", "-evaluated_at").first()


def _evidence_alone(component: Component) -> Evaluation | None:
    """The newest look at the vector of a component at its α, or else the newest at all."""
    looks = component.vector.evaluations.order_by("-evaluated_at")
    return looks.filter(alpha=component.alpha, unit=component.unit).first() or looks.first()


def evidence_of(revision: ProfileRevision) -> Evaluation | None:
    """The evaluation that covers what the revision does: of its one vector, or of its components together."""
    components = list(revision.components.select_related("vector"))
    if is_plain_addition(components):
        evaluation = _evidence_alone(components[0])
        if evaluation is None or are_same_conditions(components[0].condition, evaluation.condition):
            return evaluation
    return Evaluation.objects.select_related("revision__profile").filter(components_digest=digest_components(revision)).first()


def is_plain_addition(components: Sequence[Component]) -> bool:
    """One vector, added to what is generated and nothing else: what the vector's own validation is of."""
    return len(components) == 1 and all(getattr(components[0], each.name) == each.default for each in _HOW_IT_ACTS)


def is_as_validated(components: Sequence[Component]) -> bool:
    """A plain addition that acts where its vector's validation had it act. Before there is one, any may turn out to be."""
    if not is_plain_addition(components):
        return False
    evaluation = _evidence_alone(components[0])
    return evaluation is None or are_same_conditions(components[0].condition, evaluation.condition)


def only_removes(components: Sequence[Component]) -> bool:
    return all(component.operator in STRENGTH_OPERATORS for component in components)
