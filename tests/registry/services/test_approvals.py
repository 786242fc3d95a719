"""Approval is of a state, by other persons, in the roles that were demanded, for a while."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from registry.audit import Action
from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, Notification, ProfileRevision, RevisionState
from registry.services.approvals import approve_revision, comment_on_revision, expire_approvals, reject_revision, request_changes
from registry.services.demands import missing_approvals
from registry.services.policies import change_policy
from registry.services.profiles import submit_revision


def digests(revision: ProfileRevision) -> dict[str, str]:
    return {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}


def refused(code: str):
    return pytest.raises(TransitionRefused, check=lambda error: error.code == code)


def actions_of(revision: ProfileRevision) -> list[str]:
    return list(AuditEvent.objects.filter(object_id=str(revision.pk)).order_by("seq").values_list("action", flat=True))


@pytest.fixture
def demand(policy_terms, root):
    """Change the risk class `low` before anything is submitted: demand(approvals_needed=2)."""
    return lambda **terms: change_policy("low", terms=policy_terms(**terms), reason="More eyes.", actor=root)


def test_every_role_that_the_policy_names_is_held_by_somebody_who_approves(demand, draft, evaluation, ada, grace, mary, person):
    demand(approvals_needed=2, reviewer_roles=["approver", "auditor"])
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    approve_revision(revision.pk, reviewer=grace, comment="1", **digests(revision))
    approve_revision(revision.pk, reviewer=mary, comment="2", **digests(revision))
    revision.refresh_from_db()
    assert revision.state == RevisionState.SUBMITTED
    assert missing_approvals(revision) == ["an approval by somebody with the role auditor"]
    both = person("vera", "approver", "auditor")
    assert approve_revision(revision.pk, reviewer=both, comment="3", **digests(revision)).state == RevisionState.APPROVED


def test_a_role_that_the_token_does_not_carry_covers_nothing(demand, draft, evaluation, ada, person):
    from registry.services.people import issue_token

    demand(reviewer_roles=["approver", "auditor"])
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    vera = person("vera", "approver", "auditor")
    vera.token, _ = issue_token(vera, name="narrow", actor="tests", scopes=["approver"])
    assert approve_revision(revision.pk, reviewer=vera, comment="1", **digests(revision)).state == RevisionState.SUBMITTED


def test_an_approval_sets_the_day_of_the_next_review(submitted, grace):
    revision = approve_revision(submitted.pk, reviewer=grace, comment="good", **digests(submitted))
    assert revision.review_due_at == revision.decided_at + timedelta(days=365)


def test_asking_for_changes_makes_it_a_draft_and_voids_what_was_approved(demand, draft, evaluation, ada, grace, mary):
    demand(approvals_needed=2)
    first = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    approve_revision(first.pk, reviewer=grace, comment="good", **digests(first))
    returned = request_changes(first.pk, reviewer=mary, comment="Say why α is 0.5.", **digests(first))
    assert (returned.state, returned.digest, returned.evaluation) == (RevisionState.DRAFT, "", None)
    assert "mary asks for changes: Say why" in Notification.objects.get(person=ada).text
    assert actions_of(first)[-1] == Action.REVISION_CHANGES_REQUESTED
    # Nothing was edited, and still it is another state: both decide anew.
    again = submit_revision(first.pk, evaluation=evaluation, actor=ada)
    assert again.digest != first.digest
    assert missing_approvals(again) == ["2 more approvals", "an approval by somebody with the role approver"]
    for reviewer in (grace, mary):
        approve_revision(again.pk, reviewer=reviewer, comment="now", **digests(again))
    again.refresh_from_db()
    assert again.state == RevisionState.APPROVED


def test_authors_ask_for_no_changes_of_their_own(submitted, ada, person):
    for reviewer in (ada, person("ada-robot", "approver", acts_for=ada)):
        with refused("SELF_APPROVAL"):
            request_changes(submitted.pk, reviewer=reviewer, comment="mine", **digests(submitted))


@pytest.mark.parametrize("decide", [reject_revision, request_changes])
@pytest.mark.parametrize("words", ["", "  \n"])
def test_a_refusal_says_why(submitted, grace, decide, words):
    with pytest.raises(InvalidInput, check=lambda error: error.code == "COMMENT_MISSING"):
        decide(submitted.pk, reviewer=grace, comment=words, **digests(submitted))
    assert not submitted.approvals.exists()


def test_anybody_with_a_role_comments_in_any_state_and_decides_nothing(submitted, iris, oscar):
    comment_on_revision(submitted.pk, author=iris, text="Which tickets were these?")
    comment_on_revision(submitted.pk, author=oscar, text="The billing ones.")
    assert [comment.text for comment in submitted.comments.all()] == ["Which tickets were these?", "The billing ones."]
    assert {comment.revision_digest for comment in submitted.comments.all()} == {submitted.digest}
    submitted.refresh_from_db()
    assert submitted.state == RevisionState.SUBMITTED
    assert actions_of(submitted)[-2:] == [Action.REVISION_COMMENTED, Action.REVISION_COMMENTED]
    with pytest.raises(InvalidInput, check=lambda error: error.code == "COMMENT_MISSING"):
        comment_on_revision(submitted.pk, author=iris, text=" ")


def test_an_approval_that_waits_too_long_expires_and_the_author_submits_again(demand, draft, evaluation, ada, grace, mary, monkeypatch):
    demand(approvals_needed=2, approval_valid_days=7)
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    approve_revision(revision.pk, reviewer=grace, comment="1", **digests(revision))
    assert expire_approvals() == 0
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda now=timezone.now: now() + timedelta(days=8))
        assert approve_revision(revision.pk, reviewer=mary, comment="2", **digests(revision)).state == RevisionState.SUBMITTED
        assert expire_approvals() == 1
    revision.refresh_from_db()
    assert revision.state == RevisionState.DRAFT
    assert "an approval expired" in Notification.objects.get(person=ada).text
    assert actions_of(revision)[-1] == Action.REVISION_RETURNED
    assert expire_approvals() == 0


# -- Past the services ----------------------------------------------------------------------------------------------------------------


def refuses(rule: str):
    from tests.support.refusals import refuses as refuses_by_name

    return refuses_by_name(rule)


def insert_approval(revision: ProfileRevision, reviewer, author=None, **changes) -> None:
    from registry.models import Approval

    author = author or revision.author
    values = {
        "revision": revision, "revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest,
        "author": author, "author_person": author.acts_for_id or author.pk,
        "reviewer": reviewer, "reviewer_person": reviewer.acts_for_id or reviewer.pk,
        "roles": [], "decision": "approve", "comment": "",
    }  # fmt: skip
    Approval.objects.create(**{**values, **changes})
    # Foreign keys are checked with the statement, the others at the end: ask for it now.
    connection.check_constraints()


def set_state(revision: ProfileRevision, state: str, **changes) -> None:
    ProfileRevision.objects.filter(pk=revision.pk).update(state=state, **changes)


APPROVED = {"decided_at": timezone.now(), "review_due_at": timezone.now() + timedelta(days=1)}


def test_database_compares_persons_and_not_accounts(submitted, ada, person):
    robot = person("ada-robot", "approver", acts_for=ada)
    with refuses("approval_reviewer_is_not_author"), transaction.atomic():
        insert_approval(submitted, robot)
    with refuses("approval_reviewer_stands_for_that_person"), transaction.atomic():
        insert_approval(submitted, robot, reviewer_person=robot.pk)


def test_database_refuses_an_author_that_the_revision_does_not_have(submitted, ada, grace, mary):
    with refuses("approval_names_the_author_of_its_revision"), transaction.atomic():
        insert_approval(submitted, ada, author=mary)
    with refuses("approval_author_stands_for_that_person"), transaction.atomic():
        insert_approval(submitted, ada, author_person=mary.pk)


def test_database_refuses_to_move_an_account_to_another_person_once_it_decided(submitted, approved, ada, grace, mary):
    with refuses("approval_reviewer_stands_for_that_person"), transaction.atomic():
        type(grace).objects.filter(pk=grace.pk).update(acts_for=mary)
    with refuses("revision_keeps_its_name_and_author"), transaction.atomic():
        ProfileRevision.objects.filter(pk=approved.pk).update(author=mary)


def test_database_takes_one_decision_of_a_person_on_a_state(submitted, grace, person):
    insert_approval(submitted, grace)
    with refuses("approval_once_per_person_and_state"):
        insert_approval(submitted, person("grace-robot", "approver", acts_for=grace))


@pytest.mark.parametrize("change", [{"revision_digest": "0" * 64}, {"evidence_digest": "0" * 64}])
def test_database_takes_no_decision_on_another_state(submitted, grace, change):
    with refuses("approval_is_of_the_submitted_state"):
        insert_approval(submitted, grace, **change)


def test_database_takes_no_decision_on_what_is_decided(approved, mary):
    with refuses("approval_is_of_the_submitted_state"):
        insert_approval(approved, mary)


def test_database_takes_no_role_that_the_reviewer_does_not_hold(submitted, grace):
    with refuses("approval_roles_are_held_by_the_reviewer"):
        insert_approval(submitted, grace, roles=["approver", "auditor"])


@pytest.mark.parametrize("decision", ["reject", "request_changes"])
def test_database_takes_no_refusal_without_a_reason(submitted, grace, decision):
    with refuses("approval_refusal_says_why"):
        insert_approval(submitted, grace, decision=decision, comment=" \n")


def test_database_approves_nothing_without_enough_persons_in_every_role(demand, draft, evaluation, ada, grace, mary):
    demand(approvals_needed=2)
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    insert_approval(revision, grace)
    with refuses("revision_is_approved_by_enough_persons"), transaction.atomic():
        set_state(revision, "approved", **APPROVED)
    insert_approval(revision, mary)
    with refuses("revision_is_approved_in_every_role"), transaction.atomic():
        set_state(revision, "approved", **APPROVED)


def test_database_counts_no_approval_that_has_expired(submitted, grace):
    insert_approval(submitted, grace, roles=["approver"], decided_at=timezone.now() - timedelta(days=31))
    with refuses("revision_is_approved_by_enough_persons"):
        set_state(submitted, "approved", **APPROVED)


def test_database_rejects_exactly_what_somebody_rejected(submitted, grace, mary):
    with refuses("revision_is_rejected_exactly_when_somebody_says_so"), transaction.atomic():
        set_state(submitted, "rejected")
    insert_approval(submitted, grace, roles=["approver"])
    insert_approval(submitted, mary, decision="reject", comment="cold")
    with refuses("revision_is_rejected_exactly_when_somebody_says_so"):
        set_state(submitted, "approved", **APPROVED)


def test_database_approves_nothing_without_a_review_date(submitted, grace):
    insert_approval(submitted, grace, roles=["approver"])
    with refuses("revision_has_a_review_date_once_approved"):
        set_state(submitted, "approved", decided_at=timezone.now())


ENDS = {
    "rejected": ["draft", "submitted", "approved", "retired", "invalidated"],
    "retired": ["draft", "submitted", "approved", "rejected", "invalidated"],
    "invalidated": ["draft", "submitted", "approved", "rejected", "retired"],
    "approved": ["draft", "submitted", "rejected"],
}


@pytest.mark.parametrize(("start", "to"), [(start, to) for start, ends in ENDS.items() for to in ends])
def test_database_lets_no_state_go_back(submitted, grace, oscar, start, to):
    from registry.services.profiles import retire_revision

    if start == "rejected":
        reject_revision(submitted.pk, reviewer=grace, comment="cold", **digests(submitted))
    else:
        approve_revision(submitted.pk, reviewer=grace, comment="warm", **digests(submitted))
    if start == "retired":
        retire_revision(submitted.pk, reason="old", actor=oscar)
    if start == "invalidated":
        set_state(submitted, "invalidated", invalidated_reason="other files")
    with refuses("revision_moves_along_its_arrows"):
        set_state(submitted, to)


def test_database_takes_a_revision_only_as_a_draft(submitted):
    submitted.pk, submitted.number = None, 2
    with refuses("revision_begins_as_a_draft"):
        submitted.save(force_insert=True)


@pytest.mark.parametrize(
    "change", [{"digest": "0" * 64}, {"stale_policy": "keep"}, {"rationale": "x"}, {"peak_share": 0}, {"submission": 9}]
)
def test_database_seals_what_is_submitted(submitted, change):
    with refuses("revision_is_sealed_once_submitted"):
        ProfileRevision.objects.filter(pk=submitted.pk).update(**change)


@pytest.mark.parametrize("change", [{"review_due_at": timezone.now() + timedelta(days=9999)}, {"decided_at": timezone.now()}])
def test_database_moves_no_review_date(approved, change):
    with refuses("revision_keeps_its_dates_and_reason"):
        ProfileRevision.objects.filter(pk=approved.pk).update(**change)


def test_database_changes_components_only_in_a_draft(approved):
    with refuses("component_changes_only_in_a_draft"), transaction.atomic():
        approved.components.update(alpha="0.1")
    with refuses("component_changes_only_in_a_draft"), transaction.atomic():
        approved.components.all().delete()
    added = approved.components.get()
    added.pk, added.position = None, 1
    with refuses("component_changes_only_in_a_draft"):
        added.save(force_insert=True)


def test_database_keeps_comments_as_they_were_said(submitted, iris):
    from django.db import DatabaseError

    comment_on_revision(submitted.pk, author=iris, text="Hm.")
    with pytest.raises(DatabaseError, match="append-only"):
        submitted.comments.update(text="Never said.")
