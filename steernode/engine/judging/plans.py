"""How much there is to do in each stage of an evaluation, foreseen from what is to be measured, so that a job can say how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb

from steernode.engine.access.work import Planned
from steernode.engine.judging import stages
from steernode.engine.judging.attacks import read_templates
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.contrastevidence import CONTROL_ITEMS, SELECT_PAIRS
from steernode.engine.judging.controls import RANDOM_DIRECTIONS, SHUFFLES
from steernode.engine.judging.doseresponse import STEPS
from steernode.engine.judging.prompting import positive_systems
from steernode.engine.judging.randomreplies import DIRECTIONS, TICKETS
from steernode.engine.judging.runs import SPEED_CONVERSATIONS, SPEED_RUNS
from steernode.engine.judging.together import AXIS_PAIRS
from steernode.engine.judging.unrelated import unrelated_axes
from steernode.engine.measuring.items import EvalItems, spread
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile
from steernode.gates import OF_ATTACKS, OF_RANDOM, OF_TURNS, load_gates
from steernode.power import ATTACKED, HELD, TEST_PAIRS

# Both sides of a pair, and both runs over an item.
_TWO = 2


def plan_evaluation(
    candidate: Candidate,
    suites: Mapping[str, SuiteFile],
    pairs: Mapping[str, Sequence[ContrastPair]] | None,
    gates: str | Sequence[Mapping[str, str]],
) -> list[Planned]:
    """The stages of an `Evaluation`."""
    parts = pairs or {}
    asked = spread(parts.get("test", ()), TEST_PAIRS) if candidate.record.alpha else ()
    promised = spread(parts.get("select", ()), SELECT_PAIRS) if asked else ()
    test, select = len(asked), len(promised)
    directions = 1 + RANDOM_DIRECTIONS + len(unrelated_axes()) + SHUFFLES + 1
    return [
        Planned(stages.PAIRS, "replies", _replies(asked)),
        # Every step of α, and three of them again under the changed system message.
        Planned(stages.DOSE, "texts", _TWO * test * (len(STEPS) + 3)),
        *_plan_runs(suites, is_prompted=bool(positive_systems(pair for part in parts.values() for pair in part))),
        # Unsteered, under every direction, and under the positive side's own prompt.
        Planned(stages.CONTROLS, "texts", _TWO * min(test, CONTROL_ITEMS) * (1 + directions + 1)),
        *_plan_further(suites, gates),
        Planned(stages.PROMISE, "replies", _replies(promised)),
        Planned(stages.PROMISE, "texts", _TWO * select * 2),
        _plan_speed(suites),
    ]


def plan_composition(
    candidates: Mapping[str, Candidate],
    suites: Mapping[str, SuiteFile],
    axes: Mapping[str, Sequence[ContrastPair]],
    gates: Sequence[Mapping[str, str]],
) -> list[Planned]:
    """The stages of `evaluate_together`."""
    items, parts = EvalItems.of(suites, "test", with_capability=True), len(candidates)
    asked = [pair for pairs in axes.values() for pair in spread(pairs, AXIS_PAIRS)]
    harmful = sum(bool(item.expect["refuse"]) for item in items.refusals)
    # Unsteered, each part, all together, and each pair where that is not all.
    variants = 1 + parts + 1 + (comb(parts, 2) if parts > 2 else 0)
    return [
        Planned(stages.PAIRS, "replies", len(items.refusals) + _replies(asked)),
        *_plan_runs(suites),
        *_plan_further(suites, gates),
        Planned(stages.TOGETHER, "texts", (_TWO * (len(asked) + harmful) + _neutral(items)) * variants),
        _plan_speed(suites),
    ]


def _replies(pairs: Sequence[ContrastPair]) -> int:
    """Pairs that end with answers are not answered again."""
    return sum(_TWO for pair in pairs if pair.positive[-1].role != "assistant")


def _plan_runs(suites: Mapping[str, SuiteFile], *, is_prompted: bool = False) -> list[Planned]:
    items, runs = EvalItems.of(suites, "test", with_capability=True), 3 if is_prompted else 2
    known = len(items.facts) + len(items.capability)
    return [
        Planned(stages.TICKETS, "replies", runs * len(items.behaviour)),
        Planned(stages.TICKETS, "texts", runs * len(items.behaviour)),
        Planned(stages.REQUESTS, "replies", runs * len(items.refusals)),
        # What the model says by itself is written here, to be read again under steering.
        Planned(stages.LOSSES, "replies", known),
        Planned(stages.LOSSES, "texts", _neutral(items) * (2 if is_prompted else 1)),
        Planned(stages.KNOWN, "replies", (runs - 1) * known),
    ]


def _plan_further(suites: Mapping[str, SuiteFile], gates: str | Sequence[Mapping[str, str]]) -> list[Planned]:
    """As many as there may be: only what holds without steering is asked again."""
    items, asked = EvalItems.of(suites, "test"), {gate["metric"] for gate in load_gates(gates)}
    parts = zip(OF_RANDOM, ((items.facts, HELD), (items.refusals, HELD), (items.behaviour, TICKETS)), strict=True)
    rows = {name: min(most, len(part)) for name, (part, most) in parts if name in asked}
    planned = [
        Planned(stages.RANDOM, kind, DIRECTIONS * count)
        for kind, count in (("replies", sum(rows.values())), ("texts", rows.get("perplexity_over_random", 0)))
        if count
    ]
    if asked & set(OF_ATTACKS):
        harmful = sum(bool(item.expect["refuse"]) for item in items.refusals)
        planned.append(Planned(stages.ATTACKS, "replies", _TWO * len(read_templates()) * min(ATTACKED, harmful)))
    if asked & set(OF_TURNS):
        turns = sum(1 + len(item.turns) for item in suites["fluency"].split("test")) if "fluency" in suites else 0
        planned.append(Planned(stages.TURNS, "replies", _TWO * turns))
    return planned


def _plan_speed(suites: Mapping[str, SuiteFile]) -> Planned:
    items = EvalItems.of(suites, "test", with_capability=True)
    return Planned(stages.SPEED, "replies", _TWO * SPEED_RUNS * min(len(items.behaviour), SPEED_CONVERSATIONS))


def _neutral(items: EvalItems) -> int:
    return sum(not item.expect.get("refuse") for item in items.all[len(items.behaviour) :])
