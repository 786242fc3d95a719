"""Words and fields are listed once; what has its own list beside is held to it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import models

from registry.fleet import answers
from registry.models import Component
from registry.models.fields import spelled
from steernode.engine.reading import methods
from steernode.snapshot.records import STATED
from steernode.words import ENDED_CODES, METHODS, SCOPES

ROOT = Path(__file__).parents[1]
_CODE = re.compile(r"[A-Z]+(_[A-Z]+)*")


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


def test_the_hub_says_of_every_ended_token_what_nodes_listen_for():
    assert tuple(answers._ENDED) == ENDED_CODES


def read_codes(room: str) -> tuple[dict[str, str], set[str]]:
    """The codes that files of a room compare errors with, each with its file; and those that they hand to something that is called."""
    compared, said = {}, set()
    for path in sorted((ROOT / room).rglob("*.py")):
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        tree = ast.parse(path.read_text())
        listening = [each for each in ast.walk(tree) if isinstance(each, ast.Compare) and isinstance(each.left, ast.Attribute)]
        listening = [each for each in listening if each.left.attr == "code"]
        heard = {code for each in listening for side in each.comparators for code in _read_words(side, module)}
        compared |= dict.fromkeys(heard, module)
        inside = {id(each) for one in listening for each in ast.walk(one)}
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call)]
        words = [each.value for call in calls for each in ast.walk(call) if isinstance(each, ast.Constant) and id(each) not in inside]
        said |= {word for word in words if isinstance(word, str) and _CODE.fullmatch(word)}
    return compared, said


def _read_words(side: ast.expr, module: str) -> Iterator[str]:
    if isinstance(side, ast.Name) and side.id.isupper():
        yield from getattr(importlib.import_module(module), side.id)
    else:
        yield from (each.value for each in ast.walk(side) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def test_every_code_that_something_listens_for_is_one_that_is_said():
    (compared, here), (_, at_the_hub) = read_codes("steernode"), read_codes("registry")
    assert {*ENDED_CODES, "REPORT_LATE", "EXPIRED"} <= compared.keys()
    said = here | at_the_hub | set(answers._ENDED)
    assert {code: module for code, module in compared.items() if code not in said} == {}
