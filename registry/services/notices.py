"""Notices: what whoever asks for a job, or waits for it, had better know; a code and a sentence each. None of them is a refusal."""

from collections.abc import Sequence
from typing import Any

from registry.blobs import get_blob
from registry.models import ContrastSet, EvalSuite, Job
from registry.services.power import notice_power
from steernode.answers import find_common
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import parse_rubric, parse_suite
from steernode.words import MIN_PAIRS_FOR_SCREEN

Notice = dict[str, str]
# Of the worker that has the job, and gone with it.
SLOW_DTYPE = "SLOW_DTYPE"
# Items that a notice names before it counts the rest.
_NAMED = 8


def foresee_notices(recipe: dict[str, Any], contrast_set: ContrastSet, suites: Sequence[EvalSuite]) -> list[Notice]:
    """Of an extraction by this recipe, in full, and of what may follow it."""
    return [
        *_notice_screen(recipe, contrast_set),
        *notice_common_answers(suites),
        *notice_power(recipe["gates"], suites, contrast_set, recipe.get("condition")),
    ]


def notice_common_answers(suites: Sequence[EvalSuite]) -> list[Notice]:
    """The replies of the rubric are to other prompts: an answer that stands in most of them is right whatever a model says."""
    replies = [example.text for suite in suites if suite.rubric_digest for example in parse_rubric(get_blob(suite.rubric_digest)).examples]
    common = [
        f"{item.id} of {suite}"
        for suite in suites
        if not suite.rubric_digest and replies
        for item in find_common(parse_suite(get_blob(suite.digest), suite.kind).items, replies)
    ]
    if not common:
        return []
    listed = ", ".join(common[:_NAMED]) + (f" and {len(common) - _NAMED} more" if len(common) > _NAMED else "")
    return [{"code": "EXPECTED_COMMON", "sentence": f"most replies of the rubric hold what is expected of {listed}; expect what is rarer"}]


def _notice_screen(recipe: dict[str, Any], contrast_set: ContrastSet) -> list[Notice]:
    layers, few = len(recipe["layers"]), say_few_pairs(recipe, contrast_set)
    if not few:
        return []
    sentence = (
        f"the layers are not screened: {few}. So each of the {layers} layers writes replies at every α, not only the best "
        f"{recipe['finalists']}, and the job takes longer by as much; more pairs, or fewer layers in the recipe, make it shorter"
    )
    return [{"code": "SCREEN_OFF", "sentence": sentence}]


def say_few_pairs(recipe: dict[str, Any], contrast_set: ContrastSet) -> str:
    """Why the layers of the recipe, in full, cannot be screened; empty if they can, or need not be."""
    if len(recipe["layers"]) <= recipe["finalists"]:
        return ""
    pairs = len(split_pairs(parse_pairs(get_blob(contrast_set.digest)).pairs)["select"])
    if pairs >= MIN_PAIRS_FOR_SCREEN:
        return ""
    return f"{contrast_set} has {pairs} pairs in its select split, and a screen needs {MIN_PAIRS_FOR_SCREEN}"


def notices_on_worker(job: Job, slowness: str) -> list[Notice]:
    """Those of the job, once a worker knows what its machine makes of it."""
    kept = [notice for notice in job.notices if notice["code"] != SLOW_DTYPE]
    return [*kept, {"code": SLOW_DTYPE, "sentence": slowness}] if slowness else kept
