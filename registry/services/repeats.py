"""Repeats: a job that would only do again what an earlier one did is asked for twice."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from registry.errors import TransitionRefused
from registry.models import BaseModel, EvalSuite, Job, JobState, SteeringVector
from registry.reads.material import Material
from steernode.records.recipe import ExtractionRecipe

# What a job failed for that another machine, or this one at another time, need not meet. What is wrong with a model's files is among it:
# it is found out before there is any work, so that it costs nothing to find it out again.
_PASSING = ("ATTEMPTS_EXHAUSTED", "OUT_OF_MEMORY", "SPOOL_FULL", "DTYPE_UNSUPPORTED", "PACKAGE_MISSING")
# Of a recipe, what makes the direction of a layer.
_WHAT_DIRECTION = ("method", "site", "read_position", "dtype", "model_dtype", "template_arguments")
_PASSING_KINDS = ("MODEL_", "DEVICE_", "FOLDER_", "ARCHITECTURE_", "BLOB_")


def refuse_repeat(*, suites: Sequence[EvalSuite], **asked: Any) -> None:
    """`asked` is all that the result depends on beside the suites. Raises: TransitionRefused JOB_FAILED_BEFORE."""
    wanted = {suite.pk for suite in suites}
    if earlier := find_failed_before(lambda job: {suite.pk for suite in job.suites.all()} == wanted, **asked):
        raise TransitionRefused(
            "JOB_FAILED_BEFORE", f"{describe_failure(earlier)}; change the recipe, or ask for it again", str(earlier.pk)
        )


def refuse_known(recipe: ExtractionRecipe, base_model: BaseModel, material: Material) -> None:
    """Before any work: the direction of one layer is what it is whatever is searched over it, and the same search chooses the same layer.

    Raises: TransitionRefused VECTOR_EXISTS saying what to do with the vector that there is.
    """
    made = SteeringVector.objects.filter(base_model=base_model, contrast_set=material.contrast_set, job__isnull=False)
    wanted = {suite.pk for suite in material.suites}
    for vector in made.select_related("job").prefetch_related("job__suites"):
        job = vector.job
        if job is None:
            continue
        theirs = ExtractionRecipe.from_document(job.recipe)
        if any(getattr(theirs, name) != getattr(recipe, name) for name in _WHAT_DIRECTION):
            continue
        is_same_search = (
            replace(theirs, vector=recipe.vector, decoding=recipe.decoding) == recipe and {suite.pk for suite in job.suites.all()} == wanted
        )
        if is_same_search or recipe.layers == (vector.layer,):
            problem = f"the recipe would make {vector} again, byte for byte; validate that one, at any α, on suites with new test items"
            raise TransitionRefused("VECTOR_EXISTS", problem, str(vector))


def find_failed_before(is_same: Callable[[Job], bool], **asked: Any) -> Job | None:
    """The last of these jobs that ended and did the same, if it failed for what another would meet again."""
    ended = Job.objects.filter(state__in=[JobState.SUCCEEDED, JobState.FAILED], **asked)
    ended = ended.select_related("base_model", "contrast_set", "draft_for").prefetch_related("suites").order_by("-finished_at")
    last = next(filter(is_same, ended), None)
    return last if last is not None and last.state == JobState.FAILED and not _is_passing(last.error_code) else None


def describe_failure(job: Job) -> str:
    return f"{job} had the same recipe and inputs and failed with {job.error_code}: {job.error_message}"


def _is_passing(code: str) -> bool:
    return code in _PASSING or code.startswith(_PASSING_KINDS)
