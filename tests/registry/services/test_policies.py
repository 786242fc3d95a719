"""What a risk policy demands is demanded: when a revision is written, submitted, approved, compiled, and for as long as it steers."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from registry.audit import Action
from registry.errors import TransitionRefused
from registry.models import AuditEvent, EvalSuite, Notification, Profile, ProfileRevision, RevisionState, RiskPolicy
from registry.reads.steering import head_snapshot
from registry.services.approvals import approve_revision
from registry.services.demands import list_requirements, measure_peaks
from registry.services.flags import set_flag
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, submit_revision
from registry.services.reviews import end_overdue_reviews
from registry.services.vectors import import_vector
from registry.snapshots import read_snapshot
from registry.snapshots.compile import _write_profile, compile_content
from steernode.errors import AlphaError, SteerError
from tests.support.components import add, restate
from tests.support.files import vector_file


def digests(revision: ProfileRevision) -> dict[str, str]:
    return {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}


@pytest.fixture
def change(policy_terms, root):
    """Change the risk class `low`: change(minimum_pairs=500)."""
    return lambda **terms: change_policy("low", terms=policy_terms(**terms), reason="An incident.", actor=root)


@pytest.fixture
def at(monkeypatch):
    """Let the services think that it is that many days from now: at(days=-2)."""

    def move(*, days: int) -> None:
        now = timezone.now
        monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(days=days))

    return move


DEMANDS = [
    ({"suite_kinds": ["behaviour", "factual", "safety", "fluency"]}, "SUITES_MISSING"),
    ({"minimum_pairs": 9}, "PAIRS_FEW"),
    ({"refuses_claimed_lineage": True}, "LINEAGE_CLAIMED"),
    ({"locales": ["en-US", "de-DE"]}, "LOCALE_UNCOVERED"),
    ({"gate_set": "style_small_suite"}, "GATES_WEAK"),
]


@pytest.mark.parametrize(("terms", "code"), DEMANDS, ids=[code for _, code in DEMANDS])
def test_what_the_policy_demands_and_the_evidence_lacks_is_refused_when_submitted(draft, evaluation, ada, change, terms, code):
    change(**terms)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == code):
        submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    draft.refresh_from_db()
    assert (draft.state, draft.demands, draft.submission) == (RevisionState.DRAFT, {}, 0)


def test_what_the_policy_demands_and_the_evidence_has_is_submitted(draft, evaluation, ada, change):
    change(minimum_pairs=4, locales=["en-US"], gate_set="default", suite_kinds=["safety"])
    assert submit_revision(draft.pk, evaluation=evaluation, actor=ada).state == RevisionState.SUBMITTED


def test_evidence_that_is_too_old_is_refused_when_submitted_and_when_approved(draft, evaluation, submitted, grace, ada, at):
    at(days=400)
    with pytest.raises(TransitionRefused, match="400 days old", check=lambda error: error.code == "EVIDENCE_OLD"):
        approve_revision(submitted.pk, reviewer=grace, comment="late", **digests(submitted))
    assert not submitted.approvals.exists()


def test_evidence_whose_contrast_set_is_not_on_record_shows_no_pairs(profile, base_model, evaluate, ada):
    stray = import_vector("stray", data=vector_file(base_model.fingerprint, "f" * 64), author=ada)
    revision = draft_revision(profile, components=[add(stray, "0.5")], author=ada)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "PAIRS_UNKNOWN"):
        submit_revision(revision.pk, evaluation=evaluate(stray), actor=ada)


@pytest.mark.parametrize(
    "change_of",
    [{"operator": "ablate", "alpha_max": Decimal("0.5")}, {"scope": "all"}, {"preserve_norm": True}],
    ids=["another operator", "another scope", "another norm"],
)
def test_the_evaluation_of_an_addition_is_no_evidence_of_something_else(profile, component, evaluation, ada, change_of):
    revision = draft_revision(profile, components=[restate(component, **change_of)], author=ada)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "EVIDENCE_MISMATCH"):
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)


def test_a_schedule_only_takes_away_and_needs_no_other_evidence(profile, component, evaluation, ada, grace, production, harbor, oscar):
    sometimes = restate(component, schedule={"kind": "linear", "tokens": 32})
    override = [{"kind": "attribute", "name": "channel", "values": ["phone"]}]
    revision = draft_revision(profile, components=[sometimes], author=ada, safety_override=override)
    revision = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    revision = approve_revision(revision.pk, reviewer=grace, comment="Read it.", **digests(revision))
    set_flag(production, harbor, revision=revision, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    snapshot = read_snapshot(head_snapshot(production))
    assert {"schedule:linear", "condition:attribute"} <= set(snapshot.capabilities)
    assert snapshot.profiles[0].safety_override[0].kind == "attribute"


# -- The composition budget -----------------------------------------------------------------------------------------------------


def test_the_budget_is_of_all_that_is_added_at_one_layer_at_the_ends_of_the_ranges(combined):
    components = list(combined.components.select_related("vector"))
    shares = [max(abs(each.alpha_min), abs(each.alpha_max)) * each.vector.norm / each.vector.mean_residual_norm for each in components]
    peaks = measure_peaks(components)
    assert sum(shares) <= peaks["peak_share"] <= sum(shares) + Decimal("0.000001")
    assert peaks["peak_mean_difference"] == Decimal("0.5")
    for each in components:
        each.operator = "ablate"
    assert measure_peaks(components)["peak_share"] == 0


def test_a_revision_beyond_the_budget_is_neither_written_nor_submitted(combined, compose, profile, component, ada, change):
    evaluation = compose(combined)
    change(composition_budget=Decimal("0.15"))
    refused = pytest.raises(AlphaError, check=lambda error: error.code == "COMPOSITION_BUDGET")
    with refused:
        submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    assert draft_revision(profile, components=[component], author=ada).number == 2
    with refused:
        draft_revision(profile, components=[component, component], author=ada)


# -- What a change does to what is in flight --------------------------------------------------------------------------------------


def test_a_changed_policy_sends_what_is_submitted_under_it_back_to_its_author(submitted, evaluation, grace, ada, change):
    before = digests(submitted)
    change(approvals_needed=2)
    submitted.refresh_from_db()
    assert (submitted.state, submitted.digest, submitted.demands) == (RevisionState.DRAFT, "", {})
    assert "the risk policy low changed: An incident." in Notification.objects.get(person=ada).text
    assert AuditEvent.objects.filter(action=Action.REVISION_RETURNED, object_id=str(submitted.pk)).count() == 1
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "DIGEST_MISMATCH"):
        approve_revision(submitted.pk, reviewer=grace, comment="as read", **before)
    again = submit_revision(submitted.pk, evaluation=evaluation, actor=ada)
    assert (again.approvals_needed, again.submission) == (2, 2)


def test_a_bar_that_was_lowered_past_the_service_is_not_stepped_over(submitted, grace):
    RiskPolicy.objects.filter(name="low").update(minimum_pairs=3)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "POLICY_CHANGED"):
        approve_revision(submitted.pk, reviewer=grace, comment="yes", **digests(submitted))


def test_what_was_demanded_is_part_of_what_is_approved(submitted):
    assert submitted.demands["gate_set"] == "selection"
    assert submitted.demands["approvals_needed"] == 1
    assert submitted.peak_mean_difference == Decimal("0.5")


def test_tighter_limits_stop_at_once_what_can_go_beyond_them(flag_on, approved, production, ada, oscar, change):
    assert len(compile_content(production).tenants) == 1
    change(alpha_caps={"mean_difference": Decimal("0.4")})
    approved.refresh_from_db()
    assert approved.state == RevisionState.INVALIDATED
    assert "beyond the limits of the risk policy low" in approved.invalidated_reason
    assert not read_snapshot(head_snapshot(production)).profiles
    assert AuditEvent.objects.filter(action=Action.REVISION_INVALIDATED).count() == 1


def test_tighter_demands_leave_what_steers_until_its_review(flag_on, approved, production, change):
    change(minimum_pairs=500, approvals_needed=3, evidence_max_age_days=1)
    approved.refresh_from_db()
    assert approved.state == RevisionState.APPROVED
    assert len(read_snapshot(head_snapshot(production)).profiles) == 1


def test_limits_tightened_past_the_service_are_kept_when_a_snapshot_is_compiled(flag_on, approved, production):
    RiskPolicy.objects.filter(name="low").update(composition_budget=Decimal("0.01"))
    assert not compile_content(production).tenants
    assert not compile_content(production).profiles


def test_nodes_are_told_the_limits_of_the_classes_that_they_serve(flag_on, production, change):
    change(alpha_caps={"residual": Decimal("0.5")}, composition_budget=Decimal("0.6"))
    limits = read_snapshot(head_snapshot(production)).limits.risk_classes
    assert list(limits) == ["low"]
    assert (limits["low"].alpha_cap["residual"], limits["low"].composition_budget) == (Decimal("0.5"), Decimal("0.6"))


# -- Review dates and digests -----------------------------------------------------------------------------------------------------


def test_what_is_past_its_review_date_steers_no_more_and_the_sweeper_says_so(
    submitted, grace, ada, oscar, production, harbor, monkeypatch, at
):
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda now=timezone.now: now() - timedelta(days=366))
        # Evidence and approval of a year ago; the approval's own time is the database's.
        revision = approve_revision(submitted.pk, reviewer=grace, comment="Read it.", **digests(submitted))
    assert revision.review_due_at < timezone.now()
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "FLAG_NOT_APPROVED"):
        set_flag(production, harbor, revision=revision, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    assert end_overdue_reviews() == 1
    revision.refresh_from_db()
    assert revision.state == RevisionState.INVALIDATED
    assert "its review is overdue" in revision.invalidated_reason
    assert "review is overdue" in Notification.objects.get(person=ada).text
    assert end_overdue_reviews() == 0


def test_a_review_that_is_not_due_ends_nothing(flag_on, approved):
    assert end_overdue_reviews() == 0
    approved.refresh_from_db()
    assert approved.state == RevisionState.APPROVED


@pytest.fixture
def altered(approved):
    """The approved revision after somebody changed past the services what it was approved for."""
    Profile.objects.filter(pk=approved.profile_id).update(intent="Something else.")
    return ProfileRevision.objects.get(pk=approved.pk)


def test_an_edit_between_approval_and_activation_is_refused(altered, production, harbor, oscar):
    with pytest.raises(SteerError, check=lambda error: error.code == "DIGEST_MISMATCH"):
        set_flag(production, harbor, revision=altered, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    assert not compile_content(production).tenants


def test_an_edit_after_activation_steers_nobody_and_stops_no_publishing(production, harbor, approved, oscar, request, caplog):
    set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    request.getfixturevalue("altered")
    # Another process, which has not read the revision before.
    _write_profile.cache_clear()
    content = compile_content(production)
    assert not content.profiles
    assert "not what was approved" in caplog.text


# -- The checklist ------------------------------------------------------------------------------------------------------------------


def test_the_checklist_says_of_a_draft_what_submitting_it_would_say(draft, evaluation, change):
    assert all(requirement.problem is None for requirement in list_requirements(draft))
    change(minimum_pairs=500, locales=["de-DE"])
    draft = ProfileRevision.objects.get(pk=draft.pk)
    unmet = {requirement.problem.code for requirement in list_requirements(draft) if requirement.problem}
    assert unmet == {"PAIRS_FEW", "LOCALE_UNCOVERED"}


def test_a_draft_without_evidence_lacks_all_that_evidence_shows(draft):
    unmet = {requirement.problem.code for requirement in list_requirements(draft) if requirement.problem}
    assert unmet == {"EVIDENCE_MISSING"}


def test_a_suite_covers_the_locales_of_its_test_split(suites):
    assert {tuple(suite.locales) for suite in EvalSuite.objects.all()} == {("en-US",)}
