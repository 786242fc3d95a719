"""Hashing: a file is read once for as long as it is the same, and anew once anything about it changed."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from steernode.errors import ModelError
from steernode.files import hashing
from steernode.files.hashing import hash_file


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch):
    """Files of a test are seconds too young to be remembered."""
    monkeypatch.setattr(hashing, "_SETTLED_NANOSECONDS", -(10**9))
    monkeypatch.setattr(hashing, "_known", {})


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were really read."""
    read, sha256 = [], hashlib.sha256
    monkeypatch.setattr(hashing.hashlib, "sha256", lambda *data: read.append(1) or sha256(*data))
    return read


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def test_a_file_that_is_the_same_is_read_once(weights, reads):
    first = hash_file(weights)
    assert hash_file(weights) == first == (hashlib.sha256(b"weights").hexdigest(), 7)
    assert len(reads) == 2  # One of them is this test's own.


def test_a_changed_file_is_hashed_anew_though_its_size_and_time_are_as_before(weights):
    before = weights.stat()
    first = hash_file(weights)
    time.sleep(0.02)
    weights.write_bytes(b"weighed")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert hash_file(weights) != first


def test_another_file_in_its_place_is_hashed_anew(weights, tmp_path):
    first = hash_file(weights)
    other = tmp_path / "other"
    other.write_bytes(b"weighed")
    os.utime(other, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns))
    other.replace(weights)
    assert hash_file(weights) != first


def test_a_link_that_leads_elsewhere_is_hashed_anew(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link = tmp_path / "link"
    link.symlink_to("one")
    first = hash_file(link)
    link.unlink()
    link.symlink_to("two")
    assert hash_file(link) != first


def test_what_was_changed_a_moment_ago_is_not_remembered(weights, monkeypatch, reads):
    monkeypatch.setattr(hashing, "_SETTLED_NANOSECONDS", 2 * 10**9)
    hash_file(weights)
    hash_file(weights)
    assert len(reads) == 2


def test_a_file_that_is_written_to_while_it_is_read_is_refused(weights, monkeypatch):
    sha256 = hashlib.sha256

    def write_and_hash():
        weights.write_bytes(b"other weights")
        return sha256()

    monkeypatch.setattr(hashing.hashlib, "sha256", write_and_hash)
    with pytest.raises(ModelError) as refused:
        hash_file(weights)
    assert refused.value.code == "FOLDER_CHANGED"
