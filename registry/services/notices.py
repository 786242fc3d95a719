"""Notices: what whoever asks for a job, or waits for it, had better know; a code and a sentence each. None of them is a refusal."""

from registry.blobs import get_blob
from registry.models import Job
from registry.reads.material import Material
from registry.services.power import foresee_power, notice_power
from steernode.answers import find_common
from steernode.files.suites import parse_rubric
from steernode.records.recipe import ExtractionRecipe
from steernode.words import MIN_PAIRS_FOR_SCREEN

Notice = dict[str, str]
# Of the worker that has the job, and gone with it.
SLOW_DTYPE = "SLOW_DTYPE"
# Items that a notice names before it counts the rest.
_NAMED = 8


def foresee_notices(recipe: ExtractionRecipe, material: Material) -> list[Notice]:
    """Of an extraction by this recipe, and of what may follow it."""
    return [
        *_notice_screen(recipe, material),
        *_notice_common_answers(material),
        *notice_power(foresee_power(recipe.gates, material, recipe.condition)),
    ]


def _notice_common_answers(material: Material) -> list[Notice]:
    """The replies of the rubric are to other prompts: an answer that stands in most of them is right whatever a model says."""
    suites = material.suites
    replies = [example.text for suite in suites if suite.rubric_digest for example in parse_rubric(get_blob(suite.rubric_digest)).examples]
    common = [
        f"{item.id} of {suite}"
        for suite in suites
        if not suite.rubric_digest and replies
        for item in find_common(material.files[suite].items, replies)
    ]
    if not common:
        return []
    listed = ", ".join(common[:_NAMED]) + (f" and {len(common) - _NAMED} more" if len(common) > _NAMED else "")
    return [{"code": "EXPECTED_COMMON", "sentence": f"most replies of the rubric hold what is expected of {listed}; expect what is rarer"}]


def _notice_screen(recipe: ExtractionRecipe, material: Material) -> list[Notice]:
    if not (few := say_few_pairs(recipe, material)):
        return []
    sentence = (
        f"the layers are not screened: {few}. So each of the {len(recipe.layers)} layers writes replies at every α, not only the "
        f"best {recipe.finalists}, and the job takes longer by as much; more pairs, or fewer layers in the recipe, make it shorter"
    )
    return [{"code": "SCREEN_OFF", "sentence": sentence}]


def say_few_pairs(recipe: ExtractionRecipe, material: Material) -> str:
    """Why the layers of the recipe cannot be screened; empty if they can, or need not be."""
    if len(recipe.layers) <= recipe.finalists or (pairs := len(material.parts["select"])) >= MIN_PAIRS_FOR_SCREEN:
        return ""
    return f"{material.contrast_set} has {pairs} pairs in its select split, and a screen needs {MIN_PAIRS_FOR_SCREEN}"


def notices_on_worker(job: Job, slowness: str) -> list[Notice]:
    """Those of the job, once a worker knows what its machine makes of it."""
    kept = [notice for notice in job.notices if notice["code"] != SLOW_DTYPE]
    return [*kept, {"code": SLOW_DTYPE, "sentence": slowness}] if slowness else kept
