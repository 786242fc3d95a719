"""A revision of several components is judged as a whole, once, and its evidence fits nothing else."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, Component, Evaluation, Job, JobState, RevisionState
from registry.reads.documents import digest_components
from registry.reads.evidence import evidence_of
from registry.services.approvals import approve_revision
from registry.services.compositions import request_composition
from registry.services.jobs import claim_job, fail_job
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, edit_revision, submit_revision
from registry.services.results import complete_composition
from registry.services.vectors import import_vector
from steernode.canonical import format_decimal
from steernode.errors import AlphaError, ContrastSetError, SteerError
from tests.support.components import add, restate
from tests.support.files import composition_evidence, vector_file, write_model_folder
from tests.support.world import unguarded


def components_of(revision) -> list[Component]:
    return list(revision.components.select_related("vector").order_by("position"))


def refused(code: str, kind: type[SteerError] = TransitionRefused):
    return pytest.raises(kind, check=lambda error: error.code == code)


def test_several_components_judged_together_are_submitted_and_approved(ada, grace, combined, compose):
    evaluation = compose(combined)
    assert evaluation.passed
    assert (evaluation.vector, evaluation.revision) == (None, combined)
    revision = submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": evaluation.digest}
    assert approve_revision(revision.pk, reviewer=grace, comment="Both, together.", **digests).state == RevisionState.APPROVED
    event = AuditEvent.objects.get(action="evaluation.recorded", object_id=str(evaluation.pk))
    assert evaluation.components_digest in bytes(event.body).decode()


def test_the_job_holds_what_it_judges_and_every_gate_that_a_part_had_to_pass(ada, combined, suites):
    job = request_composition(revision=combined, suites=suites, actor=ada)
    names = [(component["name"], component["alpha"], component["vector"]["sha256"]) for component in job.recipe["components"]]
    assert names == [(str(each.vector), format_decimal(each.alpha), each.vector.digest) for each in components_of(combined)]
    metrics = {(gate["metric"], gate["threshold"]) for gate in job.recipe["gates"]}
    assert {("refusal_lost", "0"), ("harmful_compliance_gained", "0.01")} <= metrics
    assert ("norm_share", format_decimal(combined.profile.risk_class.composition_budget)) in metrics
    assert not {"slope", "ood_ratio"} & {metric for metric, _ in metrics}
    assert job.components_digest == digest_components(combined)


@pytest.mark.parametrize(
    "change",
    [{"alpha": Decimal("0.2"), "alpha_max": Decimal("0.2")}, {"unit": "absolute"}, {"scope": "all"}],
    ids=["another α", "another unit", "another scope"],
)
def test_evidence_of_other_components_does_not_fit(ada, combined, compose, change):
    evaluation = compose(combined)
    first, second = components_of(combined)
    edit_revision(combined.pk, components=[restate(first, **change), second], actor=ada)
    with refused("EVIDENCE_MISMATCH"):
        submit_revision(combined.pk, evaluation=evaluation, actor=ada)


def test_a_draft_edited_while_the_job_runs_has_no_evidence(ada, combined, suites):
    job = request_composition(revision=combined, suites=suites, actor=ada)
    claimed = claim_job(job.pk, worker="worker-1")
    first, second = components_of(combined)
    edit_revision(combined.pk, components=[second, first], actor=ada)
    evaluation = complete_composition(claimed, composition_evidence(job))
    with refused("EVIDENCE_MISMATCH"):
        submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    edit_revision(combined.pk, components=[first, second], actor=ada)
    assert submit_revision(combined.pk, evaluation=evaluation, actor=ada).state == RevisionState.SUBMITTED


def test_a_narrower_range_needs_no_other_evidence_and_a_wider_one_is_refused(ada, combined, compose):
    evaluation = compose(combined)
    first, second = components_of(combined)
    edit_revision(combined.pk, components=[restate(first, alpha_max=Decimal("0.6")), second], actor=ada)
    with refused("ALPHA_RANGE", AlphaError):
        submit_revision(combined.pk, evaluation=evaluation, actor=ada)
    edit_revision(combined.pk, components=[restate(first, alpha_min=Decimal("0.4")), second], actor=ada)
    assert submit_revision(combined.pk, evaluation=evaluation, actor=ada).state == RevisionState.SUBMITTED


def test_parts_that_pass_alone_and_fail_together_are_not_submitted(ada, combined, compose):
    with pytest.raises(TransitionRefused, match="refusal_lost") as failed:
        submit_revision(combined.pk, evaluation=compose(combined, passed=False), actor=ada)
    assert failed.value.code == "GATES_FAILED"


def test_evidence_of_one_part_is_not_evidence_of_the_whole(ada, combined, evaluation):
    with refused("COMPOSITION_EVIDENCE"):
        submit_revision(combined.pk, evaluation=evaluation, actor=ada)


def test_evidence_of_the_whole_is_not_evidence_of_one_part(ada, combined, compose, profile, component):
    evaluation = compose(combined)
    alone = draft_revision(profile, components=[component], author=ada)
    with refused("EVIDENCE_MISMATCH"):
        submit_revision(alone.pk, evaluation=evaluation, actor=ada)


def test_the_test_split_is_opened_once_for_the_same_components_whoever_drafts_them(ada, mary, profile, combined, compose, suites):
    evaluation = compose(combined)
    again = draft_revision(profile, components=components_of(combined), author=mary)
    with refused("TEST_SPLIT_OPENED"):
        request_composition(revision=again, suites=suites, actor=mary)
    # What was measured of these components is still true of them.
    assert submit_revision(again.pk, evaluation=evaluation, actor=mary).evaluation == evaluation


def test_a_second_job_waits_for_the_first_and_may_follow_a_failed_one(ada, combined, suites):
    job = request_composition(revision=combined, suites=suites, actor=ada)
    with refused("COMPOSITION_RUNNING"):
        request_composition(revision=combined, suites=suites, actor=ada)
    fail_job(claim_job(job.pk, worker="worker-1"), code="NON_FINITE", message="a captured activation is not finite")
    with refused("JOB_FAILED_BEFORE"):
        request_composition(revision=combined, suites=suites, actor=ada)
    assert request_composition(revision=combined, suites=suites, actor=ada, again=True).state == JobState.QUEUED


def test_one_component_that_adds_is_covered_by_its_vector(ada, draft, evaluation, suites):
    with refused("COMPOSITION_SIZE", InvalidInput):
        request_composition(revision=draft, suites=suites, actor=ada)
    assert not Job.objects.filter(kind="composition").exists()


@pytest.mark.parametrize(
    ("change", "raises_behaviour"),
    [
        ({"operator": "ablate"}, False),
        ({"operator": "clamp", "bound": Decimal("0.2")}, False),
        ({"scope": "all"}, True),
        ({"preserve_norm": True}, True),
    ],
    ids=["ablate", "clamp", "another scope", "norm kept"],
)
def test_one_component_that_does_something_else_is_judged_as_it_acts(
    ada, profile, component, evaluation, suites, compose, change, raises_behaviour
):
    revision = draft_revision(profile, components=[restate(component, **change)], author=ada)
    with refused("EVIDENCE_MISMATCH"):
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert evidence_of(revision) is None
    judged = compose(revision)
    assert evidence_of(revision) == judged
    # What takes a direction away need not raise what the direction stands for, and must not.
    asked = {gate["kind"] for gate in judged.job.recipe["gates"] if gate["metric"] == "behaviour"}
    assert ("min_difference" in asked) is raises_behaviour
    assert ("max_difference" in asked) is not raises_behaviour
    assert submit_revision(revision.pk, evaluation=judged, actor=ada).state == RevisionState.SUBMITTED


def test_nine_components_are_too_many(ada, profile, combined, suites):
    first, second = components_of(combined)
    crowd = draft_revision(profile, components=[first, *[second] * 8], author=ada)
    with refused("COMPOSITION_SIZE", InvalidInput):
        request_composition(revision=crowd, suites=suites, actor=ada)


def test_components_of_two_base_models_are_refused_even_past_the_draft(ada, combined, contrast_set, model_root, suites):
    from registry.services.base_models import register_base_model

    write_model_folder(model_root / "other", vocab_size=129)
    other = register_base_model("other", source="other", actor=ada)
    foreign = import_vector("foreign", data=vector_file(other.fingerprint, contrast_set.digest), author=ada)
    combined.components.filter(position=1).update(vector=foreign)
    with refused("REVISION_BASE_MODELS", InvalidInput):
        request_composition(revision=combined, suites=suites, actor=ada)


def test_a_part_without_evidence_of_its_own_or_that_failed_alone_is_no_part(
    ada, profile, component, base_model, contrast_set, evaluate, suites
):
    fresh = import_vector("fresh", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)
    evaluate(component.vector)
    revision = draft_revision(profile, components=[component, restate(component, vector=fresh)], author=ada)
    with refused("EVIDENCE_MISSING"):
        request_composition(revision=revision, suites=suites, actor=ada)
    evaluate(fresh, passed=False)
    with refused("GATES_FAILED"):
        request_composition(revision=revision, suites=suites, actor=ada)


def test_a_part_that_is_undecidable_alone_is_no_part(ada, profile, component, base_model, contrast_set, evaluate, suites):
    fresh = import_vector("fresh", data=vector_file(base_model.fingerprint, contrast_set.digest, seed=9), author=ada)
    evaluate(component.vector)
    evaluate(fresh, undecidable=["slope"])
    revision = draft_revision(profile, components=[component, restate(component, vector=fresh)], author=ada)
    with refused("GATES_UNDECIDABLE"):
        request_composition(revision=revision, suites=suites, actor=ada)


def test_a_part_is_held_to_what_was_measured_at_its_own_coefficient(ada, profile, component, evaluate, brevity, suites):
    """A look at a weaker α does not make up for one that failed, and one at a stronger α takes nothing back."""
    vector = component.vector

    def ask(alpha):
        revision = draft_revision(profile, components=[add(vector, alpha), add(brevity, "0.3")], author=ada)
        return request_composition(revision=revision, suites=suites, actor=ada)

    evaluate(vector, alpha="1", passed=False)
    evaluate(vector, alpha="0.1")
    with refused("GATES_FAILED"):
        ask("1")
    with refused("GATES_FAILED"):
        ask("0.5")
    assert ask("0.1").state == JobState.QUEUED
    evaluate(vector, alpha="0.5")
    evaluate(vector, alpha="0.7", passed=False)
    assert ask("0.5").state == JobState.QUEUED
    # Evidence reaches from no steering to the α that was judged.
    assert ask("0.4").state == JobState.QUEUED
    with refused("EVIDENCE_MISSING"):
        ask("1.5")
    negative = restate(add(vector, "-0.2"), alpha_min=Decimal("-0.2"), alpha_max=Decimal(0))
    for part in (negative, restate(component, unit="residual")):
        revision = draft_revision(profile, components=[part, add(brevity, "0.3")], author=ada)
        with refused("EVIDENCE_MISSING"):
            request_composition(revision=revision, suites=suites, actor=ada)


def test_what_only_one_vector_can_be_asked_is_asked_of_each_by_the_policy(
    ada, root, profile, component, evaluate, brevity, suites, compose, policy_terms
):
    """The evidence of the whole says nothing of a slope, so that a vector's own has to."""
    loose = [{"metric": "reply_tokens", "kind": "max", "threshold": "1000"}]
    evaluate(component.vector, gates=loose)
    revision = draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)
    evaluation = compose(revision)
    change_policy("low", terms=policy_terms(gate_set="default"), reason="An incident.", actor=root)
    other = draft_revision(profile, components=[add(brevity, "0.3"), component], author=ada)
    for act in (
        lambda: submit_revision(revision.pk, evaluation=evaluation, actor=ada),
        lambda: request_composition(revision=other, suites=suites, actor=ada),
    ):
        with pytest.raises(TransitionRefused, match=r"empathy v1 at α = 0\.5 mean_difference was not held to .* slope above_low 0") as weak:
            act()
        assert weak.value.code == "GATES_WEAK"
    evaluate(component.vector)
    assert submit_revision(revision.pk, evaluation=evaluation, actor=ada).state == RevisionState.SUBMITTED


def test_a_submitted_revision_and_a_missing_suite_are_refused(ada, combined, compose, suites):
    with refused("SUITES_MISSING", InvalidInput):
        request_composition(revision=combined, suites=suites[:2], actor=ada)
    submit_revision(combined.pk, evaluation=compose(combined), actor=ada)
    with refused("REVISION_STATE"):
        request_composition(revision=combined, suites=suites, actor=ada)


def test_a_suite_that_asks_what_a_part_was_made_from_is_refused(ada, combined, suites):
    from registry.services.evals import seal_eval_suite

    row = (
        b'{"id":"r0","split":"test","messages":[{"role":"user","content":"Where is refund 0?"}],'
        b'"expect":{"contains":["30 days"]},"locale":"en-US","product":"billing"}\n'
    )
    leaking = seal_eval_suite("leaking", kind="factual", data=row, author=ada)
    with refused("CONTRAST_SUITE_OVERLAP", ContrastSetError):
        request_composition(revision=combined, suites=[suites[0], leaking, suites[2]], actor=ada)


def test_a_late_attempt_leaves_no_evaluation(ada, combined, suites):
    job = request_composition(revision=combined, suites=suites, actor=ada)
    late = claim_job(job.pk, worker="worker-1")
    Job.objects.filter(pk=job.pk).update(attempt=2)
    assert complete_composition(late, composition_evidence(job)) is None
    assert not Evaluation.objects.filter(revision=combined).exists()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"components_digest": ""}, "evaluation_is_of_one_vector_or_of_one_composition"),
        ({"revision": None}, "evaluation_is_of_one_vector_or_of_one_composition"),
        ({"alpha": Decimal("0.5")}, "evaluation_is_of_one_vector_or_of_one_composition"),
        ({"unit": "residual"}, "evaluation_is_of_one_vector_or_of_one_composition"),
    ],
)
def test_database_refuses_an_evaluation_of_neither_or_of_both(combined, compose, change, name):
    evaluation = compose(combined)
    with unguarded("registry_evaluation"), pytest.raises(IntegrityError, match=name), transaction.atomic():
        Evaluation.objects.filter(pk=evaluation.pk).update(**change)


def test_database_refuses_a_vectors_evaluation_that_names_components(evaluation, combined):
    rule = "evaluation_is_of_one_vector_or_of_one_composition"
    with unguarded("registry_evaluation"), pytest.raises(IntegrityError, match=rule), transaction.atomic():
        Evaluation.objects.filter(pk=evaluation.pk).update(revision=combined, components_digest="a" * 64)


def test_database_refuses_a_second_look_at_the_same_components(ada, combined, compose, suites):
    evaluation = compose(combined)
    job = evaluation.job
    copy = {"revision": combined, "recipe": job.recipe, "base_model": job.base_model, "requested_by": ada, "kind": "composition"}
    with pytest.raises(IntegrityError, match="job_opens_the_test_split_once_per_composition"), transaction.atomic():
        Job.objects.create(**copy, components_digest=job.components_digest)
    other = Job.objects.create(**copy, components_digest="b" * 64)
    with pytest.raises(IntegrityError, match="evaluation_opens_the_test_split_once_per_composition"), transaction.atomic():
        Evaluation.objects.create(
            revision=combined, components_digest=job.components_digest, job=other, digest="c" * 64, metrics={}, gates=[], verdict="pass"
        )


@pytest.mark.parametrize("change", [{"revision": None}, {"components_digest": ""}, {"kind": "validation"}])
def test_database_refuses_a_composition_job_without_its_inputs(combined, compose, change):
    job = compose(combined).job
    with pytest.raises(IntegrityError, match="job_has_the_inputs_of_its_kind"):
        Job.objects.filter(pk=job.pk).update(**change)
