"""A draft of two vectors through real jobs on the reference model: extracted, validated, judged together, and held to its gates."""

from decimal import Decimal

import pytest

from registry.blobs import get_blob
from registry.errors import TransitionRefused
from registry.models import Job, JobState, ProfileRevision, RevisionState
from registry.services.approvals import approve_revision
from registry.services.compositions import request_composition
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_validation
from registry.services.profiles import edit_revision, submit_revision
from steernode.canonical import parse_strict
from tests.support.components import add
from tests.support.demo_data import take
from tests.support.drafts import choose_requests, draft, draft_of_two, make_suites, write_rows
from tests.support.unopened import fresh_suites
from workers.composition import compose
from workers.extraction import extract
from workers.running import run_job
from workers.validation import validate

pytestmark = pytest.mark.django_db(transaction=True)


def finish(job: Job, work=compose) -> Job:
    run_job(str(job.pk), work)
    job.refresh_from_db()
    return job


@pytest.fixture
def suites(small_job, ada) -> list:
    return make_suites(small_job().suites, ada)


@pytest.fixture
def revision(small_job, evaluate, ada) -> ProfileRevision:
    return draft_of_two(small_job, evaluate, ada)


def test_a_draft_of_two_vectors_is_stopped_as_a_whole_and_once_it_is_gentler_approved(small_job, suites, ada, grace):
    vectors = []
    for count, items in ((16, suites), (24, fresh_suites(suites, ada))):
        vector = finish(small_job(pairs=take("empathy.pairs.jsonl", count)), extract).extracted_vector
        validation = finish(request_validation(vector=vector, suites=items, alpha=Decimal("0.5"), actor=ada), validate)
        assert (validation.state, validation.evaluation.passed) == (JobState.SUCCEEDED, True)
        vectors.append(vector)
    revision = draft(vectors, ("0.3", "0.2"), ada)
    job = finish(request_composition(revision=revision, suites=suites, actor=ada))
    assert (job.state, job.error_message, job.stage) == (JobState.SUCCEEDED, "", "timing")
    evaluation = job.evaluation
    evidence = parse_strict(get_blob(evaluation.digest))
    composition = evidence["composition"]
    assert composition["components_digest"] == evaluation.components_digest == job.components_digest
    assert [each["vector_digest"] for each in composition["components"]] == [vector.digest for vector in vectors]
    # Both read the same behaviour, from a set of pairs each.
    assert set(composition["axes"]) == {str(vector.contrast_set) for vector in vectors}
    assert float(composition["pairs"][0]["cosine"]) > 0.8
    metrics = {gate["metric"] for gate in evaluation.gates}
    assert {"refusal_lost", "norm_share", "layer_depth", "facts"} <= metrics
    # Half a mean difference at once moves the reference model's neutral replies by more than a nat per token.
    assert not evaluation.passed
    with pytest.raises(TransitionRefused, match="kl_p95") as refused:
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert refused.value.code == "GATES_FAILED"
    edit_revision(revision.pk, components=[add(vectors[0], "0.2"), add(vectors[1], "0.1")], actor=ada)
    revision.refresh_from_db()
    evaluation = finish(request_composition(revision=revision, suites=suites, actor=ada)).evaluation
    assert evaluation.passed, [gate for gate in evaluation.gates if gate["verdict"] != "pass"]
    submitted = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": submitted.digest, "evidence_digest": evaluation.digest}
    assert approve_revision(revision.pk, reviewer=grace, comment="Gentle.", **digests).state == RevisionState.APPROVED


def test_evidence_of_a_draft_that_was_edited_while_its_job_ran_does_not_fit(revision, suites, ada):
    job = request_composition(revision=revision, suites=suites, actor=ada)
    first, second = [each.vector for each in revision.components.select_related("vector").order_by("position")]

    def compose_while_somebody_edits(job: Job, report) -> object:
        edit_revision(revision.pk, components=[add(first, "0.12"), add(second, "0.05")], actor=ada)
        return compose(job, report)

    assert finish(job, compose_while_somebody_edits).state == JobState.SUCCEEDED
    evidence = parse_strict(get_blob(job.evaluation.digest))
    assert [each["alpha"] for each in evidence["composition"]["components"]] == ["0.1", "0.05"]
    with pytest.raises(TransitionRefused) as refused:
        submit_revision(revision.pk, evaluation=job.evaluation, actor=ada)
    assert refused.value.code == "EVIDENCE_MISMATCH"
    revision.refresh_from_db()
    assert revision.state == RevisionState.DRAFT


def test_a_suite_without_a_request_to_refuse_fails_the_job_and_leaves_no_evidence(revision, suites, ada):
    safety = seal_eval_suite("harmless", kind="safety", data=write_rows(choose_requests(refuse=False)), author=ada)
    job = finish(request_composition(revision=revision, suites=[*suites[:2], safety], actor=ada))
    assert (job.state, job.error_code, "no harmful request" in job.error_message) == (JobState.FAILED, "GATE_UNMEASURED", True)
    assert not revision.compositions.exists()
