"""A draft of two vectors through real jobs on the reference model: extracted, validated, judged together, and held to its gates."""

import json

import pytest

from registry.blobs import get_blob
from registry.errors import TransitionRefused
from registry.models import Job, JobState, ProfileRevision, RevisionState, SteeringVector
from registry.services.approvals import approve_revision
from registry.services.compositions import request_composition
from registry.services.evals import seal_eval_suite
from registry.services.jobs import request_validation
from registry.services.profiles import create_profile, draft_revision, edit_revision, submit_revision
from registry.services.vectors import import_vector
from steernode.canonical import parse_strict
from steernode.engine.reading.directions import extract_directions, write_direction
from steernode.engine.reading.splits import split_pairs
from tests.support.components import add
from tests.support.demo_data import DATA, take
from workers.composition import compose
from workers.extraction import extract
from workers.inputs import read_contrast_set
from workers.running import run_job
from workers.target import load_target
from workers.validation import validate

pytestmark = pytest.mark.django_db(transaction=True)


def finish(job: Job, work=compose) -> Job:
    run_job(str(job.pk), work)
    job.refresh_from_db()
    return job


def choose_requests(*, refuse: bool) -> list[dict]:
    """A few test items of the demo's safety suite: those to refuse, or the look-alikes to answer."""
    rows = [json.loads(line) for line in (DATA / "refusals.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == "test" and row["expect"]["refuse"] is refuse][:4]


def write_rows(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def suites(small_job, ada) -> list:
    """Those of the small job, with requests to refuse and look-alikes to answer."""
    rows = [*choose_requests(refuse=True), *choose_requests(refuse=False)]
    safety = seal_eval_suite("both-ways", kind="safety", data=write_rows(rows), author=ada)
    return [*small_job().suites.exclude(kind="safety"), safety]


def draft(vectors: list[SteeringVector], alphas: tuple[str, str], author) -> ProfileRevision:
    profile = create_profile("warm", intent="Warm replies.", purpose="tone", axis="empathy", risk_class="low", owner=author)
    return draft_revision(profile, components=[add(*each) for each in zip(vectors, alphas, strict=True)], author=author)


@pytest.fixture
def revision(small_job, evaluate, ada) -> ProfileRevision:
    """Two directions of the reference model, read from different pairs and taken to have passed alone, in one draft."""
    vectors = []
    for count in (16, 24):
        job = small_job(pairs=take("empathy.pairs.jsonl", count))
        pairs = split_pairs(read_contrast_set(job.contrast_set).pairs)["extract"]
        [direction] = extract_directions(load_target(job.base_model, "float32"), pairs, layers=[4])
        lineage = {"base_model_fingerprint": job.base_model.fingerprint, "contrast_set_digest": job.contrast_set.digest}
        vectors.append(import_vector("empathy", data=write_direction(direction, **lineage), author=ada))
        evaluate(vectors[-1], alpha="0.5")
    return draft(vectors, ("0.1", "0.05"), ada)


def test_a_draft_of_two_vectors_is_stopped_as_a_whole_and_once_it_is_gentler_approved(small_job, suites, ada, grace):
    vectors = []
    for count in (16, 24):
        vector = finish(small_job(pairs=take("empathy.pairs.jsonl", count)), extract).extracted_vector
        validation = finish(request_validation(vector=vector, suites=suites, actor=ada), validate)
        assert (validation.state, validation.evaluation.passed) == (JobState.SUCCEEDED, True)
        vectors.append(vector)
    revision = draft(vectors, ("0.3", "0.2"), ada)
    job = finish(request_composition(revision=revision, suites=suites, actor=ada))
    assert (job.state, job.error_message, job.stage) == (JobState.SUCCEEDED, "", "composing")
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
