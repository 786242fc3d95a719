"""Words are listed once; what has its own list beside is held to it."""

import pytest
from django.db import models

from registry.models.fields import spelled
from steernode.engine.reading import methods
from steernode.words import METHODS, SCOPES


def test_choices_that_are_not_the_words_are_refused_where_they_are_defined():
    with pytest.raises(TypeError, match="Scope lists generated"):

        @spelled(SCOPES)
        class Scope(models.TextChoices):
            GENERATED = "generated"


def test_the_engine_knows_every_method_by_its_least_pairs():
    assert tuple(methods.MIN_PAIRS) == METHODS
