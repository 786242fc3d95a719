"""A waiver counts while both who gave it may, for what neither wrote, and a revision rests on those that it was submitted with."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from registry.errors import TransitionRefused
from registry.models import Approval, ProfileRevision, RevisionState, Waiver
from registry.reads.departures import stands_behind
from registry.services.demands import list_requirements
from registry.services.people import change_access
from registry.services.profiles import draft_revision
from registry.services.waivers import ask_waiver
from tests.support.refusals import refuses
from tests.support.waiving import REASON, age, approve, submit, waive

METRIC = "harmful_compliance_gained"
AWAY = [{"is_active": False}, {"roles": ["auditor"]}, {"tenants": []}]


@pytest.fixture
def open_gates(vector, evaluate):
    """Evidence that leaves one gate undecidable."""
    return evaluate(vector, undecidable=[METRIC])


@pytest.fixture
def waived(open_gates, grace, mary):
    return waive(open_gates, METRIC, asked_by=grace, confirmed_by=mary, days=2)


@pytest.fixture
def vera(person):
    """One more approver, who gave no waiver."""
    return person("vera", "approver")


@pytest.fixture
def leave(root):
    """leave(grace, is_active=False)."""

    def run(user, **access):
        kept = {"roles": sorted(user.groups.values_list("name", flat=True)), "tenants": None, "is_active": True}
        change_access(user, **{**kept, **access}, actor=root)

    return run


def refused(code, said=None):
    return pytest.raises(TransitionRefused, match=said, check=lambda found: found.code == code)


def unmet(revision):
    return [each.problem.code for each in list_requirements(revision) if each.problem]


# -- What it was submitted with ---------------------------------------------------------------------------------------------------


def test_a_waiver_in_the_place_of_one_that_ended_is_none_that_was_submitted(draft, open_gates, waived, grace, mary, vera):
    submitted = submit(draft, open_gates)
    waive(open_gates, METRIC, asked_by=grace, confirmed_by=mary, days=90)
    age(waived, days=3)
    assert unmet(submitted) == ["WAIVER_ENDED"]
    with refused("WAIVER_ENDED", "submit it again"):
        approve(submitted, vera)


def test_one_more_waiver_changes_nothing_of_what_is_submitted(draft, open_gates, waived, grace, mary, vera):
    submitted = submit(draft, open_gates)
    waive(open_gates, METRIC, asked_by=grace, confirmed_by=mary, days=90)
    assert approve(submitted, vera).review_due_at == waived.ends_at


# -- People who left --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", AWAY)
@pytest.mark.parametrize("who", ["grace", "mary"])
def test_nothing_is_submitted_on_the_word_of_somebody_who_left(draft, open_gates, waived, leave, request, who, away):
    leave(request.getfixturevalue(who), **away)
    with refused("GATES_UNDECIDABLE", f"does not count here: {who} is no approver any more"):
        submit(draft, open_gates)


@pytest.mark.parametrize("away", AWAY)
def test_nothing_is_approved_on_the_word_of_somebody_who_left(draft, open_gates, waived, leave, grace, vera, away):
    submitted = submit(draft, open_gates)
    leave(grace, **away)
    with refused("WAIVER_ENDED"):
        approve(submitted, vera)


def test_what_was_approved_stays_when_they_leave(draft, open_gates, waived, leave, grace, vera):
    approved = approve(submit(draft, open_gates), vera)
    leave(grace, is_active=False)
    approved.refresh_from_db()
    assert (approved.state, unmet(approved)) == (RevisionState.APPROVED, [])


def test_an_administrator_sees_the_waivers_of_whom_they_remove(open_gates, waived, grace, mary, vera, ada, api, root):
    asked = ask_waiver(open_gates.pk, metric=METRIC, reason=REASON, days=30, actor=vera)
    assert stands_behind(grace).waivers == stands_behind(mary).waivers == [waived]
    assert (stands_behind(vera).waivers, stands_behind(ada).waivers) == ([asked], [])
    assert api(root).get("/api/v1/users/vera").json()["stands_behind"]["waivers"] == [str(asked)]
    age(asked, days=31)
    assert stands_behind(vera).waivers == []


def test_somebody_else_may_ask_in_the_place_of_who_left(open_gates, waived, leave, mary, vera, draft):
    leave(mary, is_active=False)
    with pytest.raises(TransitionRefused):
        submit(draft, open_gates)
    assert ask_waiver(open_gates.pk, metric=METRIC, reason=REASON, days=2, actor=vera).confirmed_at is None


# -- Who wrote the revision -------------------------------------------------------------------------------------------------------


def test_what_the_author_of_a_revision_gave_stands_in_nobodys_way(profile, component, open_gates, person, grace, mary, vera):
    cid = person("cid", "author", "approver")
    waive(open_gates, METRIC, asked_by=cid, confirmed_by=grace, days=366)
    own = draft_revision(profile, components=[component], author=cid)
    with refused("GATES_UNDECIDABLE", "does not count here: cid wrote the revision"):
        submit(own, open_gates)
    for giver in (cid, grace):
        with refused("WAIVER_EXISTS"):
            ask_waiver(open_gates.pk, metric=METRIC, reason=REASON, days=30, actor=giver)
    waive(open_gates, METRIC, asked_by=mary, confirmed_by=vera)
    assert submit(own, open_gates).state == RevisionState.SUBMITTED


# -- The database -----------------------------------------------------------------------------------------------------------------


def test_database_takes_no_waiver_of_the_future_or_by_others_than_approvers(open_gates, grace, oscar, iris):
    row = {
        "evaluation": open_gates, "metric": METRIC, "kind": "max_high", "threshold": "0.01", "reason": "x",
        "ends_at": timezone.now() + timedelta(days=1), "asked_by": grace, "asked_by_person": grace.pk,
    }  # fmt: skip
    later = timezone.now() + timedelta(days=3650)
    with refuses("waiver_is_asked_for_now"), transaction.atomic():
        Waiver.objects.create(**row | {"asked_at": later, "ends_at": later + timedelta(days=1)})
    with refuses("waiver_is_given_by_approvers"), transaction.atomic():
        Waiver.objects.create(**row | {"asked_by": iris, "asked_by_person": iris.pk})
    waiver = Waiver.objects.create(**row)
    confirmed = {"confirmed_by": oscar, "confirmed_by_person": oscar.pk, "confirmed_at": timezone.now()}
    with refuses("waiver_is_given_by_approvers"), transaction.atomic():
        Waiver.objects.filter(pk=waiver.pk).update(**confirmed)


def test_database_submits_nothing_that_names_other_waivers_than_count(draft, open_gates, waived, leave, grace):
    demands = {"approvals_needed": 1, "reviewer_roles": [], "approval_valid_days": 30}
    said = {"state": "submitted", "digest": "a" * 64, "evaluation": open_gates, "demands": demands, "submitted_at": timezone.now()}
    row, named = ProfileRevision.objects.filter(pk=draft.pk), {"id": str(waived.pk)}
    with refuses("revision_rests_on_no_undecidable_gate_without_a_waiver"), transaction.atomic():
        row.update(**said)
    ended = waive_and_age(open_gates, grace, waived.confirmed_by)
    with refuses("revision_rests_on_waivers_that_count"), transaction.atomic():
        row.update(**said, waivers=[named, {"id": str(ended.pk)}])
    leave(grace, is_active=False)
    with refuses("revision_rests_on_no_undecidable_gate_without_a_waiver"), transaction.atomic():
        row.update(**said, waivers=[named])
    leave(grace, is_active=True)
    assert row.update(**said, waivers=[named]) == 1


def waive_and_age(evaluation, asked_by, confirmed_by):
    waiver = waive(evaluation, METRIC, asked_by=asked_by, confirmed_by=confirmed_by, days=30)
    age(waiver, days=31)
    return waiver


def test_database_approves_nothing_for_longer_than_its_waivers(draft, open_gates, waived, vera):
    submitted = submit(draft, open_gates)
    author = submitted.author
    Approval.objects.create(
        revision=submitted, revision_digest=submitted.digest, evidence_digest=open_gates.digest, author=author,
        author_person=author.pk, reviewer=vera, reviewer_person=vera.pk, roles=["approver"], decision="approve", comment="",
    )  # fmt: skip
    row, decided = ProfileRevision.objects.filter(pk=submitted.pk), {"state": "approved", "decided_at": timezone.now()}
    with refuses("revision_is_reviewed_when_its_first_waiver_ends"), transaction.atomic():
        row.update(**decided, review_due_at=waived.ends_at + timedelta(seconds=1))
    assert row.update(**decided, review_due_at=waived.ends_at) == 1
