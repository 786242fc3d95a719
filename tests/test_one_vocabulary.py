"""Words and fields are listed once; what has its own list beside is held to it."""

import pytest
from django.db import models

from registry.models import Component
from registry.models.fields import spelled
from steernode.engine.reading import methods
from steernode.snapshot.records import STATED
from steernode.words import METHODS, SCOPES


def test_choices_that_are_not_the_words_are_refused_where_they_are_defined():
    with pytest.raises(TypeError, match="Scope lists generated"):

        @spelled(SCOPES)
        class Scope(models.TextChoices):
            GENERATED = "generated"


def test_the_engine_knows_every_method_by_its_least_pairs():
    assert tuple(methods.MIN_PAIRS) == METHODS


@pytest.mark.parametrize("each", STATED, ids=lambda each: each.name)
def test_a_row_is_what_is_stated_of_a_component(each):
    assert hasattr(Component(), each.name)


@pytest.mark.parametrize("each", [each for each in STATED if not each.is_required], ids=lambda each: each.name)
def test_a_row_that_leaves_something_out_is_what_an_author_gets_who_does(each):
    assert getattr(Component(), each.name) == each.default
