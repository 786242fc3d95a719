"""Openings of test splits: written with the job that looks, so that gates are fixed and on record before the first reply."""

from collections.abc import Sequence

from registry.audit import Action, record
from registry.errors import TransitionRefused
from registry.locks import hold_numbers
from registry.models import BaseModel, EvalSuite, Job, SuiteOpening
from registry.reads.openings import find_chosen_by, find_opened, judged_axis
from steernode.canonical import canonical_json, sha256_hex


def refuse_opened(suites: Sequence[EvalSuite], axis: str, base_model: BaseModel, *, searched: Sequence[EvalSuite] = ()) -> None:
    """Test items that judge a vector of this axis are new, and chose none. Of two who ask, one waits and then finds the other's opening.

    `searched` are suites that a search is asked for with, which goes on to this look.
    Raises: TransitionRefused TEST_SPLIT_OPENED saying what would do.
    """
    # Not by axis: what a vector is about may not be on record, and then its looks count for all.
    hold_numbers(f"openings:{base_model.pk}")
    refuse_chosen_by(suites, axis, base_model, searched=searched)
    _refuse(find_opened(suites, axis, base_model))


def refuse_chosen_by(suites: Sequence[EvalSuite], axis: str, base_model: BaseModel, *, searched: Sequence[EvalSuite] = ()) -> None:
    """Raises: TransitionRefused TEST_SPLIT_OPENED saying what would do."""
    _refuse(find_chosen_by(suites, axis, base_model, searched))


def _refuse(found: tuple[EvalSuite, str] | None) -> None:
    if found:
        suite, problem = found
        raise TransitionRefused("TEST_SPLIT_OPENED", problem, str(suite))


def open_splits(job: Job, suites: Sequence[EvalSuite]) -> None:
    """A step of the transition that queues the job: an opening of each suite, and one event with the gates."""
    gates_digest = sha256_hex(canonical_json(job.recipe["gates"]))
    axis = judged_axis(suites)
    for suite in suites:
        SuiteOpening.objects.create(
            axis=axis,
            base_model=job.base_model,
            suite=suite,
            vector=job.vector,
            job=job,
            gates_digest=gates_digest,
            opened_by=job.requested_by,
        )
    gate_set = job.recipe.get("gate_set") or {}
    record(
        Action.TEST_SPLIT_OPENED,
        actor=job.requested_by,
        subject=job,
        details={
            "axis": axis,
            "suites": sorted(f"{suite} {suite.digest}" for suite in suites),
            "gates": [f"{gate['metric']} {gate['kind']} {gate['threshold']}" for gate in job.recipe["gates"]],
            "gates_digest": gates_digest,
            "gate_set": f"{gate_set['name']}@{gate_set['version']}" if gate_set else "",
        },
        base_model_fingerprint=job.base_model.fingerprint,
    )
