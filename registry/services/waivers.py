"""Waivers: an approver asks that one undecidable gate may stand, another confirms. A gate that failed is never waived.

What rests on one ends with it: a revision that was approved with it is due for review when the waiver ends, and is invalidated if it is
withdrawn before. Withdrawing only ever keeps steering away, so one person does it.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from registry.audit import Action, record
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.models import Environment, Evaluation, ProfileRevision, RevisionState, Role, User, Waiver
from registry.models.waivers import LONGEST_WAIVER
from registry.reads.departures import still_may
from registry.reads.waivers import gate_of, people_may, undecidable_gates
from registry.services.approvals import return_to_draft
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.notifications import notify
from registry.services.people import stands_for
from registry.services.transition import lock_environments, publish_at_end, transition
from steernode.gates import FAIL
from steernode.records.evidence import JudgedGate, read_gates
from steernode.spelling import says_something


@transition
def ask_waiver(
    evaluation_id: UUID, *, metric: str, kind: str = "", threshold: str = "", reason: str, days: int | None, actor: User
) -> Waiver:
    """nothing -> asked: of the gate of this metric; `kind` and `threshold` where evidence has several. It counts for nothing yet.

    Raises: InvalidInput WAIVER_REASON, WAIVER_END, WAIVER_GATE; TransitionRefused WAIVER_FAILED_GATE, WAIVER_AUTHOR, WAIVER_EXISTS.
    """
    evaluation = _lock_evaluation(evaluation_id)
    if not says_something(reason):
        raise InvalidInput("WAIVER_REASON", "say why the gate may stand undecided", "reason")
    if days is None or not 1 <= days <= LONGEST_WAIVER.days:
        raise InvalidInput("WAIVER_END", f"a waiver ends, after 1 to {LONGEST_WAIVER.days} days; {days} is none of these", "days")
    _refuse_author(evaluation, actor)
    gate = _find_gate(evaluation, metric, kind, threshold)
    now = timezone.now()
    # Of whole seconds, as the documents have it that a review date is read from.
    ends_at = (now + timedelta(days=days)).replace(microsecond=0)
    for other in evaluation.waivers.filter(withdrawn_at__isnull=True, ends_at__gt=now).select_related("asked_by", "confirmed_by"):
        # Of other people it may count where theirs does not: for a revision that one of them wrote, or since they left.
        is_theirs = stands_for(actor) in (other.asked_by_person, other.confirmed_by_person)
        # Another in its place ends on a later day, or there is no reason for it.
        is_enough = other.confirmed_at is None or other.ends_at > ends_at - timedelta(days=1)
        if gate_of(other) == gate_of(gate) and is_theirs and is_enough and people_may(other):
            raise TransitionRefused("WAIVER_EXISTS", f"{other.asked_by} asked for it already, until {other.ends_at:%F}", str(other.pk))
    said = dict(zip(("metric", "kind", "threshold"), gate_of(gate), strict=True))
    waiver = Waiver.objects.create(
        evaluation=evaluation,
        **said,
        reason=reason,
        asked_at=now,
        ends_at=ends_at,
        asked_by=actor,
        asked_by_person=stands_for(actor),
    )
    _record(Action.WAIVER_ASKED, waiver, actor, reason=reason, note=gate.note, ends_at=ends_at.isoformat(timespec="seconds"))
    return waiver


@transition
def confirm_waiver(waiver_id: UUID, *, actor: User) -> Waiver:
    """asked -> in force, by a second person, who did not make what was judged either.

    Raises: NotFound WAIVER_NOT_FOUND; TransitionRefused WAIVER_STATE, WAIVER_NEEDS_TWO, WAIVER_AUTHOR, WAIVER_ASKER_LEFT.
    """
    waiver = _lock_waiver(waiver_id)
    if waiver.confirmed_at or waiver.withdrawn_at or waiver.ends_at <= timezone.now():
        raise TransitionRefused("WAIVER_STATE", f"the {waiver} is {state_of(waiver)}, not asked for", str(waiver_id))
    _refuse_author(waiver.evaluation, actor)
    if waiver.asked_by_person == stands_for(actor):
        raise TransitionRefused("WAIVER_NEEDS_TWO", f"{actor} asked for it; somebody else confirms", str(waiver_id))
    if not still_may(waiver.asked_by, Role.APPROVER):
        raise TransitionRefused("WAIVER_ASKER_LEFT", f"{waiver.asked_by}, who asked for it, may no longer; ask anew", str(waiver_id))
    waiver.confirmed_by, waiver.confirmed_by_person, waiver.confirmed_at = actor, stands_for(actor), timezone.now()
    waiver.save(update_fields=["confirmed_by", "confirmed_by_person", "confirmed_at"])
    _record(
        Action.WAIVER_CONFIRMED, waiver, actor, asked_by=str(waiver.asked_by), reason=waiver.reason,
        ends_at=waiver.ends_at.isoformat(timespec="seconds"),
    )  # fmt: skip
    return waiver


@transition
def withdraw_waiver(waiver_id: UUID, *, reason: str, actor: User) -> Waiver:
    """asked | in force -> withdrawn. What was submitted with it is a draft again, what was approved with it is invalidated.

    Raises: NotFound WAIVER_NOT_FOUND; InvalidInput WAIVER_REASON; TransitionRefused WAIVER_STATE.
    """
    if not says_something(reason):
        raise InvalidInput("WAIVER_REASON", "say why the waiver is withdrawn", "reason")
    environments = lock_environments(Environment.objects.all())
    # In their own evidence, or in that of a part.
    resting = ProfileRevision.objects.filter(waivers__contains=[{"id": str(waiver_id)}])
    # A decision that is under way finishes first: what it approves is found by the second of these.
    lock_revisions(resting)
    waiver = _lock_waiver(waiver_id)
    if waiver.withdrawn_at:
        raise TransitionRefused("WAIVER_STATE", f"the {waiver} is withdrawn already", str(waiver_id))
    waiver.withdrawn_by, waiver.withdrawn_at, waiver.withdrawn_reason = actor, timezone.now(), reason
    waiver.save(update_fields=["withdrawn_by", "withdrawn_at", "withdrawn_reason"])
    held = lock_revisions(resting)
    _record(Action.WAIVER_WITHDRAWN, waiver, actor, reason=reason, revisions=[str(revision) for revision in held])
    _end_what_rests_on(waiver, held, actor)
    if any(revision.state == RevisionState.APPROVED for revision in held):
        for environment in environments:
            publish_at_end(environment, cause=Action.WAIVER_WITHDRAWN, actor=actor, only_lowers=True)
    notify([waiver.asked_by, *([waiver.confirmed_by] if waiver.confirmed_by else [])], f"the {waiver} is withdrawn: {reason}", about=waiver)
    return waiver


def state_of(waiver: Waiver) -> str:
    """asked, in force, ended or withdrawn."""
    if waiver.withdrawn_at:
        return "withdrawn"
    if waiver.ends_at <= timezone.now():
        return "ended"
    return "in force" if waiver.confirmed_at else "asked"


def _end_what_rests_on(waiver: Waiver, held: Sequence[ProfileRevision], actor: User) -> None:
    because = f"the {waiver} is withdrawn: {waiver.withdrawn_reason}"
    if approved := [revision for revision in held if revision.state == RevisionState.APPROVED]:
        invalidate_revisions(approved, reason=because, actor=actor)
    for revision in held:
        if revision.state == RevisionState.SUBMITTED:
            record(
                Action.REVISION_RETURNED,
                actor=actor,
                subject=revision,
                details={"revision_digest": revision.digest, "reason": because},
                base_model_fingerprint=revision.base_model.fingerprint,
            )
            return_to_draft(revision, reason=because)


def _find_gate(evaluation: Evaluation, metric: str, kind: str, threshold: str) -> JudgedGate:
    wanted = {"metric": metric, "kind": kind, "threshold": threshold}
    wanted = {name: value for name, value in wanted.items() if value}

    def fits(gate: JudgedGate) -> bool:
        return all(getattr(gate, name) == value for name, value in wanted.items())

    found = [gate for gate in undecidable_gates(evaluation) if fits(gate)]
    if len(found) == 1:
        return found[0]
    if found:
        named = "; ".join(" ".join(gate_of(gate)) for gate in found)
        raise InvalidInput("WAIVER_GATE", f"several gates fit: {named}; say which, by kind and threshold", metric)
    named = " ".join(wanted.values())
    if any(gate.verdict == FAIL for gate in read_gates(evaluation.gates) if fits(gate)):
        raise TransitionRefused("WAIVER_FAILED_GATE", f"{named} failed; only what is undecidable may be waived", metric)
    open_ones = ", ".join(gate.metric for gate in undecidable_gates(evaluation)) or "none"
    raise InvalidInput("WAIVER_GATE", f"no undecidable gate of {evaluation} is {named}; those are {open_ones}", metric)


def _refuse_author(evaluation: Evaluation, actor: User) -> None:
    if stands_for(actor) in evaluation.judged_people:
        raise TransitionRefused("WAIVER_AUTHOR", f"{actor} made what was judged; others answer for what it lacks", str(evaluation.pk))


def _lock_evaluation(evaluation_id: UUID) -> Evaluation:
    """So that of two who ask for the same waiver one finds the other's. By its job: no process may change an evaluation, or lock it."""
    locking = Evaluation.objects.select_for_update(of=("job",), no_key=True)
    return locking.select_related("vector", "revision__profile", "job__base_model").get(pk=evaluation_id)


def _lock_waiver(waiver_id: UUID) -> Waiver:
    related = ("evaluation__vector", "evaluation__revision__profile", "evaluation__job__base_model", "asked_by__acts_for", "confirmed_by")
    waiver = Waiver.objects.select_for_update(of=("self",)).select_related(*related).filter(pk=waiver_id).first()
    if waiver is None:
        raise NotFound("WAIVER_NOT_FOUND", "no such waiver", str(waiver_id))
    return waiver


def _record(action: Action, waiver: Waiver, actor: User, **details: object) -> None:
    record(
        action,
        actor=actor,
        subject=waiver,
        details={
            "evidence_digest": waiver.evaluation.digest,
            "metric": waiver.metric,
            "kind": waiver.kind,
            "threshold": waiver.threshold,
            **details,
        },
        base_model_fingerprint=waiver.evaluation.job.base_model.fingerprint,
    )
