"""One fault for every wrong field, which each boundary names in its own words."""

import copy

import pytest

from steernode.errors import FieldError, NodeError
from steernode.strict import read_switch, refused_as


def test_a_wrong_field_is_named_by_its_path():
    with pytest.raises(FieldError, match=r"^a\.b must be true or false$") as refused:
        read_switch(1, "a.b")
    assert refused.value.item == "a.b"


def test_a_boundary_says_what_a_wrong_field_means_there():
    @refused_as(NodeError, "STORE_CORRUPT")
    def read() -> bool:
        return read_switch(None, "state.on")

    with pytest.raises(NodeError) as refused:
        read()
    assert (refused.value.code, refused.value.item) == ("STORE_CORRUPT", "state.on")
    assert isinstance(refused.value.__cause__, FieldError)


def test_a_field_error_survives_the_way_between_two_processes():
    error = copy.copy(FieldError("a.b", "is missing"))
    assert (error.code, error.message, error.item) == ("FIELD_INVALID", "a.b is missing", "a.b")
