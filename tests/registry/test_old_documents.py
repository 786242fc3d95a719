"""What the registry keeps was written by the code of its day. Each is read as what it was: on pages, by the API, in an export.

The fixtures are documents of earlier forms, whole, as they were stored.
"""

import json
from pathlib import Path

import pytest
from django.test import Client

from registry.blobs import put_blob
from registry.errors import TransitionRefused
from registry.manifests.plan import Options, make_plan
from registry.models import BaseModel, Evaluation, Job, JobKind, ProfileRevision, SteeringVector
from registry.reads.documents import policy_document
from registry.services.approvals import approve_revision
from registry.services.demands import list_requirements
from registry.services.job_requests import request_validation
from steernode.records.recipe import ExtractionRecipe, ValidationRecipe
from tests.support import story
from tests.support.world import unguarded

OLD = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "support/old_documents").glob("*.json")}
TERMS = (
    *("alpha_caps", "composition_budget", "suite_kinds", "gate_set", "minimum_pairs", "locales", "evidence_max_age_days"),
    "review_after_days",
)


@pytest.fixture
def vector(ada, base_model, contrast_set, suites):
    """With its job, its sweep and its heat map, as an extraction leaves them."""
    return story.extract_vector(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada, heatmap=story.make_png())


@pytest.fixture
def evaluation(ada, vector, suites):
    return story.validate_vector(vector, suites=suites, author=ada)


def rewrite(records, **fields) -> None:
    """Put it on record past whoever guards it: such a row is as old as the code that wrote it."""
    with unguarded(records.model._meta.db_table):
        records.update(**fields)


@pytest.fixture
def look(api, iris, ada, approved):
    """Open everything that shows a revision, its vector, its jobs and its evidence."""

    def look(*, can_be_planned: bool = True) -> None:
        client, browser = api(iris), Client()
        browser.force_login(ada)
        vector, evaluation = SteeringVector.objects.get(), Evaluation.objects.get()
        jobs = [str(key) for key in Job.objects.values_list("pk", flat=True)]
        revision = "profiles/harbor-empathy/revisions"
        for path in (
            *(revision, f"{revision}/1", f"{revision}/1/checklist", "profiles/harbor-empathy", "base-models", "base-models/harbor-support"),
            *("vectors", f"vectors/{vector.name}/{vector.version}", f"vectors/{vector.name}/{vector.version}/sweep", "jobs", "proposals"),
            *("evaluations", f"evaluations/{evaluation.pk}", f"evaluations/{evaluation.pk}/evidence", "manifests/export?status=true"),
            *(f"jobs/{key}" for key in jobs),
        ):
            assert client.get(f"/api/v1/{path}").status_code == 200, path
        for page in (
            *(f"revisions/{approved.pk}/", f"vectors/{vector.pk}/", "profiles/harbor-empathy/", f"base-models/{vector.base_model_id}/"),
            *("approvals/", "proposals/", f"revisions/{approved.pk}/evidence.json"),
            *(f"jobs/{key}/" for key in jobs),
        ):
            assert browser.get(f"/console/{page}").status_code == 200, page
        if not can_be_planned:
            return
        exported = client.get("/api/v1/manifests/export").json()["documents"]
        steps = make_plan(exported, Options()).steps
        assert {str(step): step.changes for step in steps if step.action != "no-op"} == {}

    return look


def test_the_fixtures_are_each_looked_at():
    assert set(OLD) == {
        "base-model-without-files",
        "demands-before-policies",
        "demands-of-a-gate-set-that-went",
        "evaluation-before-kinds-of-gates",
        "evidence-before-intervals",
        "extraction-recipe-before-finalists",
        "extraction-recipe-of-a-gate-set-that-went",
        "sweep-of-one-stage",
        "validation-recipe-with-a-seed",
    }


# -- Demands --------------------------------------------------------------------------------------------------------------------


def test_demands_of_before_policies_demand_what_they_did(look, approved):
    rewrite(ProfileRevision.objects.filter(pk=approved.pk), demands=OLD["demands-before-policies"])
    look()
    approved.refresh_from_db()
    assert [each.demand for each in list_requirements(approved)] == [
        "evidence of exactly these components",
        "evidence under the system message that is served",
        "every range inside the evaluated α",
        "every gate of the evidence passed",
    ]


def test_demands_of_a_gate_set_that_went_cannot_be_met_any_more(look, approved):
    rewrite(ProfileRevision.objects.filter(pk=approved.pk), demands=OLD["demands-of-a-gate-set-that-went"])
    look()
    approved.refresh_from_db()
    problems = {each.problem.code for each in list_requirements(approved) if each.problem}
    assert "GATE_SET_UNKNOWN" in problems


@pytest.mark.parametrize("term", TERMS)
def test_demands_that_lack_a_term_are_silent_about_it(look, approved, term):
    demands = policy_document(approved.profile.risk_class)
    del demands[term]
    rewrite(ProfileRevision.objects.filter(pk=approved.pk), demands=demands)
    look()


def test_nothing_is_approved_by_the_demands_of_another_day(submitted, grace):
    rewrite(ProfileRevision.objects.filter(pk=submitted.pk), demands=OLD["demands-before-policies"])
    with pytest.raises(TransitionRefused) as caught:
        approve_revision(
            submitted.pk, reviewer=grace, comment="x", revision_digest=submitted.digest, evidence_digest=submitted.evaluation.digest
        )
    assert caught.value.code == "POLICY_CHANGED"


# -- Recipes --------------------------------------------------------------------------------------------------------------------


def test_an_extraction_of_before_finalists_is_shown_exported_and_planned(look):
    rewrite(Job.objects.filter(kind=JobKind.EXTRACTION), recipe=OLD["extraction-recipe-before-finalists"])
    look()


def test_an_extraction_by_a_gate_set_that_went_is_shown_and_exported(look):
    """A plan of it says that nobody knows these gates."""
    rewrite(Job.objects.filter(kind=JobKind.EXTRACTION), recipe=OLD["extraction-recipe-of-a-gate-set-that-went"])
    look(can_be_planned=False)


def test_an_extraction_of_before_finalists_measured_two():
    assert ExtractionRecipe.from_document(OLD["extraction-recipe-before-finalists"]).finalists == 2


def test_a_vector_of_an_earlier_recipe_can_be_validated(ada, vector, suites):
    rewrite(Job.objects.filter(pk=vector.job_id), recipe=OLD["extraction-recipe-before-finalists"])
    job = request_validation(vector=SteeringVector.objects.get(pk=vector.pk), suites=suites, actor=ada)
    assert job.recipe["max_new_tokens"] == 64


@pytest.mark.parametrize(("said", "dtype"), [({}, "float32"), ({"model_dtype": "bfloat16"}, "bfloat16")])
def test_a_validation_runs_the_model_as_its_extraction_did_and_those_of_before_ran_float32(ada, vector, suites, said, dtype):
    rewrite(Job.objects.filter(pk=vector.job_id), recipe=OLD["extraction-recipe-before-finalists"] | said)
    job = request_validation(vector=SteeringVector.objects.get(pk=vector.pk), suites=suites, actor=ada)
    assert job.recipe["model_dtype"] == dtype


def test_a_validation_that_named_a_seed_is_one_without(look):
    rewrite(Job.objects.filter(kind=JobKind.VALIDATION), recipe=OLD["validation-recipe-with-a-seed"])
    look()
    assert "seed" not in ValidationRecipe.from_document(OLD["validation-recipe-with-a-seed"]).to_document()


# -- Evidence, sweeps and base models -------------------------------------------------------------------------------------------


def test_an_evaluation_of_before_kinds_of_gates_is_shown(look):
    rewrite(Evaluation.objects.all(), **OLD["evaluation-before-kinds-of-gates"])
    look()


def test_evidence_of_before_intervals_is_shown(look):
    digest = put_blob(json.dumps(OLD["evidence-before-intervals"]).encode())
    rewrite(Evaluation.objects.all(), digest=digest, **OLD["evaluation-before-kinds-of-gates"])
    look()


def test_a_sweep_of_one_stage_is_shown(look):
    digest = put_blob(json.dumps(OLD["sweep-of-one-stage"]).encode())
    rewrite(SteeringVector.objects.all(), sweep_digest=digest)
    look()


def test_a_base_model_whose_files_were_not_listed_is_shown(look):
    rewrite(BaseModel.objects.all(), manifest=OLD["base-model-without-files"])
    look()
