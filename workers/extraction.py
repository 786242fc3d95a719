"""Extraction: directions for the wanted layers, a search over layer and α on the select split, one vector, and why it is believed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from celery import shared_task

from registry.models import Job, SteeringVector
from registry.services.results import ExtractionResult, complete_extraction
from steernode.errors import ContrastSetError, EngineError
from steernode.files.splits import split_pairs
from steernode.files.vectors import read_vector
from steernode.gates import candidate_layers, load_gates
from steernode.records.recipe import ExtractionRecipe
from steernode.records.sweep import read_sweep
from steernode.words import MIN_PAIRS_FOR_SCREEN
from workers.candidates import read_served, write_candidate
from workers.inputs import read_contrast_set, read_rubric_digest, read_suites
from workers.running import Report, run_job
from workers.target import confirm_target, load_target, train_scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steernode.engine.access.models import LoadedModel
    from steernode.engine.reading.directions import LayerDirection
    from steernode.engine.searching.recipe import SweepRecipe
    from steernode.engine.searching.sweep import Search
    from steernode.files.contrast import ContrastPair
    from workers.working import JobWork

# The fewest pairs whose geometry says anything.
MIN_PAIRS_FOR_GEOMETRY = 8
# The most select pairs that are screened on; each costs two replies, and more hardly move the ranking.
MAX_SCREENED_PAIRS = 64
TRACED_PAIRS = 4


@shared_task(name="workers.extraction.run")
def run_extraction(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and an artifact's name is its hash."""
    return run_job(job_id, extract)


def extract(job: Job, report: Report) -> SteeringVector | None:
    """One attempt, going on from what the last one kept."""
    # The engine is imported by the job that needs it, never before a fork and never by the web process.
    from steernode.engine.searching.plots import draw_heat_map
    from steernode.engine.searching.traceplots import draw_trace
    from workers.plans import plan_extraction
    from workers.working import do_work, files_call

    if job.contrast_set is None:
        raise ValueError(f"{job} has no contrast set")
    recipe = ExtractionRecipe.from_document(job.recipe)
    pairs = read_contrast_set(job.contrast_set).pairs
    parts = split_pairs(pairs)
    report("loading", f"loading {job.base_model.name}")
    loaded = load_target(job.base_model, recipe.model_dtype).asked_with(recipe.template_arguments)
    swept = sweep_recipe(recipe, is_screened=len(parts["select"]) >= MIN_PAIRS_FOR_SCREEN)
    loaded, work = do_work(job, loaded, plan_extraction(loaded, swept, parts, read_suites(job)), report)
    diagnostics = diagnose_pairs(job, loaded, pairs, work)
    work.enter("extracting")
    call = files_call("pairs", len(parts["extract"]), "directions", parts["extract"])
    files = work.make(call, lambda: extract_candidates(job, loaded, parts["extract"], work))
    searched, directions = search(job, loaded, files, parts["select"], work)
    diagnostics = name_left_out(diagnostics, recipe.layers or candidate_layers(loaded.n_layers), directions)
    chosen = searched.chosen
    trace = trace_behaviour(loaded, parts["select"], work)
    confirm_target(job.base_model)
    report("sealing", "writing the vector and its lineage")
    splits = {name: len(part) for name, part in parts.items()}
    by_layer = {direction.layer: data for direction, data in zip(directions, files, strict=True)}
    return complete_extraction(
        job,
        ExtractionResult(
            vector=by_layer[chosen["layer"]],
            sweep=read_sweep({**searched.to_document(), "diagnostics": diagnostics, "trace": trace, "splits": splits}),
            heatmap=draw_heat_map(searched.cells, title=f"{recipe.vector}: the search on the select split", chosen=chosen),
            alpha=Decimal(chosen["alpha"]),
            unit=chosen["unit"],
            trace_map=draw_trace(trace, title=f"{recipe.vector}: where the behaviour is carried") if "groups" in trace else b"",
        ),
    )


def diagnose_pairs(job: Job, loaded: LoadedModel, pairs: Sequence[ContrastPair], work: JobWork) -> dict[str, Any]:
    """What speaks for and against the contrast set, before compute is spent on it.

    Raises: ContrastSetError with the code of the first finding that would make the extraction mislead.
    """
    from steernode.engine.reading.diagnostics import SAMPLE_PAIRS, diagnose
    from workers.working import document_call

    def look() -> dict[str, Any]:
        recipe = ExtractionRecipe.from_document(job.recipe)
        diagnostics = diagnose(
            pairs,
            loaded if len(pairs) >= MIN_PAIRS_FOR_GEOMETRY else None,
            read_position=recipe.read_position,
            site=recipe.site,
            layers=recipe.layers,
            on_progress=work.inside("pairs"),
        )
        for finding in diagnostics.findings:
            if finding.severity == "error":
                raise ContrastSetError(finding.code, finding.sentence, str(job.contrast_set))
        return diagnostics.document

    work.enter("diagnosing")
    return work.make(document_call("pairs", min(len(pairs), SAMPLE_PAIRS), "diagnostics", pairs), look)


def extract_candidates(job: Job, loaded: LoadedModel, pairs: Sequence[ContrastPair], work: JobWork) -> list[bytes]:
    """The vector file of every layer of the recipe, from the pairs of the extract split."""
    from steernode.engine.reading.directions import extract_directions

    recipe = ExtractionRecipe.from_document(job.recipe)
    found = extract_directions(
        loaded,
        pairs,
        method=recipe.method,
        read_position=recipe.read_position,
        site=recipe.site,
        layers=recipe.layers,
        on_progress=work.inside("pairs"),
    )
    return [write_candidate(job, direction, loaded.ran_on) for direction in found]


def name_left_out(diagnostics: dict[str, Any], wanted: Sequence[int], directions: Sequence[LayerDirection]) -> dict[str, Any]:
    """The diagnostics with a finding for the layers that no direction could be read from."""
    left_out = sorted(set(wanted) - {direction.layer for direction in directions})
    if not left_out:
        return diagnostics
    layers = f"{'layer' if len(left_out) == 1 else 'layers'} {', '.join(map(str, left_out))}"
    sentence = f"{layers} left out: at the read position both sides look the same there"
    finding = {"code": "LAYERS_LEFT_OUT", "severity": "info", "sentence": sentence}
    return {**diagnostics, "findings": [*diagnostics["findings"], finding]}


def search(
    job: Job, loaded: LoadedModel, files: Sequence[bytes], pairs: Sequence[ContrastPair], work: JobWork
) -> tuple[Search, list[LayerDirection]]:
    """The layers are screened on the pairs of the select split, the finalists generate on the select split of the suites."""
    from steernode.engine.measuring.margins import margin_items
    from steernode.engine.reading.directions import read_direction
    from steernode.engine.searching.sweep import sweep

    # Always read back, so that a first attempt and a resumed one measure the same bytes.
    directions = [read_direction(read_vector(data)) for data in files]
    work.enter("training the scorer")
    scorer = train_scorer(read_rubric_digest(job))
    pairs, is_screened = pairs[:MAX_SCREENED_PAIRS], len(pairs) >= MIN_PAIRS_FOR_SCREEN
    swept = sweep_recipe(ExtractionRecipe.from_document(job.recipe), is_screened=is_screened)
    read, wanted = {direction.layer for direction in directions}, swept.resolve_layers(loaded.n_layers)
    if not read.issuperset(wanted):
        swept = replace(swept, layers=tuple(layer for layer in wanted if layer in read))
    work.enter("preparing the screen")
    items = margin_items(loaded, pairs) if is_screened else ()
    work.enter("searching")
    searched = sweep(
        loaded,
        directions,
        read_served(job, loaded),
        scorer,
        swept,
        items=items,
    )
    return searched, directions


def trace_behaviour(loaded: LoadedModel, pairs: Sequence[ContrastPair], work: JobWork) -> dict[str, Any]:
    """The causal trace of a few select pairs; where there is nothing to trace, the document says so under `missing`."""
    from steernode.engine.searching.trace import GROUPS, trace_pairs
    from steernode.engine.searching.tracereport import trace
    from workers.working import document_call

    work.enter("tracing")
    if not pairs:
        return {"missing": "the contrast set has no pairs in its select split"}
    try:
        asked = trace_pairs(loaded, pairs[:TRACED_PAIRS])
        # Every group of tokens is patched at every layer.
        call = document_call("texts", len(asked) * loaded.n_layers * len(GROUPS), "trace", asked)
        return work.make(call, lambda: trace(loaded, asked, on_progress=work.inside("texts", each=len(GROUPS))))
    except EngineError as error:
        # A trace is an explanation, not a condition: a vector whose behaviour cannot be traced is judged by its gates all the same.
        if error.code not in ("TRACE_NO_EFFECT", "TRACE_EQUAL", "RESUME_UNSUPPORTED"):
            raise
        return {"missing": error.message}


def sweep_recipe(recipe: ExtractionRecipe, *, is_screened: bool) -> SweepRecipe:
    """The part of a job's recipe that the search reads."""
    from steernode.engine.searching.recipe import SweepRecipe

    whole = recipe.to_document()
    document = {name: whole[name] for name in ("layers", "alphas", "unit", "max_new_tokens", "finalists")}
    document |= {"gates": list(load_gates(recipe.gates)), "screen": "margins" if is_screened else "none"}
    return SweepRecipe.from_document(document)
