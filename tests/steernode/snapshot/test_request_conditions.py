import copy
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steernode.canonical import canonical_json
from steernode.errors import ConditionError, NodeError, SnapshotRefused
from steernode.snapshot.conditions import (
    NO_FACTS,
    AttributeCondition,
    IntentCondition,
    ProbeCondition,
    RequestFacts,
    are_same_conditions,
    describe_condition,
    parse_condition,
    parse_condition_bytes,
    profile_vectors,
    read_facts,
)
from steernode.snapshot.document import parse_document, parse_snapshot
from steernode.snapshot.limits import find_alpha_problem
from steernode.snapshot.records import required_capabilities
from steernode.snapshot.resolve import apply_conditions, resolve, unsteered
from tests.support.hub_simulator import make_component, make_content, make_document, make_flag, make_profile

INTENT = {"kind": "intent", "labels": ["refund", "complaint"]}
ATTRIBUTE = {"kind": "attribute", "name": "locale", "values": ["de-DE", "de-AT"]}
HARMFUL = {"kind": "harmful"}
PROBE = {
    "kind": "probe",
    "vector": {"sha256": "9" * 64, "bytes": 900, "dtype": "F32", "shape": [16]},
    "layer": 4,
    "site": "resid_post",
    "read_position": "last_prompt_token",
    "scale": "3.1",
    "bias": "-0.4",
    "threshold": "0",
}


def read_profile(**changes):
    """The one profile of a snapshot that carries it, read as a node reads it."""
    profile = make_profile(**changes)
    components = profile["components"]
    kinds = [document["kind"] for document in profile.get("safety_override", [])]
    kinds += [component["condition"]["kind"] for component in components if component["condition"]]
    needed = {
        *(f"{part}:{component[part]}" for component in components for part in ("operator", "site", "scope")),
        *(f"schedule:{component['schedule']['kind']}" for component in components),
        *(f"condition:{kind}" for kind in kinds),
        *("preserve_norm" for component in components if component.get("preserve_norm")),
    }
    content = make_content(profiles=[profile], capabilities=sorted(needed))
    return parse_snapshot(parse_document(canonical_json(make_document(content=content))))


@pytest.mark.parametrize("document", [INTENT, ATTRIBUTE, PROBE, HARMFUL], ids=lambda document: document["kind"])
def test_every_field_of_a_condition_is_needed_and_no_other_is_known(document):
    for field in document:
        short = {name: value for name, value in document.items() if name != field}
        with pytest.raises(ConditionError) as refused:
            parse_condition(short)
        assert (refused.value.code, refused.value.item) == ("CONDITION_INVALID", f"condition.{field}")
    with pytest.raises(ConditionError) as refused:
        parse_condition(document | {"negate": True})
    assert (refused.value.code, refused.value.item) == ("CONDITION_INVALID", "condition.negate")


@pytest.mark.parametrize("document", [INTENT, ATTRIBUTE, PROBE, HARMFUL], ids=lambda document: document["kind"])
@pytest.mark.parametrize("wrong", [None, [], {}, 1.5, "", -1, True, "\x00", [""], ["a", "a"], [1], "9" * 300])
def test_no_field_of_a_condition_takes_a_value_it_cannot_mean(document, wrong):
    for field in document:
        with pytest.raises(ConditionError) as refused:
            parse_condition(document | {field: wrong})
        assert refused.value.code in ("CONDITION_INVALID", "CONDITION_UNKNOWN")
        assert refused.value.item is not None


@pytest.mark.parametrize("document", [None, [], "intent", {}, {"kind": 3}])
def test_what_is_no_condition_at_all_is_refused(document):
    with pytest.raises(ConditionError) as refused:
        parse_condition(document)
    assert refused.value.code == "CONDITION_INVALID"


def test_an_unknown_kind_is_refused_by_name_and_bytes_must_be_json():
    with pytest.raises(ConditionError, match="known are intent, attribute, probe") as refused:
        parse_condition({"kind": "weather"})
    assert (refused.value.code, refused.value.item) == ("CONDITION_UNKNOWN", "weather")
    with pytest.raises(ConditionError) as refused:
        parse_condition_bytes(b"{")
    assert refused.value.code == "CONDITION_INVALID"


def test_conditions_hold_for_the_facts_they_name_and_for_no_facts_never():
    intent, attribute = parse_condition(INTENT), parse_condition(ATTRIBUTE)
    assert isinstance(intent, IntentCondition)
    assert isinstance(attribute, AttributeCondition)
    assert isinstance(parse_condition(PROBE), ProbeCondition)
    assert intent.holds(read_facts("order-status, refund", ""))
    assert not intent.holds(read_facts("order-status", "refund=yes"))
    assert attribute.holds(read_facts("", "channel=phone, locale=de-AT"))
    assert not attribute.holds(read_facts("locale", "locale=en-US"))
    assert not intent.holds(NO_FACTS)
    assert not attribute.holds(NO_FACTS)


@pytest.mark.parametrize(
    ("intents", "attributes"),
    [
        (",", ""),
        ("refund,", ""),
        ("two words", ""),
        ("x" * 65, ""),
        ("", "locale"),
        ("", "locale="),
        ("", "=de"),
        ("", "a b=c"),
        ("", "a=1,a=2"),
        ("", "a=" + "x" * 300),
        ("", "a=\x07"),
        (",".join(f"i{index}" for index in range(65)), ""),
    ],
)
def test_facts_that_cannot_be_read_are_refused_and_never_dropped(intents, attributes):
    with pytest.raises(NodeError) as refused:
        read_facts(intents, attributes)
    assert refused.value.code == "FACTS_INVALID"


def test_facts_are_read_whatever_the_spaces():
    assert read_facts(" refund ,complaint ", " locale = de-DE ,channel=the phone ") == RequestFacts(
        frozenset({"refund", "complaint"}), {"locale": "de-DE", "channel": "the phone"}
    )
    assert read_facts("", "  ") == NO_FACTS


def test_a_snapshot_refuses_a_known_condition_that_is_wrong_and_keeps_an_unknown_one():
    with pytest.raises(SnapshotRefused) as refused:
        read_profile(components=[make_component(condition=INTENT | {"labels": []})])
    assert (refused.value.code, refused.value.item) == ("SCHEMA", "profiles[0].components[0].condition.labels")
    with pytest.raises(SnapshotRefused) as refused:
        read_profile(safety_override=[ATTRIBUTE, {"kind": "attribute"}])
    assert refused.value.code == "SCHEMA"
    assert "safety_override[1]" in refused.value.item
    later = read_profile(components=[make_component(condition={"kind": "weather", "rain": "1"})])
    assert "condition:weather" in required_capabilities(later.profiles)


@pytest.mark.parametrize(
    ("changes", "item"),
    [
        ({"preserve_norm": "yes"}, "preserve_norm"),
        ({"preserve_norm": None}, "preserve_norm"),
        ({"bound": 1}, "bound"),
        ({"bound": "1e3"}, "bound"),
        ({"bound": None}, "bound"),
    ],
)
def test_an_optional_field_is_read_as_strictly_as_the_others(changes, item):
    with pytest.raises(SnapshotRefused) as refused:
        read_profile(components=[make_component(**changes)])
    assert (refused.value.code, refused.value.item) == ("SCHEMA", f"profiles[0].components[0].{item}")


def test_the_new_fields_ask_for_their_capabilities_and_may_be_left_out():
    plain = read_profile().profiles[0]
    assert (plain.safety_override, plain.components[0].preserve_norm, plain.components[0].bound) == ((), False, None)
    snapshot = read_profile(safety_override=[INTENT, PROBE], components=[make_component(condition=ATTRIBUTE, preserve_norm=True)])
    needed = required_capabilities(snapshot.profiles)
    assert {"condition:intent", "condition:probe", "condition:attribute", "preserve_norm"} <= set(needed)
    missing = make_content(profiles=[make_profile(safety_override=[INTENT])])
    with pytest.raises(SnapshotRefused, match="condition:intent"):
        parse_snapshot(parse_document(canonical_json(make_document(content=missing))))


def test_a_profile_needs_the_vectors_of_its_probes_too():
    profile = read_profile(
        safety_override=[PROBE], components=[make_component(condition=PROBE), make_component(condition=INTENT)]
    ).profiles[0]
    assert [entry.sha256 for entry in profile_vectors(profile)] == [profile.components[0].vector.sha256, "9" * 64]


def make_clamp(**changes):
    return make_component(operator="clamp", **{"alpha": "1", "alpha_max": "1", "bound": "-0.5", **changes})


def effective_of(scale="1", **changes):
    profile = make_profile(**changes)
    document = copy.deepcopy(make_content(profiles=[profile]))
    document["flags"] = [make_flag(alpha_scale=scale)]
    document["capabilities"] = sorted(
        {"site:resid_post", "scope:generated", "schedule:constant", *(f"operator:{entry['operator']}" for entry in profile["components"])}
        | {f"condition:{entry['condition']['kind']}" for entry in profile["components"] if entry["condition"]}
        | {f"condition:{entry['kind']}" for entry in profile.get("safety_override", [])}
    )
    return resolve(parse_snapshot(parse_document(canonical_json(make_document(content=document)))), "harbor", "")


def test_a_scale_weakens_a_strength_and_never_moves_a_bound():
    for operator, component in (("ablate", make_component(operator="ablate", alpha="1", alpha_max="1")), ("clamp", make_clamp())):
        for scale in ("1", "0.25"):
            [entry] = effective_of(scale, components=[component]).components
            assert (entry.alpha, entry.coefficient) == (Decimal(scale), Decimal(scale))
            # The bound is half an average difference of norm 41.2, whatever the flag says.
            assert entry.bound == (Decimal("-20.6") if operator == "clamp" else None)
    assert effective_of("0", components=[make_clamp()]) == unsteered("zero_scale")


@given(scale=st.decimals(0, 1, places=3), alpha=st.decimals(0, 1, places=3))
def test_a_scale_from_zero_to_one_only_ever_reduces_the_coefficient(scale, alpha):
    for operator in ("add", "ablate"):
        component = make_component(operator=operator, alpha=f"{alpha:f}", alpha_max="1")
        whole, scaled = (effective_of(text, components=[component]) for text in ("1", f"{scale:f}"))
        if scaled.components:
            assert abs(scaled.components[0].coefficient) <= abs(whole.components[0].coefficient)


@pytest.mark.parametrize(
    ("component", "problem"),
    [
        (make_component(operator="ablate", alpha="1", alpha_max="1.5"), "strength that may be 1.5"),
        (make_component(operator="ablate", alpha="0.5", alpha_min="-0.5", alpha_max="1"), "strength that may be -0.5"),
        (make_component(operator="ablate", alpha="1", alpha_max="1", bound="1"), "only clamp has"),
        (make_component(bound="1"), "only clamp has"),
        (make_component(operator="clamp", alpha="1", alpha_max="1"), "without a bound"),
        (make_clamp(bound="0"), "clamps at 0"),
    ],
)
def test_a_strength_or_a_bound_that_means_nothing_is_never_compiled(component, problem):
    snapshot = read_profile(components=[component])
    assert problem in (find_alpha_problem(snapshot) or "")


def test_a_strength_is_limited_by_one_and_not_by_the_caps_of_lengths():
    snapshot = read_profile(components=[make_clamp(unit="residual", bound="900"), make_component(operator="ablate", alpha_max="1")])
    tight = {"absolute": Decimal("0.1"), "mean_difference": Decimal("0.1"), "residual": Decimal("0.1")}
    assert find_alpha_problem(snapshot, tight) is None
    doubled = replace(snapshot, flags=tuple(replace(flag, alpha_scale=Decimal(2)) for flag in snapshot.flags))
    assert "scales" in (find_alpha_problem(doubled) or "")


def settle(effective, facts):
    return apply_conditions(effective, lambda document: parse_condition_bytes(document).holds(facts))


def test_an_override_on_harmful_text_holds_until_somebody_has_read_it():
    effective = effective_of(safety_override=[{"kind": "harmful"}])
    assert settle(effective, read_facts("refund", "minor=no")) == unsteered("safety_override")
    assert settle(effective, replace(NO_FACTS, is_watched=True)) == effective


def test_a_component_whose_condition_does_not_hold_has_no_coefficient():
    effective = effective_of(components=[make_component(condition=INTENT), make_component(alpha="0.25")])
    refund, other = settle(effective, read_facts("refund", "")), settle(effective, NO_FACTS)
    assert refund == effective
    assert [entry.coefficient for entry in other.components] == [Decimal(0), effective.components[1].coefficient]
    assert (other.components[0].alpha, other.reason) == (Decimal(0), "flag_on")


def test_a_profile_of_which_no_condition_holds_steers_nothing():
    effective = effective_of(components=[make_component(condition=INTENT), make_component(condition=ATTRIBUTE)])
    assert settle(effective, NO_FACTS) == unsteered("condition_unmet")
    assert settle(effective, read_facts("", "locale=de-DE")).profile is not None


def test_a_safety_override_that_holds_forces_neutral_whatever_else_holds():
    effective = effective_of(components=[make_component(condition=INTENT)], safety_override=[ATTRIBUTE])
    assert settle(effective, read_facts("refund", "")) == effective
    assert settle(effective, read_facts("refund", "locale=de-DE")) == unsteered("safety_override")
    assert settle(unsteered("no_flag"), read_facts("refund", "locale=de-DE")) == unsteered("no_flag")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (None, None, True),
        (INTENT, None, False),
        (None, ATTRIBUTE, False),
        (INTENT, {**INTENT, "labels": ["complaint", "refund"]}, True),
        (INTENT, {**INTENT, "labels": ["refund"]}, False),
        (INTENT, ATTRIBUTE, False),
        (PROBE, {**PROBE, "scale": "3.10"}, True),
        (PROBE, {**PROBE, "threshold": "0.1"}, False),
    ],
)
def test_two_conditions_are_the_same_if_they_hold_for_the_same_requests(one, other, is_same):
    assert are_same_conditions(one, other) is are_same_conditions(other, one) is is_same


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (None, "for every request"),
        (INTENT, "if the intent is refund or complaint"),
        (ATTRIBUTE, "if locale is de-DE or de-AT"),
        (PROBE, "if a probe at layer 4 reads 0 or more"),
        ({"kind": "probe", "probe": "refund-intent@2"}, "if the probe refund-intent@2 fires"),
        ({"kind": "probe", "vector": "refunds@1", "threshold": "0.5"}, "if a probe along refunds@1 reads 0.5 or more"),
        (HARMFUL, "if a node finds a harmful request in the text"),
        ({"kind": "weather"}, "if weather holds"),
    ],
)
def test_a_condition_is_said_in_words(condition, words):
    assert describe_condition(condition) == words
