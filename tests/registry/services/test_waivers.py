"""Waivers: of a gate that is undecidable and no other, by two people who did not make what was judged, until a day that comes."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, ProfileRevision, RevisionState, Waiver
from registry.reads.documents import revision_document
from registry.services.approvals import approve_revision
from registry.services.demands import list_requirements
from registry.services.profiles import submit_revision
from registry.services.reviews import end_overdue_reviews
from registry.services.vectors import import_vector
from registry.services.waivers import ask_waiver, confirm_waiver, state_of, withdraw_waiver
from tests.support.files import vector_file

REASON = "The base model refuses nothing; we serve no open questions."


@pytest.fixture
def open_gates(vector, evaluate):
    """Evidence that leaves one gate undecidable."""
    return evaluate(vector, undecidable=["harmful_compliance_gained"])


@pytest.fixture
def ask(open_gates, grace):
    def run(*, actor=grace, evaluation=open_gates, **changes):
        asked = {"metric": "harmful_compliance_gained", "reason": REASON, "days": 30, **changes}
        return ask_waiver(evaluation.pk, actor=actor, **asked)

    return run


@pytest.fixture
def waived(ask, mary):
    return confirm_waiver(ask().pk, actor=mary)


def refused(code, error=TransitionRefused):
    return pytest.raises(error, check=lambda found: found.code == code)


def submit(draft, evaluation, ada):
    return submit_revision(draft.pk, evaluation=evaluation, actor=ada)


def approve(revision, reviewer):
    digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    return approve_revision(revision.pk, reviewer=reviewer, comment="Known.", **digests)


def test_a_waiver_counts_for_nothing_before_a_second_person_confirms_it(draft, open_gates, ask, ada, grace, mary):
    waiver = ask()
    with refused("GATES_UNDECIDABLE"):
        submit(draft, open_gates, ada)
    with refused("WAIVER_NEEDS_TWO"):
        confirm_waiver(waiver.pk, actor=grace)
    assert state_of(confirm_waiver(waiver.pk, actor=mary)) == "in force"
    assert submit(draft, open_gates, ada).state == "submitted"
    actions = AuditEvent.objects.order_by("seq").values_list("action", flat=True)
    assert [action for action in actions if action.startswith("waiver")] == ["waiver.asked", "waiver.confirmed"]


def test_what_is_approved_with_a_waiver_says_so_in_its_document_the_log_and_the_checklist(draft, open_gates, waived, ada, mary):
    submitted = submit(draft, open_gates, ada)
    (said,) = revision_document(submitted)["waivers"]
    assert (said["metric"], said["asked_by"], said["confirmed_by"], said["reason"]) == (waived.metric, "grace", "mary", REASON)
    (demand,) = [each for each in list_requirements(submitted) if "waived" in each.demand]
    assert demand.problem is None
    assert "waived by grace and mary until" in demand.demand
    approved = approve(submitted, mary)
    for action in ("revision.submitted", "revision.approved"):
        assert REASON in bytes(AuditEvent.objects.get(action=action).body).decode()
    # Its review is due with the first of what it rests on.
    assert approved.review_due_at == waived.ends_at.replace(microsecond=0)


def test_at_its_end_what_rests_on_it_is_overdue(draft, open_gates, waived, ada, mary):
    approved = approve(submit(draft, open_gates, ada), mary)
    assert end_overdue_reviews() == 0
    later = timezone.now() + timedelta(days=31)
    with pytest.MonkeyPatch.context() as clock:
        clock.setattr("django.utils.timezone.now", lambda: later)
        assert end_overdue_reviews() == 1
    approved.refresh_from_db()
    assert approved.state == RevisionState.INVALIDATED
    assert "waiver" in approved.invalidated_reason


@pytest.mark.parametrize("role", ["ada", "robot"])
def test_whoever_made_what_is_judged_waives_nothing_of_it(ask, ada, grace, mary, person, role):
    author = ada if role == "ada" else person("robot", "author", "approver", acts_for=ada)
    with refused("WAIVER_AUTHOR"):
        ask(actor=author)
    waiver = ask()
    with refused("WAIVER_AUTHOR"):
        confirm_waiver(waiver.pk, actor=author)


def test_whoever_wrote_the_revision_cannot_rest_it_on_a_waiver_of_their_own(profile, component, open_gates, waived, grace, person):
    from registry.services.profiles import draft_revision

    grace.groups.add(*person("both", "author").groups.all())
    own = draft_revision(profile, components=[component], author=grace)
    with refused("GATES_UNDECIDABLE"):
        submit_revision(own.pk, evaluation=open_gates, actor=grace)


def test_a_gate_that_failed_is_never_waived(base_model, contrast_set, evaluate, ask, ada):
    other = import_vector("other", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)
    evaluation = evaluate(other, passed=False)
    with refused("WAIVER_FAILED_GATE"):
        ask(evaluation=evaluation)


BAD = {
    "a gate that passed": ({"metric": "facts"}, "WAIVER_GATE"),
    "a gate that is not there": ({"metric": "charm"}, "WAIVER_GATE"),
    "another kind": ({"kind": "min"}, "WAIVER_GATE"),
    "no end": ({"days": None}, "WAIVER_END"),
    "an end that was": ({"days": 0}, "WAIVER_END"),
    "an end too far": ({"days": 367}, "WAIVER_END"),
    "no reason": ({"reason": " "}, "WAIVER_REASON"),
}


@pytest.mark.parametrize(("changes", "code"), BAD.values(), ids=BAD)
def test_a_waiver_is_of_an_open_gate_for_a_reason_and_until_a_day(ask, changes, code):
    with refused(code, InvalidInput):
        ask(**changes)
    assert not Waiver.objects.exists()


def test_one_waiver_of_a_gate_is_enough_and_a_longer_one_takes_its_place(ask, waived, grace, mary):
    with refused("WAIVER_EXISTS"):
        ask()
    longer = ask(days=60)
    with refused("WAIVER_EXISTS"):
        ask(days=90)
    assert state_of(confirm_waiver(longer.pk, actor=mary)) == "in force"


def test_a_withdrawn_waiver_takes_the_ground_from_what_rests_on_it(draft, open_gates, waived, ada, mary, oscar):
    approved = approve(submit(draft, open_gates, ada), mary)
    withdraw_waiver(waived.pk, reason="We serve open questions now.", actor=oscar)
    approved.refresh_from_db()
    assert (approved.state, "We serve open questions now." in approved.invalidated_reason) == (RevisionState.INVALIDATED, True)
    with refused("WAIVER_STATE"):
        withdraw_waiver(waived.pk, reason="again", actor=oscar)
    with refused("WAIVER_STATE"):
        confirm_waiver(waived.pk, actor=mary)


def test_what_was_only_submitted_with_it_is_a_draft_again_without_it(draft, open_gates, waived, ada, oscar):
    submit(draft, open_gates, ada)
    withdraw_waiver(waived.pk, reason="No.", actor=oscar)
    draft.refresh_from_db()
    assert (draft.state, draft.waivers) == (RevisionState.DRAFT, [])


def test_evidence_that_passes_is_touched_by_no_withdrawal(approved, vector, oscar):
    assert approved.waivers == []
    assert "waivers" not in revision_document(approved)


def test_a_request_counts_only_while_whoever_asked_still_may(ask, grace, mary):
    waiver = ask()
    grace.groups.clear()
    with refused("WAIVER_ASKER_LEFT"):
        confirm_waiver(waiver.pk, actor=mary)


def test_a_part_whose_open_gates_are_waived_may_be_composed(ada, profile, component, brevity, waived, suites):
    from registry.services.compositions import request_composition
    from registry.services.profiles import draft_revision
    from tests.support.components import add

    combined = draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)
    assert request_composition(revision=combined, suites=suites, actor=ada).kind == "composition"


# -- The database ----------------------------------------------------------------------------------------------------------------


def breaks(rule):
    return pytest.raises(IntegrityError, match=rule)


def test_database_refuses_what_the_service_refuses(open_gates, ask, waived, ada, grace, mary):
    row = {
        "evaluation": open_gates, "metric": "harmful_compliance_gained", "kind": "max_high", "threshold": "0.01", "reason": "x",
        "ends_at": timezone.now() + timedelta(days=1), "asked_by": grace, "asked_by_person": grace.pk,
    }  # fmt: skip
    by_ada = {"asked_by": ada, "asked_by_person": ada.pk}
    confirmed = {"confirmed_by": mary, "confirmed_by_person": mary.pk, "confirmed_at": timezone.now()}
    for change, rule in [
        (by_ada, "waiver_is_not_by_the_author"),
        ({"metric": "facts", "kind": "min_difference", "threshold": "-0.02"}, "waiver_is_of_an_undecidable_gate"),
        ({"threshold": "0.5"}, "waiver_is_of_an_undecidable_gate"),
        (confirmed, "waiver_begins_with_one_person"),
        ({"ends_at": timezone.now() - timedelta(days=1)}, "waiver_ends_within_a_year"),
        ({"ends_at": timezone.now() + timedelta(days=400)}, "waiver_ends_within_a_year"),
        ({"reason": " "}, "waiver_says_why"),
    ]:
        with breaks(rule), transaction.atomic():
            Waiver.objects.create(**row | change)
    asked = ask(days=60)
    for change, rule in [
        ({"confirmed_by": grace, "confirmed_by_person": grace.pk, "confirmed_at": timezone.now()}, "waiver_is_given_by_two_people"),
        ({"confirmed_by": ada, "confirmed_by_person": ada.pk, "confirmed_at": timezone.now()}, "waiver_is_not_by_the_author"),
        ({"reason": "another"}, "waiver_stays_as_it_was_given"),
        ({"ends_at": timezone.now() + timedelta(days=300)}, "waiver_stays_as_it_was_given"),
    ]:
        with breaks(rule), transaction.atomic():
            Waiver.objects.filter(pk=asked.pk).update(**change)
    with breaks("waiver_stays_as_it_was_given"), transaction.atomic():
        Waiver.objects.filter(pk=waived.pk).update(confirmed_by=None, confirmed_by_person=None, confirmed_at=None)
    with breaks("waiver_is_never_deleted"), transaction.atomic():
        Waiver.objects.filter(pk=waived.pk).delete()


def test_database_approves_nothing_on_an_open_gate_without_its_waiver(draft, open_gates, waived, ada, mary, vector, evaluate):
    submitted = submit(draft, open_gates, ada)
    Waiver.objects.filter(pk=waived.pk).update(withdrawn_by=mary, withdrawn_at=timezone.now(), withdrawn_reason="x")
    changes = {"state": "approved", "decided_at": timezone.now(), "review_due_at": timezone.now() + timedelta(days=1)}
    with breaks("revision_rests_on_no_undecidable_gate_without_a_waiver"), transaction.atomic():
        ProfileRevision.objects.filter(pk=submitted.pk).update(**changes)
    with breaks("revision_is_sealed_once_submitted"), transaction.atomic():
        ProfileRevision.objects.filter(pk=submitted.pk).update(waivers=[])
