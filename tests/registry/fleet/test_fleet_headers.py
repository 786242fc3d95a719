"""Conditional and patient requests, as text in and decision out."""

import pytest

from registry.fleet.conditional import matches_etag, read_range, read_wait


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=30", 30),
        ("respond-async; wait = 5", 5),
        ('wait="7"', 7),
        ("WAIT=9", 9),
        ("wait=600", 55),
        ("wait=99999999999", 0),
        ("wait=-1", 0),
        ("wait=1.5", 0),
        ("wait", 0),
        ("kuwait=5", 0),
        ("", 0),
    ],
)
def test_wait_is_read_and_bounded(prefer, seconds):
    assert read_wait(prefer) == seconds


def test_a_tag_inside_another_is_no_match():
    assert not matches_etag('"r1-abc"', '"r1-abcd"')
    assert not matches_etag("", '"r1-abc"')


@pytest.mark.parametrize(
    ("header", "part"), [("bytes=0-0", (0, 1)), ("bytes=2-4", (2, 5)), ("bytes=9-", (9, 10)), ("bytes=-20", (0, 10)), ("bytes=-", None)]
)
def test_ranges_of_ten_bytes(header, part):
    assert read_range(header, 10) == part
