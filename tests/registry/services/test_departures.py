"""What is pending counts only while its author may; what is complete stays, and shows who left."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from registry.errors import TransitionRefused
from registry.models import ProfileRevision, RevisionState
from registry.reads.departures import stands_behind, with_departures
from registry.services.approvals import approve_revision, expire_approvals, reject_revision
from registry.services.demands import missing_approvals
from registry.services.kills import engage_kill, request_lift
from registry.services.people import change_access
from registry.services.policies import change_policy
from registry.services.profiles import submit_revision
from tests.support.refusals import refuses

AWAY = [{"is_active": False}, {"roles": ["auditor"]}, {"tenants": []}]


def refused(code: str):
    return pytest.raises(TransitionRefused, check=lambda error: error.code == code)


def approve(revision: ProfileRevision, reviewer) -> ProfileRevision:
    shown = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    return approve_revision(revision.pk, reviewer=reviewer, comment="read", **shown)


@pytest.fixture
def change(root):
    """Change what somebody may do: change(grace, is_active=False)."""

    def run(user, **access) -> None:
        kept = {"roles": sorted(user.groups.values_list("name", flat=True)), "tenants": None, "is_active": True}
        change_access(user, **{**kept, **access}, actor=root)

    return run


@pytest.fixture
def vera(person):
    """An approver and auditor."""
    return person("vera", "approver", "auditor")


@pytest.fixture
def half_approved(policy_terms, root, draft, evaluation, ada, grace):
    """By grace, the first of two."""
    change_policy("low", terms=policy_terms(approvals_needed=2), reason="More eyes.", actor=root)
    return approve(submit_revision(draft.pk, evaluation=evaluation, actor=ada), grace)


@pytest.mark.parametrize("away", AWAY)
def test_one_approval_of_two_counts_only_while_its_author_may(half_approved, change, grace, mary, vera, away):
    change(grace, **away)
    revision = approve(half_approved, mary)
    assert revision.state == RevisionState.SUBMITTED
    assert missing_approvals(revision) == ["1 more approval"]
    assert expire_approvals() == 0
    assert approve(revision, vera).state == RevisionState.APPROVED


def test_whoever_comes_back_counts_again(half_approved, change, grace, mary):
    change(grace, is_active=False)
    change(grace, roles=["approver"])
    assert approve(half_approved, mary).state == RevisionState.APPROVED


def test_a_role_that_was_taken_away_covers_nothing(policy_terms, root, draft, evaluation, ada, change, vera, grace):
    change_policy("low", terms=policy_terms(approvals_needed=2, reviewer_roles=["approver", "auditor"]), reason="x", actor=root)
    revision = approve(submit_revision(draft.pk, evaluation=evaluation, actor=ada), vera)
    change(vera, roles=["approver"])
    assert missing_approvals(approve(revision, grace)) == ["an approval by somebody with the role auditor"]


@pytest.mark.parametrize("away", AWAY)
def test_what_somebody_submitted_is_not_approved_once_they_left(submitted, change, ada, grace, away):
    change(ada, **away)
    with refused("AUTHOR_LEFT"):
        approve(submitted, grace)
    shown = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    assert reject_revision(submitted.pk, reviewer=grace, comment="left", **shown).state == RevisionState.REJECTED


def test_a_service_account_leaves_with_its_person(half_approved, change, person, vera):
    robot = person("vera-robot", "approver", acts_for=vera)
    change(vera, is_active=False)
    assert approve(half_approved, robot).state == RevisionState.SUBMITTED


@pytest.mark.parametrize("away", AWAY)
def test_what_is_approved_stays_and_shows_who_left(approved, change, grace, away):
    change(grace, **away)
    approved.refresh_from_db()
    assert approved.state == RevisionState.APPROVED
    (approval,) = with_departures(approved.approvals.all())
    assert approval.reviewer_left
    assert missing_approvals(approved) == []


def test_nobody_left_where_everybody_may(approved):
    assert [approval.reviewer_left for approval in with_departures(approved.approvals.all())] == [False]


def test_what_rests_on_an_account_is_listed(half_approved, asked, ada, grace, oscar):
    assert stands_behind(grace).pending_approvals == [half_approved]
    assert stands_behind(ada).submitted == [half_approved]
    assert stands_behind(oscar).lifts == [asked]
    assert stands_behind(grace).approved == []


@pytest.fixture
def asked(harbor, oscar):
    """A kill whose lift oscar asks for."""
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    return request_lift(kill.pk, reason="enough", actor=oscar)


def test_an_administrator_is_told_what_rests_on_whom_they_remove(api, approved, grace, root):
    body = {"roles": [], "tenants": None, "is_active": False}
    answer = api(root).put("/api/v1/users/grace", body)
    behind = {"approved": ["harbor-empathy r1"], "pending_approvals": [], "submitted": [], "lifts": [], "waivers": []}
    assert answer.json()["stands_behind"] == behind == api(root).get("/api/v1/users/grace").json()["stands_behind"]


def test_the_revision_says_who_left(api, as_page, approved, change, ada, grace):
    address = "/api/v1/profiles/harbor-empathy/revisions/1"
    assert [each["reviewer_left"] for each in api(ada).get(address).json()["approvals"]] == [False]
    change(grace, is_active=False)
    assert [each["reviewer_left"] for each in api(ada).get(address).json()["approvals"]] == [True]
    assert "no longer an approver" in as_page(ada, approved)


@pytest.fixture
def as_page(client):
    """The page of a revision, as somebody sees it."""

    def read(user, revision: ProfileRevision) -> str:
        client.force_login(user)
        return client.get(f"/console/revisions/{revision.pk}/").text

    return read


@pytest.mark.parametrize("away", AWAY)
def test_database_counts_no_approval_of_one_who_left(submitted, approved_past_the_services, change, grace, away):
    change(grace, **away)
    with refuses("revision_is_approved_by_enough_persons"), transaction.atomic():
        approved_past_the_services()


@pytest.mark.parametrize("away", AWAY)
def test_database_approves_nothing_of_an_author_who_left(submitted, approved_past_the_services, change, ada, away):
    change(ada, **away)
    with refuses("revision_is_approved_while_its_author_may"), transaction.atomic():
        approved_past_the_services()


@pytest.fixture
def approved_past_the_services(submitted, grace):
    """Approved by grace, and not yet completed: call it to complete it in the database alone."""
    from registry.models import Approval

    author = submitted.author
    Approval.objects.create(
        revision=submitted, revision_digest=submitted.digest, evidence_digest=submitted.evaluation.digest, author=author,
        author_person=author.pk, reviewer=grace, reviewer_person=grace.pk, roles=["approver"], decision="approve", comment="",
    )  # fmt: skip
    moment = timezone.now()
    dates = {"decided_at": moment, "review_due_at": moment + timedelta(days=1)}
    return lambda: ProfileRevision.objects.filter(pk=submitted.pk).update(state=RevisionState.APPROVED, **dates)
