"""draft -> submitted -> approved / rejected -> retired: who may, on what, and what the record says afterwards."""

from decimal import Decimal

import pytest

from registry.audit import Action
from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, ProfileRevision, RevisionState
from registry.services.approvals import approve_revision, reject_revision
from registry.services.profiles import create_profile, draft_revision, edit_revision, retire_revision, submit_revision
from registry.services.vectors import import_vector
from steernode.errors import AlphaError
from tests.support.components import restate
from tests.support.files import vector_file


def digests(revision: ProfileRevision) -> dict[str, str]:
    return {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest if revision.evaluation else ""}


def refused(code: str):
    return pytest.raises(TransitionRefused, check=lambda error: error.code == code)


def state_of(revision: ProfileRevision) -> str:
    return ProfileRevision.objects.get(pk=revision.pk).state


def test_a_draft_has_no_digest_and_a_submission_fixes_it(draft, evaluation, ada):
    assert (draft.state, draft.digest) == (RevisionState.DRAFT, "")
    submitted = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    assert submitted.state == RevisionState.SUBMITTED
    assert len(submitted.digest) == 64


def test_one_approval_is_enough_at_low_risk(submitted, grace):
    approved = approve_revision(submitted.pk, reviewer=grace, comment="good", **digests(submitted))
    assert approved.state == RevisionState.APPROVED
    actions = list(AuditEvent.objects.filter(object_id=str(submitted.pk)).order_by("seq").values_list("action", flat=True))
    assert actions[-2:] == [Action.REVISION_APPROVAL_GIVEN, Action.REVISION_APPROVED]


def test_high_risk_takes_two_people(ada, grace, mary, component, evaluation):
    profile = create_profile("risky", intent="x", purpose="tone", axis="empathy", risk_class="high", owner=ada)
    revision = draft_revision(profile, components=[component], author=ada)
    revision = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert approve_revision(revision.pk, reviewer=grace, comment="1", **digests(revision)).state == RevisionState.SUBMITTED
    with refused("ALREADY_DECIDED"):
        approve_revision(revision.pk, reviewer=grace, comment="again", **digests(revision))
    assert approve_revision(revision.pk, reviewer=mary, comment="2", **digests(revision)).state == RevisionState.APPROVED


def test_a_service_account_of_a_reviewer_is_not_a_second_person(ada, grace, person, component, evaluation):
    profile = create_profile("risky", intent="x", purpose="tone", axis="empathy", risk_class="high", owner=ada)
    revision = draft_revision(profile, components=[component], author=ada)
    revision = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    approve_revision(revision.pk, reviewer=grace, comment="1", **digests(revision))
    robot = person("grace-robot", "approver", acts_for=grace)
    with refused("ALREADY_DECIDED"):
        approve_revision(revision.pk, reviewer=robot, comment="2", **digests(revision))
    assert state_of(revision) == RevisionState.SUBMITTED


def test_authors_do_not_decide_on_their_own_not_even_through_their_service_account(submitted, ada, person):
    robot = person("ada-robot", "approver", acts_for=ada)
    for reviewer in (ada, robot):
        for decide in (approve_revision, reject_revision):
            with refused("SELF_APPROVAL"):
                decide(submitted.pk, reviewer=reviewer, comment="mine", **digests(submitted))
    assert state_of(submitted) == RevisionState.SUBMITTED


def test_a_service_account_acts_for_a_person_never_for_another_account(ada, person):
    robot = person("ada-robot", "approver", acts_for=ada)
    with pytest.raises(InvalidInput, check=lambda error: error.code == "ACTS_FOR"):
        person("robots-robot", "approver", acts_for=robot)


def test_only_its_author_edits_a_revision(submitted, component, person):
    """Otherwise a second author could rewrite what it does and then approve it as somebody else's."""
    bob = person("bob", "author", "approver")
    with refused("NOT_THE_AUTHOR"):
        edit_revision(submitted.pk, components=[component], actor=bob)
    assert state_of(submitted) == RevisionState.SUBMITTED


def test_an_edit_voids_what_a_reviewer_read(submitted, ada, grace, component, evaluation):
    before = digests(submitted)
    edit_revision(submitted.pk, components=[restate(component, alpha_max=Decimal("0.5"), alpha_min=Decimal("0.1"))], actor=ada)
    with refused("DIGEST_MISMATCH"):
        approve_revision(submitted.pk, reviewer=grace, comment="stale", **before)
    again = submit_revision(submitted.pk, evaluation=evaluation, actor=ada)
    assert again.digest != before["revision_digest"]
    with refused("DIGEST_MISMATCH"):
        approve_revision(submitted.pk, reviewer=grace, comment="stale", **before)
    assert approve_revision(again.pk, reviewer=grace, comment="read anew", **digests(again)).state == RevisionState.APPROVED


def test_a_rejection_is_final(submitted, grace, mary, ada, component, evaluation):
    reject_revision(submitted.pk, reviewer=grace, comment="cold", **digests(submitted))
    with refused("REVISION_STATE"):
        approve_revision(submitted.pk, reviewer=mary, comment="warm", **digests(submitted))
    with refused("REVISION_STATE"):
        edit_revision(submitted.pk, components=[component], actor=ada)
    with refused("REVISION_STATE"):
        submit_revision(submitted.pk, evaluation=evaluation, actor=ada)
    assert state_of(submitted) == RevisionState.REJECTED


def test_an_approved_revision_is_not_edited_and_a_retired_one_stays_retired(approved, ada, oscar, component):
    with refused("REVISION_STATE"):
        edit_revision(approved.pk, components=[component], actor=ada)
    assert retire_revision(approved.pk, reason="old", actor=oscar).state == RevisionState.RETIRED
    with refused("REVISION_STATE"):
        retire_revision(approved.pk, reason="again", actor=oscar)


def test_evidence_is_of_this_vector_at_this_coefficient(draft, vector, evaluate, base_model, contrast_set, ada):
    other = import_vector("other", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)
    for evaluation in (evaluate(other), evaluate(vector, alpha="0.4")):
        with refused("EVIDENCE_MISMATCH"):
            submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    assert state_of(draft) == RevisionState.DRAFT


def test_failed_gates_are_no_evidence(draft, vector, evaluate, ada):
    with refused("GATES_FAILED"):
        submit_revision(draft.pk, evaluation=evaluate(vector, passed=False), actor=ada)


def test_gates_that_are_undecidable_are_told_from_those_that_failed_and_say_what_they_lack(draft, vector, evaluate, ada):
    with refused("GATES_UNDECIDABLE") as found:
        submit_revision(draft.pk, evaluation=evaluate(vector, undecidable=["slope", "capability_lost"]), actor=ada)
    assert "slope (more items are needed for slope), capability_lost (more items" in found.value.message


def test_a_range_past_the_evaluated_coefficient_is_not_submitted(profile, component, evaluation, ada):
    for wide in (restate(component, alpha_max=Decimal("0.6")), restate(component, alpha_min=Decimal("-0.1"))):
        revision = draft_revision(profile, components=[wide], author=ada)
        with pytest.raises(AlphaError, check=lambda error: error.code == "ALPHA_RANGE"):
            submit_revision(revision.pk, evaluation=evaluation, actor=ada)


def test_components_must_be_some_and_of_one_base_model(profile, ada):
    with pytest.raises(InvalidInput, check=lambda error: error.code == "REVISION_EMPTY"):
        draft_revision(profile, components=[], author=ada)
    assert not profile.revisions.exists()


@pytest.mark.parametrize("bad", ["0.6", "-0.1", "NaN", "Infinity"])
def test_a_coefficient_outside_its_own_range_is_not_drafted(profile, component, ada, bad):
    with pytest.raises(AlphaError, check=lambda error: error.code == "ALPHA_RANGE"):
        draft_revision(profile, components=[restate(component, alpha=Decimal(bad))], author=ada)
    assert not profile.revisions.exists()


def test_a_coefficient_finer_than_the_record_is_refused_not_rounded(profile, component, ada):
    with pytest.raises(AlphaError, check=lambda error: error.code == "ALPHA_FORMAT"):
        draft_revision(profile, components=[restate(component, alpha=Decimal("0.1234567"))], author=ada)
    assert not profile.revisions.exists()


def test_a_coefficient_past_what_any_node_may_be_asked_for_is_not_drafted(profile, component, ada):
    """Otherwise it would be evaluated, submitted and approved, and fail only when a flag is turned on."""
    with pytest.raises(AlphaError, check=lambda error: error.code == "ALPHA_CAP"):
        draft_revision(profile, components=[restate(component, alpha_max=Decimal(3))], author=ada)
