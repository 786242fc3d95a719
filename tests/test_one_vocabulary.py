"""The record and the kit that serves it list the same words. The web process cannot import the engine, so each has its own list."""

import pytest

from registry.models import KillKind, Site, Split, StalePolicy, SuiteKind, TokenScope, Unit
from registry.services import recipes
from steernode import words
from steernode.engine.access import sites
from steernode.engine.applying import operators, positions
from steernode.engine.reading import methods, triggers
from steernode.files import suites


@pytest.mark.parametrize(
    ("recorded", "served"),
    [
        (Site.values, words.SITES),
        (Unit.values, words.UNITS),
        (TokenScope.values, words.SCOPES),
        (StalePolicy.values, words.STALE_POLICIES),
        (KillKind.values, words.KILL_KINDS),
        (SuiteKind.values, suites.KINDS),
        (Split.values, suites.SPLITS),
        (positions.SCOPES, words.SCOPES),
    ],
    ids=["site", "unit", "scope", "stale policy", "kill", "suite", "split", "engine's scopes"],
)
def test_both_sides_know_the_same_words(recorded, served):
    assert sorted(recorded) == sorted(served)


def test_the_engine_knows_every_word_that_a_recipe_may_use():
    assert recipes.METHODS == methods.METHODS
    assert recipes.READ_POSITIONS == triggers.READ_POSITIONS


def test_the_engine_does_nothing_that_a_snapshot_has_no_word_for():
    assert set(operators.OPERATORS) <= set(words.OPERATORS)
    assert set(sites.SITES) <= set(words.SITES)
