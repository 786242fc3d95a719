"""Composition: open the test split once for all components of a draft together, and write the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import shared_task

from registry.models import Evaluation, Job, SteeringVector
from registry.services.results import complete_composition
from steernode.files.splits import split_pairs
from steernode.records.decoding import read_decoding
from steernode.records.recipe import CompositionRecipe
from workers.candidates import read_candidate
from workers.inputs import read_contrast_set, read_rubric_digest, read_suites
from workers.running import Report, run_job
from workers.target import confirm_target, load_target, train_scorer

if TYPE_CHECKING:
    from steernode.files.contrast import ContrastPair


@shared_task(name="workers.composition.run")
def run_composition(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and the database takes one evaluation of the same components."""
    return run_job(job_id, compose)


def compose(job: Job, report: Report) -> Evaluation | None:
    """One attempt, on the components as they were when the job was asked for, going on from what the last one kept."""
    from steernode.engine.judging.plans import plan_composition
    from steernode.engine.judging.together import evaluate_together
    from workers.working import do_work

    recipe = CompositionRecipe.from_document(job.recipe)
    report("loading", f"loading {job.base_model.name}")
    loaded = load_target(job.base_model, recipe.model_dtype).asked_with(recipe.template_arguments)
    report("training the scorer", "on the labelled replies of the behaviour suite")
    scorer = train_scorer(read_rubric_digest(job))
    components = {each["name"]: {name: value for name, value in each.items() if name != "name"} for each in recipe.components}
    candidates = {name: read_candidate(component) for name, component in components.items()}
    suites, axes = read_suites(job), read_axes([component["vector"]["sha256"] for component in components.values()])
    loaded, _ = do_work(job, loaded, plan_composition(candidates, suites, axes, recipe.gates), report)
    evidence = evaluate_together(
        loaded,
        candidates,
        suites,
        scorer,
        recipe.gates,
        components_digest=job.components_digest,
        axes=axes,
        max_new_tokens=recipe.max_new_tokens,
        decoding=read_decoding(recipe.decoding, "decoding"),
        system_message=recipe.system_message,
    )
    confirm_target(job.base_model)
    return complete_composition(job, evidence)


def read_axes(vector_digests: list[str]) -> dict[str, tuple[ContrastPair, ...]]:
    """The test pairs of each contrast set that the vectors were made from. An imported vector may have none on record."""

    vectors = SteeringVector.objects.filter(digest__in=vector_digests, contrast_set__isnull=False).select_related("contrast_set")
    contrast_sets = {str(vector.contrast_set): vector.contrast_set for vector in vectors if vector.contrast_set is not None}
    return {name: split_pairs(read_contrast_set(contrast_set).pairs)["test"] for name, contrast_set in sorted(contrast_sets.items())}
