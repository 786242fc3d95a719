"""Which gates are waived now, by which waivers, and on which evidence a revision rests."""

from collections.abc import Collection, Iterable
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Now

from registry.models import Evaluation, ProfileRevision, RevisionState, Role, User, Verdict, Waiver
from registry.reads.departures import people_who_still_may, still_may
from registry.reads.evidence import evidence_of_part
from steernode.gates import UNDECIDABLE
from steernode.records.evidence import JudgedGate, read_gates

_PEOPLE = ("asked_by__acts_for", "confirmed_by__acts_for")


def rested_on(revision: ProfileRevision, evaluation: Evaluation | None) -> list[Evaluation]:
    """The evidence, and where it is of components together what was said of each alone.

    What is said of one direction or of the prompt is no gate of a composition, so that nobody answers for it there. The guard of
    revisions asks the database the same.
    """
    if evaluation is None or not evaluation.components_digest:
        return [evaluation] if evaluation else []
    found = {evaluation.pk: evaluation}
    for component in revision.components.select_related("vector").order_by("position"):
        part = evidence_of_part(component)
        if part is not None:
            found[part.pk] = part
    return list(found.values())


def waivers_in_force(evaluation: Evaluation, *, author: User) -> QuerySet[Waiver]:
    """Those that count for a revision of this author: by two people who still may, and who did not write it."""
    return _that_count(evaluation.waivers.all(), author)


def waivers_for(revision: ProfileRevision, evaluation: Evaluation | None) -> list[Waiver]:
    """What stands in for gates that are undecidable: of each gate what ends last. Once it is submitted what it was submitted with, as far
    as that still counts; once it is decided on, whoever of these people left since."""
    if revision.state != RevisionState.DRAFT:
        said = Waiver.objects.filter(pk__in=[said["id"] for said in revision.waivers]).order_by("ends_at")
        if revision.state == RevisionState.SUBMITTED:
            return list(_that_count(said, revision.author))
        return list(_in_force(said))
    given = [
        waiver
        for judged in rested_on(revision, evaluation)
        if judged.verdict == Verdict.UNDECIDABLE
        for waiver in waivers_in_force(judged, author=revision.author).order_by("ends_at")
    ]
    return list({(waiver.evaluation_id, gate_of(waiver)): waiver for waiver in given}.values())


def find_ended(revisions: Collection[ProfileRevision]) -> dict[UUID, set[str]]:
    """By revision the ids, as it keeps them, of those of its waivers that ended or were withdrawn; of what is only submitted also of those
    that somebody gave who may no more. Read in two queries, however many they are."""
    said = {revision.pk: {waiver["id"] for waiver in revision.waivers} for revision in revisions if revision.waivers}
    if not said:
        return {}
    approvers, given = people_who_still_may(Role.APPROVER), _in_force(Waiver.objects.filter(pk__in=set().union(*said.values())))
    standing = {str(key) for key in given.values_list("pk", flat=True)}
    counting = {str(key) for key in given.filter(asked_by__in=approvers, confirmed_by__in=approvers).values_list("pk", flat=True)}
    pending = {revision.pk for revision in revisions if revision.state == RevisionState.SUBMITTED}
    return {key: ids - (counting if key in pending else standing) for key, ids in said.items()}


def why_not_counted(waiver: Waiver, author: User) -> str:
    """Why a waiver that is asked for or in force counts for no revision of this author; empty if it would count."""
    given = [(person, number) for person, number in _people_of(waiver) if number == (author.acts_for_id or author.pk)]
    if given:
        return f"{given[0][0]} wrote the revision"
    left = next((person for person, _ in _people_of(waiver) if not still_may(person, Role.APPROVER)), None)
    return f"{left} is no approver any more" if left else ""


def list_uncounted(evaluation: Evaluation, author: User) -> list[tuple[Waiver, str]]:
    """Those that are confirmed and did not end, and count all the same for no revision of this author; with the reason."""
    given = _in_force(evaluation.waivers.all())
    return [(waiver, why) for waiver in given if (why := why_not_counted(waiver, author))]


def undecidable_gates(evaluation: Evaluation) -> list[JudgedGate]:
    return [gate for gate in read_gates(evaluation.gates) if gate.verdict == UNDECIDABLE]


def without_waived(evaluation: Evaluation, gates: Iterable[JudgedGate], waivers: Iterable[Waiver]) -> list[JudgedGate]:
    waived = {gate_of(waiver) for waiver in waivers if waiver.evaluation_id == evaluation.pk}
    return [gate for gate in gates if gate_of(gate) not in waived]


def gate_of(named: JudgedGate | Waiver) -> tuple[str, str, str]:
    """By what a gate of evidence is known."""
    return named.metric, named.kind, named.threshold


def people_may(waiver: Waiver) -> bool:
    """Whether all who gave it so far still may."""
    return all(still_may(person, Role.APPROVER) for person, _ in _people_of(waiver))


def _people_of(waiver: Waiver) -> list[tuple[User, int]]:
    given = [(waiver.asked_by, waiver.asked_by_person)]
    if waiver.confirmed_by is not None and waiver.confirmed_by_person is not None:
        given.append((waiver.confirmed_by, waiver.confirmed_by_person))
    return given


def _in_force(waivers: QuerySet[Waiver]) -> QuerySet[Waiver]:
    given = waivers.filter(confirmed_at__isnull=False, withdrawn_at__isnull=True, ends_at__gt=Now())
    return given.select_related("evaluation__vector", "evaluation__revision__profile", *_PEOPLE)


def _that_count(waivers: QuerySet[Waiver], author: User) -> QuerySet[Waiver]:
    person, approvers = author.acts_for_id or author.pk, people_who_still_may(Role.APPROVER)
    given = _in_force(waivers).filter(asked_by__in=approvers, confirmed_by__in=approvers)
    return given.exclude(asked_by_person=person).exclude(confirmed_by_person=person)
