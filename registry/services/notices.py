"""Notices: what whoever asks for a job, or waits for it, had better know; a code and a sentence each. None of them is a refusal."""

from typing import Any

from registry.blobs import get_blob
from registry.models import ContrastSet, Job
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.words import MIN_PAIRS_FOR_SCREEN

Notice = dict[str, str]
# Of the worker that has the job, and gone with it.
SLOW_DTYPE = "SLOW_DTYPE"


def foresee_notices(recipe: dict[str, Any], contrast_set: ContrastSet) -> list[Notice]:
    """Of an extraction by this recipe, in full."""
    layers = len(recipe["layers"])
    if layers <= recipe["finalists"]:
        return []
    pairs = len(split_pairs(parse_pairs(get_blob(contrast_set.digest)).pairs)["select"])
    if pairs >= MIN_PAIRS_FOR_SCREEN:
        return []
    sentence = (
        f"the layers are not screened: {contrast_set} has {pairs} pairs in its select split, and a screen needs {MIN_PAIRS_FOR_SCREEN}. "
        f"So each of the {layers} layers writes replies at every α, not only the best {recipe['finalists']}, and the job takes "
        "longer by as much; more pairs, or fewer layers in the recipe, make it shorter"
    )
    return [{"code": "SCREEN_OFF", "sentence": sentence}]


def notices_on_worker(job: Job, slowness: str) -> list[Notice]:
    """Those of the job, once a worker knows what its machine makes of it."""
    kept = [notice for notice in job.notices if notice["code"] != SLOW_DTYPE]
    return [*kept, {"code": SLOW_DTYPE, "sentence": slowness}] if slowness else kept
