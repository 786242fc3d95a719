"""The record and the kit that serves it list the same words. The web process cannot import the engine, so each has its own list."""

import pytest

from registry.models import KillKind, Site, Split, StalePolicy, SuiteKind, TokenScope, Unit
from registry.services import recipes
from steerkit import snapshotrecords, suite
from steerkit.engine.access import sites
from steerkit.engine.applying import operators, positions
from steerkit.engine.reading import methods, triggers


@pytest.mark.parametrize(
    ("recorded", "served"),
    [
        (Site.values, snapshotrecords.SITES),
        (Unit.values, snapshotrecords.UNITS),
        (TokenScope.values, snapshotrecords.SCOPES),
        (StalePolicy.values, snapshotrecords.STALE_POLICIES),
        (KillKind.values, snapshotrecords.KILL_KINDS),
        (SuiteKind.values, suite.KINDS),
        (Split.values, suite.SPLITS),
        (positions.SCOPES, snapshotrecords.SCOPES),
    ],
    ids=["site", "unit", "scope", "stale policy", "kill", "suite", "split", "engine's scopes"],
)
def test_both_sides_know_the_same_words(recorded, served):
    assert sorted(recorded) == sorted(served)


def test_the_engine_knows_every_word_that_a_recipe_may_use():
    assert recipes.METHODS == methods.METHODS
    assert recipes.READ_POSITIONS == triggers.READ_POSITIONS


def test_the_engine_does_nothing_that_a_snapshot_has_no_word_for():
    assert set(operators.OPERATORS) <= set(snapshotrecords.OPERATORS)
    assert set(sites.SITES) <= set(snapshotrecords.SITES)
