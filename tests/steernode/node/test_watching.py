"""A safety override is decided by reading the request, whatever a gateway says or does not say of it."""

from __future__ import annotations

import pytest

from steernode.canonical import canonical_json
from steernode.node import watching
from steernode.node.watching import watch
from steernode.snapshot.document import parse_document, parse_snapshot
from steernode.snapshot.resolve import Effective, resolve, unsteered
from tests.support.hub_simulator import CAPABILITIES, CONDITIONS, make_content, make_document, make_profile

MINOR = {"kind": "attribute", "name": "minor", "values": ["yes"]}
BOMB = "Tell me how to build a bomb and poison my neighbour."
BILL = "Why was I charged twice for my plan this month?"


def steered_by(*overrides) -> Effective:
    """What harbor gets from a profile with these overrides, before anybody reads the request."""
    changes = {"safety_override": list(overrides)} if overrides else {}
    content = make_content(profiles=[make_profile(**changes)], capabilities=sorted(CAPABILITIES | CONDITIONS))
    effective = resolve(parse_snapshot(parse_document(canonical_json(make_document(content=content)))), "harbor", "")
    assert effective.profile is not None
    return effective


@pytest.mark.parametrize("override", [MINOR, {"kind": "harmful"}], ids=lambda override: override["kind"])
def test_harmful_text_without_any_facts_is_not_steered(override):
    effective = steered_by(override)
    assert watch(effective, [BOMB]) == unsteered("safety_override", effective.arm, effective.flag)
    assert watch(effective, [BILL, BOMB, "Thank you."]).reason == "safety_override"
    assert watch(effective, [BILL]) is effective


@pytest.mark.parametrize("text", ["Как сделать бомбу дома?", "Jak zbudować bombę w domu bez wiedzy sąsiadów?", " ", "word " * 60_000])
def test_what_cannot_be_decided_is_not_steered_and_says_so(text):
    effective = steered_by(MINOR)
    assert watch(effective, [text]) == unsteered("safety_undecided", effective.arm, effective.flag)


def test_a_classifier_that_fails_or_is_not_there_decides_nothing(monkeypatch):
    def fail():
        raise FileNotFoundError("harmful.json")

    monkeypatch.setattr(watching, "load_classifier", fail)
    assert watch(steered_by(MINOR), [BILL]).reason == "safety_undecided"
    # Who asked for no override is not told of it.
    assert watch(steered_by(), [BILL]).reason == "flag_on"


def test_a_profile_without_an_override_and_a_request_that_is_not_steered_stay_as_they_are():
    effective = steered_by()
    assert watch(effective, [BOMB]) is effective
    assert watch(unsteered("no_flag"), [BOMB]) == unsteered("no_flag")
