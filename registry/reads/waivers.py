"""Which gates of an evaluation are waived now, and whose work it judges."""

from collections.abc import Iterable

from django.db.models import QuerySet
from django.db.models.functions import Now

from registry.models import Evaluation, SteeringVector, User, Waiver
from steernode.gates import UNDECIDABLE
from steernode.records.evidence import JudgedGate, read_gates


def waivers_in_force(evaluation: Evaluation, *, author: User | None = None) -> QuerySet[Waiver]:
    """Those that count; with an author of a revision those that count for it: by two people who did not write it."""
    given = evaluation.waivers.filter(confirmed_at__isnull=False, withdrawn_at__isnull=True, ends_at__gt=Now())
    if author is not None:
        person = author.acts_for_id or author.pk
        given = given.exclude(asked_by_person=person).exclude(confirmed_by_person=person)
    return given.select_related("asked_by", "confirmed_by")


def undecidable_gates(evaluation: Evaluation) -> list[JudgedGate]:
    return [gate for gate in read_gates(evaluation.gates) if gate.verdict == UNDECIDABLE]


def without_waived(gates: Iterable[JudgedGate], waivers: Iterable[Waiver]) -> list[JudgedGate]:
    waived = {gate_of(waiver) for waiver in waivers}
    return [gate for gate in gates if gate_of(gate) not in waived]


def gate_of(named: JudgedGate | Waiver) -> tuple[str, str, str]:
    """By what a gate of evidence is known."""
    return named.metric, named.kind, named.threshold


def judged_people(evaluation: Evaluation) -> set[int]:
    """Who made what it judges, as persons: the guard of waivers asks the same of the database."""
    if evaluation.vector is not None:
        authors = User.objects.filter(pk=evaluation.vector.author_id)
    else:
        vectors = SteeringVector.objects.filter(components__revision=evaluation.revision_id)
        authors = User.objects.filter(pk__in=vectors.values("author")) | User.objects.filter(
            pk=evaluation.revision.author_id if evaluation.revision else None
        )
    return {user.acts_for_id or user.pk for user in authors}
