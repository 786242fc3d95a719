"""A job asked for with a profile goes on by itself: extraction, validation, draft. Each link once, and none after a refusal."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import transaction

from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.models import AuditEvent, Evaluation, Job, JobState, Notification, ProfileRevision
from registry.reads.lookups import get_profile
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job, fail_job, request_cancel, resend_lost_jobs
from registry.services.profiles import create_profile, submit_revision
from registry.services.results import ExtractionResult, complete_extraction, complete_validation
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file
from tests.support.refusals import refuses
from tests.support.working import PICTURE, extract, make_evidence, validate


@pytest.fixture
def request_chain(base_model, contrast_set, suites, ada, profile) -> Callable[..., Job]:
    def request(**options: object) -> Job:
        return request_extraction(
            base_model=base_model,
            contrast_set=contrast_set,
            suites=suites,
            recipe={"vector": "empathy"},
            actor=ada,
            **{"draft_for": profile, **options},
        )

    return request


def test_extraction_is_followed_by_a_validation_with_the_same_suites_at_the_proposed_coefficient(request_chain, suites, profile, ada):
    job = request_chain()
    vector = extract(job)
    following = Job.objects.get(follows=job)
    assert (following.kind, following.state, following.vector, following.draft_for) == ("validation", "queued", vector, profile)
    assert (following.recipe["alpha"], following.recipe["unit"], following.requested_by) == ("0.5", "mean_difference", ada)
    assert set(following.suites.all()) == set(suites)


def test_a_validation_that_passed_ends_as_a_draft_by_whoever_asked(request_chain, ada):
    job = request_chain()
    extract(job)
    evaluation = validate(job.followed_by)
    draft = ProfileRevision.objects.get()
    assert (draft.state, draft.author, draft.number, draft.drafted_by) == ("draft", ada, 1, job.followed_by)
    component = draft.components.get()
    assert (component.vector, component.alpha, component.alpha_min, component.alpha_max) == (
        evaluation.vector,
        Decimal("0.5"),
        0,
        Decimal("0.5"),
    )
    assert Notification.objects.get().text.startswith("harbor-empathy r1 is drafted from empathy v1")
    assert submit_revision(draft.pk, evaluation=evaluation, actor=ada).state == "submitted"


def test_a_negative_coefficient_is_drafted_in_a_range_up_to_zero(request_chain):
    job = request_chain()
    extract(job, alpha="-0.5")
    validate(job.followed_by)
    component = ProfileRevision.objects.get().components.get()
    assert (component.alpha_min, component.alpha_max) == (Decimal("-0.5"), 0)


def test_gates_that_failed_leave_the_evidence_and_no_draft_and_say_which(request_chain, ada):
    job = request_chain()
    extract(job)
    assert not validate(job.followed_by, passed=False).passed
    following = Job.objects.get(follows=job)
    assert (following.state, following.note) == ("succeeded", "no draft of harbor-empathy: gates failed on facts (0.71, threshold 0.9)")
    assert Notification.objects.get().text == f"empathy v1: {following.note}"
    assert not ProfileRevision.objects.exists()


def test_gates_that_nothing_can_be_concluded_on_leave_no_draft_either_and_say_what_they_need(request_chain):
    job = request_chain()
    extract(job)
    assert validate(job.followed_by, note="20 independent items more are needed").verdict == "undecidable"
    note = Job.objects.get(follows=job).note
    assert note == "no draft of harbor-empathy: nothing can be concluded on facts (20 independent items more are needed)"
    assert not ProfileRevision.objects.exists()


def test_a_coefficient_past_the_caps_of_the_policy_leaves_the_evidence_and_no_draft(request_chain):
    job = request_chain()
    extract(job, alpha="500")
    assert validate(job.followed_by) is not None
    note = Job.objects.get(follows=job).note
    assert "no draft of harbor-empathy: ALPHA_" in note
    assert (ProfileRevision.objects.count(), Evaluation.objects.count()) == (0, 1)


def test_a_job_without_a_profile_goes_on_to_nothing(request_chain):
    job = request_chain(draft_for=None)
    extract(job)
    assert Job.objects.count() == 1
    assert not Notification.objects.exists()


def test_a_second_delivery_adds_no_link(request_chain):
    job = request_chain()
    claimed = claim_job(job.pk, worker="w")
    data = vector_file(job.base_model.fingerprint, job.contrast_set.digest)
    result = ExtractionResult(data, read_sweep({}), PICTURE, Decimal("0.5"), "mean_difference")
    assert complete_extraction(claimed, result) is not None
    assert complete_extraction(claimed, result) is None
    claimed = claim_job(job.followed_by.pk, worker="w")
    evidence = make_evidence(claimed.vector)
    assert complete_validation(claimed, evidence) is not None
    assert complete_validation(claimed, evidence) is None
    assert (Job.objects.count(), ProfileRevision.objects.count()) == (2, 1)


def test_cancelling_a_link_ends_the_chain(request_chain, ada):
    job = request_chain()
    extract(job)
    with pytest.raises(TransitionRefused, match=f"it goes on as validation {job.followed_by.pk}, which can be cancelled"):
        request_cancel(job.pk, actor=ada)
    request_cancel(job.followed_by.pk, actor=ada)
    assert claim_job(job.followed_by.pk, worker="w") is None
    assert not ProfileRevision.objects.exists()


def test_a_cancellation_that_comes_as_a_link_finishes_keeps_its_result_and_ends_the_chain(request_chain, ada):
    job = request_chain()
    claimed = claim_job(job.pk, worker="w")
    request_cancel(job.pk, actor=ada)
    data = vector_file(job.base_model.fingerprint, job.contrast_set.digest)
    assert complete_extraction(claimed, ExtractionResult(data, read_sweep({}), PICTURE, Decimal("0.5"), "mean_difference")) is not None
    assert not Job.objects.filter(follows=job).exists()
    assert "cancelled as it finished" in Job.objects.get().note


def test_a_link_that_fails_is_told_to_whoever_waits_for_the_draft(request_chain, ada):
    job = request_chain()
    fail_job(claim_job(job.pk, worker="w"), code="NO_CELL_PASSES", message="no cell passes every gate")
    assert Notification.objects.get().text == "No draft of harbor-empathy: its extraction failed. NO_CELL_PASSES: no cell passes every gate"


def test_a_link_whose_workers_were_all_lost_is_told_too(request_chain):
    job = request_chain()
    Job.objects.update(attempt=3, state=JobState.RUNNING, lease_expires_at="2020-01-01T00:00:00Z")
    resend_lost_jobs()
    assert "ATTEMPTS_EXHAUSTED" in Notification.objects.get(object_id=str(job.pk)).text


def test_a_validation_may_be_asked_for_with_a_profile_too(vector, suites, profile, ada):
    job = request_validation(vector=vector, suites=suites, actor=ada, alpha=Decimal("0.5"), unit="mean_difference", draft_for=profile)
    validate(job)
    assert ProfileRevision.objects.get().drafted_by == job


def test_a_profile_of_another_axis_is_refused(request_chain, vector, suites, ada):
    other = create_profile("curt", intent="Curt.", purpose="tone", axis="brevity", risk_class="low", owner=ada)
    with pytest.raises(InvalidInput, match="is about empathy, the profile curt about brevity") as refused:
        request_chain(draft_for=other)
    assert refused.value.code == "RECIPE_PROFILE_AXIS"
    with pytest.raises(InvalidInput, match="about brevity"):
        request_validation(vector=vector, suites=suites, actor=ada, alpha=Decimal("0.5"), draft_for=other)
    with pytest.raises(NotFound, match="no profile 'nobody'"):
        get_profile("nobody")
    assert not Job.objects.exists()


def test_the_same_recipe_again_is_refused_before_any_work_and_says_what_to_do(request_chain):
    extract(request_chain())
    with pytest.raises(TransitionRefused, match="make empathy v1 again, byte for byte; validate that one") as refused:
        request_chain()
    assert refused.value.code == "VECTOR_EXISTS"


def test_the_same_recipe_at_once_fails_by_name_instead_of_losing_three_attempts(request_chain):
    first, again = request_chain(), request_chain()
    extract(first)
    with pytest.raises(InvalidInput, match="made empathy v1 again, byte for byte") as refused:
        extract(again)
    assert refused.value.code == "VECTOR_EXISTS"


def test_the_log_tells_the_chain_in_order(request_chain):
    job = request_chain()
    extract(job)
    validate(job.followed_by)
    chain = ("job.requested", "vector.extracted", "job.succeeded", "evaluation.recorded", "revision.drafted")
    actions = AuditEvent.objects.filter(action__in=chain).order_by("seq").values_list("action", flat=True)
    assert list(actions) == [
        *("job.requested", "vector.extracted", "job.succeeded"),
        *("job.requested", "evaluation.recorded", "job.succeeded", "revision.drafted"),
    ]


def test_database_refuses_a_second_link_and_a_second_draft(request_chain, draft):
    job = request_chain()
    extract(job, seed=8)
    validate(job.followed_by)
    with refuses("drafted_by"), transaction.atomic():
        ProfileRevision.objects.update(drafted_by=job.followed_by)
    following = Job.objects.get(follows=job)
    following.pk = None
    with refuses("follows_id"):
        following.save(force_insert=True)


def test_database_refuses_a_link_without_a_profile(request_chain):
    job = request_chain()
    extract(job)
    with refuses("job_follows_another_only_on_its_way_to_a_draft"):
        Job.objects.filter(follows=job).update(draft_for=None)
