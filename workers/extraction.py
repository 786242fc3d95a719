"""Extraction: directions for the wanted layers, a search over layer and α on the select split, one vector, and why it is believed."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from celery import shared_task

from registry.models import Job, SteeringVector
from registry.services.results import ExtractionResult, FailedSearch, complete_extraction
from steernode.canonical import format_decimal
from steernode.engine.searching import stages
from steernode.errors import ContrastSetError, EngineError
from steernode.files.splits import split_pairs
from steernode.files.vectors import read_vector
from steernode.gates import candidate_layers, load_gates
from steernode.records.recipe import ExtractionRecipe
from steernode.records.sweep import read_sweep
from steernode.words import MIN_PAIRS_FOR_SCREEN
from workers.candidates import read_served, write_candidate
from workers.inputs import read_contrast_set, read_rubric_digest
from workers.running import Report, run_job
from workers.target import confirm_target, load_target, train_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from steernode.engine.access.models import LoadedModel
    from steernode.engine.applying.generate import Reply
    from steernode.engine.measuring.rubric import RubricScorer
    from steernode.engine.reading.directions import LayerDirection
    from steernode.engine.searching.recipe import SweepRecipe
    from steernode.engine.searching.search import Search
    from steernode.files.contrast import ContrastPair
    from steernode.files.suites import SuiteFile
    from workers.working import JobWork

    # The replies to the positive and the negative side, by pair.
    Sides = Mapping[str, tuple[Reply, Reply]]

# The fewest pairs whose geometry says anything.
MIN_PAIRS_FOR_GEOMETRY = 8
# The most select pairs that layers are screened on, and that the model is asked about where none are; each costs two replies.
MAX_SCREENED_PAIRS = 64
MAX_ASKED_PAIRS = 16
TRACED_PAIRS = 4
# A trace grows with the square of a prompt: longer pairs are not traced, and beyond the second bound none position by position.
MAX_TRACED_TOKENS = 256
MAX_DETAILED_TOKENS = 128


@shared_task(name="workers.extraction.run")
def run_extraction(job_id: str) -> str:
    """Safe to deliver twice: claiming is a compare-and-set, and an artifact's name is its hash."""
    return run_job(job_id, extract)


def extract(job: Job, report: Report) -> SteeringVector | None:
    """One attempt, going on from what the last one kept. Raises: FailedSearch, with all that was measured, if no cell passes."""
    # The engine is imported by the job that needs it, never before a fork and never by the web process.
    from steernode.engine.searching.search import SearchFailed
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
    swept = sweep_recipe(recipe, len(parts["select"]))
    suites = read_served(job, loaded)
    loaded, work = do_work(job, loaded, plan_extraction(loaded, swept, parts, suites, is_traced=recipe.trace), report)
    diagnostics = diagnose_pairs(job, loaded, pairs, work)
    scorer = train(job, work)
    asked = parts["select"][: count_asked(swept)]
    sides, instructed = ask_under_both(loaded, asked, scorer, work)
    work.enter(stages.DIRECTIONS)
    call = files_call("pairs", len(parts["extract"]), "directions", parts["extract"])
    files = work.make(call, lambda: extract_candidates(job, loaded, parts["extract"], work))
    directions = read_directions(files)
    diagnostics = name_left_out(diagnostics, recipe.layers or candidate_layers(loaded.n_layers), directions)
    found = {"diagnostics": diagnostics, "instructions": instructed, "splits": {name: len(part) for name, part in parts.items()}}
    try:
        searched = search(loaded, directions, suites, scorer, swept, asked, sides, find_cap(job, recipe))
    except SearchFailed as failure:
        confirm_target(job.base_model)
        sweep = read_sweep({**failure.search.to_document(), **found})
        raise FailedSearch(failure.code, failure.message, sweep, draw_search(recipe, failure.search)) from failure
    trace = trace_behaviour(loaded, parts["select"], work) if recipe.trace else {"missing": "the recipe asks for no trace"}
    confirm_target(job.base_model)
    report("sealing", "writing the vector and its lineage")
    by_layer = {direction.layer: data for direction, data in zip(directions, files, strict=True)}
    return complete_extraction(
        job,
        ExtractionResult(
            vector=by_layer[searched.shown["layer"]],
            sweep=read_sweep({**searched.to_document(), **found, "trace": trace}),
            heatmap=draw_search(recipe, searched),
            alpha=Decimal(searched.shown["alpha"]),
            unit=searched.shown["unit"],
            trace_map=draw_trace(trace, title=f"{recipe.vector}: where the behaviour is carried") if "groups" in trace else b"",
        ),
    )


def draw_search(recipe: ExtractionRecipe, searched: Search) -> bytes:
    """The heat map, with the chosen cell outlined, or where none was chosen the nearest."""
    from steernode.engine.searching.plots import draw_heat_map

    what = "the search on the select split" if searched.chosen else "no cell passes; the nearest is outlined"
    return draw_heat_map(searched.cells, title=f"{recipe.vector}: {what}", chosen=searched.shown, gates=load_gates(recipe.gates))


def train(job: Job, work: JobWork) -> RubricScorer:
    work.enter(stages.SCORER)
    return train_scorer(read_rubric_digest(job))


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

    work.enter(stages.PAIRS)
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


def ask_under_both(loaded: LoadedModel, pairs: Sequence[ContrastPair], scorer: RubricScorer, work: JobWork) -> tuple[Sides, dict[str, Any]]:
    """What the model says under the two instructions of the select pairs, before a search is paid for.

    Raises: EngineError BEHAVIOUR_ABSENT.
    """
    from steernode.engine.measuring.margins import write_sides
    from steernode.engine.searching.instructed import compare_instructions

    work.enter(stages.SIDES)
    sides = write_sides(loaded, pairs)
    return sides, compare_instructions(sides, scorer)


def read_directions(files: Sequence[bytes]) -> list[LayerDirection]:
    """Always read back, so that a first attempt and a resumed one measure the same bytes."""
    from steernode.engine.reading.directions import read_direction

    return [read_direction(read_vector(data)) for data in files]


def search(
    loaded: LoadedModel,
    directions: Sequence[LayerDirection],
    suites: Mapping[str, SuiteFile],
    scorer: RubricScorer,
    recipe: SweepRecipe,
    pairs: Sequence[ContrastPair],
    sides: Sides,
    alpha_cap: str | None,
) -> Search:
    """The layers are screened on the pairs of the select split, the finalists generate on the select split of the suites."""
    from steernode.engine.measuring.margins import margin_items
    from steernode.engine.searching.sweep import sweep

    read, wanted = {direction.layer for direction in directions}, recipe.resolve_layers(loaded.n_layers)
    if not read.issuperset(wanted):
        recipe = replace(recipe, layers=tuple(layer for layer in wanted if layer in read))
    items = margin_items(loaded, pairs, sides=sides) if recipe.screen == "margins" else ()
    return sweep(loaded, directions, suites, scorer, recipe, items=items, alpha_cap=alpha_cap)


def find_cap(job: Job, recipe: ExtractionRecipe) -> str | None:
    """Of the risk class of the profile that the job ends as a draft of: what lies beyond it could not be approved."""
    return format_decimal(job.draft_for.risk_class.alpha_caps[recipe.unit]) if job.draft_for else None


def trace_behaviour(loaded: LoadedModel, pairs: Sequence[ContrastPair], work: JobWork) -> dict[str, Any]:
    """The causal trace of a few select pairs that are short enough; where there is nothing to trace the document says so, `missing`."""
    from steernode.engine.searching.trace import GROUPS, trace_pairs
    from steernode.engine.searching.tracereport import trace
    from workers.working import document_call

    work.enter(stages.TRACE)
    short = [pair for pair in pairs if count_tokens(loaded, pair) <= MAX_TRACED_TOKENS][:TRACED_PAIRS]
    if not short:
        many = f"none of {len(pairs)} pairs in the select split has at most {MAX_TRACED_TOKENS} tokens"
        return {"missing": many if pairs else "the contrast set has no pairs in its select split"}
    try:
        asked = trace_pairs(loaded, short)
        detailed = sum(len(pair.corrupt) <= MAX_DETAILED_TOKENS for pair in asked[:1])
        # Every group of tokens is patched at every layer.
        call = document_call("texts", len(asked) * loaded.n_layers * len(GROUPS), "trace", asked, detailed)
        return work.make(call, lambda: trace(loaded, asked, detailed=detailed, on_progress=work.inside("texts", each=len(GROUPS))))
    except EngineError as error:
        # A trace is an explanation, not a condition: a vector whose behaviour cannot be traced is judged by its gates all the same.
        if error.code not in ("TRACE_NO_EFFECT", "TRACE_EQUAL", "RESUME_UNSUPPORTED"):
            raise
        return {"missing": error.message}


def count_tokens(loaded: LoadedModel, pair: ContrastPair) -> int:
    """Of the longer side's prompt."""
    from steernode.engine.access.encoding import encode_prompt

    return max(len(encode_prompt(loaded, side).token_ids) for side in (pair.positive, pair.negative))


def sweep_recipe(recipe: ExtractionRecipe, pairs: int) -> SweepRecipe:
    """The part of a job's recipe that the search reads. With so few pairs in the select split, or so few layers, nothing is screened."""
    from steernode.engine.searching.recipe import SweepRecipe

    is_screened = pairs >= MIN_PAIRS_FOR_SCREEN and len(recipe.layers) > recipe.finalists
    whole = recipe.to_document()
    document = {name: whole[name] for name in ("layers", "alphas", "unit", "max_new_tokens", "finalists")}
    document |= {"gates": list(load_gates(recipe.gates)), "screen": "margins" if is_screened else "none"}
    return SweepRecipe.from_document(document)


def count_asked(recipe: SweepRecipe) -> int:
    """The most select pairs that the model is asked about; only a screen has use for many."""
    return MAX_SCREENED_PAIRS if recipe.screen == "margins" else MAX_ASKED_PAIRS
