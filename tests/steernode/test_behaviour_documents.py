"""What a base model says to the eight prompts is read strictly."""

import copy

import pytest

from steernode.behaviour import read_behaviour
from steernode.errors import FieldError
from tests.support.files import behaviour_document


def test_a_document_is_read_as_it_is_written():
    document = behaviour_document()
    assert read_behaviour(document, "behaviour").to_document() == document


def change(path, value):
    document = copy.deepcopy(behaviour_document())
    *way, last = path
    inner = document
    for step in way:
        inner = inner[step]
    inner[last] = value
    return document


WRONG = {
    "no object": [],
    "another schema": change(["schema"], "steerhub.behaviour/2"),
    "more": behaviour_document() | {"more": 1},
    "seven prompts": change(["prompts"], behaviour_document()["prompts"][:7]),
    "a dtype nobody has": change(["moved"], {"int8": "1"}),
    "its own dtype not measured": change(["moved"], {"bfloat16": "1"}),
    "a distance below nothing": change(["moved", "float32"], "-1"),
    "a float": change(["prompts", 0, "log_probabilities", 0, 1], -1.5),
    "no number": change(["prompts", 0, "log_probabilities", 0, 1], "-"),
    "a token below 0": change(["prompts", 0, "log_probabilities", 0, 0], -1),
    "a token twice": change(["prompts", 0, "log_probabilities"], [[1, "-1"], [1, "-1"]]),
    "no token": change(["prompts", 0, "log_probabilities"], []),
    "too many": change(["prompts", 0, "log_probabilities"], [[token, "-1"] for token in range(41)]),
    "no digest": change(["prompts", 0, "tokens"], "ab"),
}


@pytest.mark.parametrize("document", WRONG.values(), ids=WRONG)
def test_what_is_not_as_it_must_be_is_refused(document):
    with pytest.raises(FieldError):
        read_behaviour(document, "behaviour")
