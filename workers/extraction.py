"""Extraction: directions for all layers, a sweep over layer and α on the select split, one vector."""

from decimal import Decimal
from typing import Any

from celery import shared_task

from registry.models import Job, SteeringVector
from registry.services.results import ExtractionResult, complete_extraction
from steerkit.vectorfile import read_vector
from workers.checkpoints import Checkpoint, write_candidate
from workers.inputs import read_contrast_set, read_rubric_digest, read_suites
from workers.running import Report, run_job
from workers.target import load_target, train_scorer


@shared_task(name="workers.extraction.run")
def run_extraction(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and an artifact's name is its hash."""
    return run_job(job_id, extract)


def extract(job: Job, report: Report) -> SteeringVector | None:
    """One attempt, going on from the last one's checkpoint."""
    # The engine is imported by the job that needs it, never before a fork and never by the web process.
    from steerkit.engine.directions import extract_directions, read_direction
    from steerkit.engine.plots import draw_heat_map
    from steerkit.engine.recipe import SweepRecipe
    from steerkit.engine.sweep import sweep

    report("loading", 0, 1, f"loading {job.base_model.name}")
    loaded = load_target(job.base_model)
    checkpoint = Checkpoint(job)
    files = checkpoint.directions()
    if not files:
        pairs = read_contrast_set(job).pairs
        found = extract_directions(
            loaded,
            pairs,
            method=job.recipe["method"],
            read_position=job.recipe["read_position"],
            site=job.recipe["site"],
            layers=job.recipe["layers"],
            on_progress=lambda done, total: report("extracting", done, total, f"{done} of {total} pairs read at every layer"),
        )
        files = [write_candidate(job, direction) for direction in found]
        checkpoint.keep_directions(files)
    # Always read back, so that a first attempt and a resumed one measure the same bytes.
    directions = [read_direction(read_vector(data)) for data in files]
    report("training the scorer", 0, 1, "on the labelled replies of the behaviour suite")
    scorer = train_scorer(read_rubric_digest(job))
    searched = sweep(
        loaded,
        directions,
        read_suites(job),
        scorer,
        SweepRecipe.from_document(sweep_recipe(job.recipe)),
        on_progress=lambda done, total: report("sweeping", done, total, f"{done} of {total} replies over layers and coefficients"),
        done_cells=checkpoint.cells(),
        on_cell=checkpoint.keep_cell,
    )
    report("sealing", 0, 1, "writing the vector and its lineage")
    chosen = searched.chosen
    by_layer = {direction.layer: data for direction, data in zip(directions, files, strict=True)}
    return complete_extraction(
        job,
        ExtractionResult(
            vector=by_layer[chosen["layer"]],
            sweep=searched.to_document(),
            heatmap=draw_heat_map(searched.cells, title=f"{job.recipe['vector']}: behaviour on the select split", chosen=chosen),
            alpha=Decimal(chosen["alpha"]),
            unit=chosen["unit"],
        ),
    )


def sweep_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a job's recipe that the sweep reads."""
    document = {name: recipe[name] for name in ("layers", "alphas", "unit", "max_new_tokens", "finalists")}
    return document if recipe["gates"] == "default" else document | {"gates": recipe["gates"]}
