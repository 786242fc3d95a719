"""The console's world: what the engine would have left, and a browser's client for each person."""

import struct
import zlib
from collections.abc import Callable

import pytest
from django.test import Client

from tests.registry.console import story


def make_png(size: int = 8) -> bytes:
    """The smallest honest picture: one grey square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x90" * size for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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
    return story.extract_vector(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada, heatmap=make_png())


@pytest.fixture
def evaluation(ada, vector, suites):
    return story.validate_vector(vector, suites=suites, author=ada)


@pytest.fixture
def running_job(ada, base_model, contrast_set, suites):
    return story.start_job(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada)
