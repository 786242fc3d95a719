"""Probing: a probe from labelled prompts, and what it is worth on those that nothing was chosen by."""

from celery import shared_task

from registry.models import Job, Probe
from registry.services.probes import ProbeResult, complete_probe
from steernode.records.recipe import ProbeRecipe
from workers.inputs import read_prompt_set
from workers.running import Report, run_job
from workers.target import confirm_target, load_target


@shared_task(name="workers.probing.run")
def run_probing(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and an artifact's name is its hash."""
    return run_job(job_id, probe)


def probe(job: Job, report: Report) -> Probe | None:
    """One attempt, going on from what the last one kept."""
    from steernode.engine.searching.probing import plan_probe, search_probe
    from steernode.engine.searching.rocplots import draw_roc
    from workers.working import do_work

    if job.prompt_set is None:
        raise ValueError(f"{job} has no prompt set")
    recipe = ProbeRecipe.from_document(job.recipe)
    prompts = read_prompt_set(job.prompt_set)
    report("loading", f"loading {job.base_model.name}")
    loaded = load_target(job.base_model, recipe.model_dtype).asked_with(recipe.template_arguments)
    loaded, _ = do_work(job, loaded, plan_probe(prompts, recipe), report)
    found = search_probe(loaded, prompts, recipe)
    confirm_target(job.base_model)
    report("sealing", "writing the probe and its ROC")
    return complete_probe(
        job,
        ProbeResult(found.trained.vector_file, found.document, found.trained.condition, draw_roc(found.held_out, title=recipe.probe)),
    )
