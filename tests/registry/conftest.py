"""The hub as a server, for tests that need sockets, threads or streams."""

from collections.abc import Iterator

import httpx
import pytest

from tests.hub import serve


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker) -> Iterator[str]:
    with serve() as url:
        yield url


@pytest.fixture
def hub(server, transactional_db) -> str:
    """The URL of the hub, serving the test database."""
    return server


@pytest.fixture
def pull(hub, node) -> Iterator[httpx.Client]:
    """A client with the token of node-1."""
    with httpx.Client(base_url=hub, headers={"Authorization": f"Bearer {node[1]}"}, timeout=20) as client:
        yield client
