"""Validation: open the test split once for one vector at one α, and write the evidence."""

from decimal import Decimal

from celery import shared_task

from registry.blobs import get_blob
from registry.models import Component, Evaluation, Job
from registry.reads.documents import evaluated_component
from registry.services.conditions import resolve_condition
from registry.services.results import complete_validation
from steernode.canonical import parse_strict
from steernode.files.splits import split_pairs
from steernode.records.decoding import read_decoding
from steernode.records.recipe import ValidationRecipe
from steernode.records.sweep import read_sweep
from workers.candidates import read_candidate
from workers.inputs import read_contrast_set, read_rubric_digest, read_suites
from workers.running import Report, run_job
from workers.target import confirm_target, load_target, train_scorer


@shared_task(name="workers.validation.run")
def run_validation(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and the database takes one evaluation of a vector."""
    return run_job(job_id, validate)


def validate(job: Job, report: Report) -> Evaluation | None:
    """One attempt, going on from what the last one kept."""
    from steernode.engine.judging import evaluate
    from steernode.engine.judging.plans import plan_evaluation
    from workers.working import do_work

    if job.vector is None:
        raise ValueError(f"{job} has no vector")
    recipe = ValidationRecipe.from_document(job.recipe)
    report("loading", f"loading {job.base_model.name}")
    loaded = load_target(job.base_model, recipe.model_dtype).asked_with(recipe.template_arguments)
    report("training the scorer", "on the labelled replies of the behaviour suite")
    scorer = train_scorer(read_rubric_digest(job))
    # An imported vector may name a contrast set that is not on record; gates about its pairs are then refused by name.
    contrast_set = job.vector.contrast_set
    sweep = read_sweep(parse_strict(get_blob(job.vector.sweep_digest)) if job.vector.sweep_digest else {})
    condition = resolve_condition(recipe.condition)
    component = Component(vector=job.vector, alpha=Decimal(recipe.alpha), unit=recipe.unit, condition=condition)
    candidate = read_candidate(evaluated_component(component))
    suites, pairs = read_suites(job), None if contrast_set is None else split_pairs(read_contrast_set(contrast_set).pairs)
    loaded, _ = do_work(job, loaded, plan_evaluation(candidate, suites, pairs, recipe.gates), report)
    evidence = evaluate.Evaluation(
        loaded,
        candidate,
        suites,
        scorer,
        gates=recipe.gates,
        gate_set=recipe.gate_set,
        pairs=pairs,
        curve=[cell.document for cell in sweep.curve],
        max_new_tokens=recipe.max_new_tokens,
        decoding=read_decoding(recipe.decoding, "decoding"),
        system_message=recipe.system_message,
    ).finish()
    confirm_target(job.base_model)
    return complete_validation(job, evidence)
