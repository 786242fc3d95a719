"""The console's world: what the engine would have left, and a browser's client for each person."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.support import story


@pytest.fixture
def as_person(db) -> Callable[..., Client]:
    """A signed-in client: as_person(ada). as_person() is nobody."""

    def client(user=None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return client


@pytest.fixture
def vector(ada, base_model, contrast_set, suites):
    """A vector with its job, its sweep and its heat map."""
    return story.extract_vector(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada, heatmap=story.make_png())


@pytest.fixture
def evaluation(ada, vector, suites):
    return story.validate_vector(vector, suites=suites, author=ada)


@pytest.fixture
def running_job(ada, base_model, contrast_set, suites):
    return story.start_job(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada)
