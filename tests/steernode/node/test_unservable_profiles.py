"""A profile that a node cannot serve concerns who would get it, and nobody else."""

from decimal import Decimal

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import EngineError
from steernode.node.deciding import decide
from steernode.node.follower import PollOutcome
from steernode.node.report import describe_report, describe_status
from tests.support.hub_simulator import CAPABILITIES, FakeEngine, make_component, make_content, make_flag, make_profile, make_vector
from tests.support.node_rig import effective, is_steered, refused

OTHER = make_vector(2)
FOREIGN = make_vector(3, fingerprint="11" * 32)
NO_VECTOR = b"PK\x03\x04 not a vector"


def odd(*components, **changes):
    """Atlas's profile, beside harbor's, which can be served."""
    profile = make_profile(id="odd", revision=1, components=list(components), **changes)
    return make_content(profiles=[make_profile(), profile], flags=[make_flag(), make_flag(tenant="atlas", profile="odd")])


def needs_a_capability(hub):
    content = odd(make_component(operator="ablate"))
    return content | {"capabilities": sorted(CAPABILITIES | {"operator:ablate"})}


def needs_an_unknown_condition(hub):
    content = odd(make_component(condition={"kind": "weather", "is": "fair"}))
    return content | {"capabilities": sorted(CAPABILITIES | {"condition:weather"})}


def is_past_the_nodes_own_cap(hub):
    return odd(make_component(alpha_max="1.5"))


def has_no_blob(hub):
    return odd(make_component(OTHER))


def has_half_a_blob(hub):
    hub.blobs[sha256_hex(OTHER)] = OTHER[: len(OTHER) // 2]
    return odd(make_component(OTHER))


def has_a_blob_that_is_no_vector(hub):
    hub.blobs[sha256_hex(NO_VECTOR)] = NO_VECTOR
    return odd(make_component(NO_VECTOR))


def has_a_blob_of_another_model(hub):
    hub.blobs[sha256_hex(FOREIGN)] = FOREIGN
    return odd(make_component(FOREIGN))


def is_refused_by_the_engine(hub):
    return odd(make_component(layer=40))


def breaks_the_engine(hub):
    return odd(make_component(layer=41))


class Particular(FakeEngine):
    """Has 40 layers; the next one is a bug of its own."""

    def stage(self, profiles, vectors):
        for component in (component for profile in profiles for component in profile.components):
            if component.layer == 40:
                raise EngineError("LAYER_RANGE", "layer 40 of 40")
            if component.layer > 40:
                raise RuntimeError("index out of range")
        return super().stage(profiles, vectors)


KINDS = {
    needs_a_capability: "CAPABILITY",
    needs_an_unknown_condition: "CAPABILITY",
    is_past_the_nodes_own_cap: "ALPHA_CAP",
    has_no_blob: "BLOB_MISSING",
    has_half_a_blob: "BLOB_DIGEST",
    has_a_blob_that_is_no_vector: "BLOB_INVALID",
    has_a_blob_of_another_model: "BLOB_INVALID",
    is_refused_by_the_engine: "LAYER_RANGE",
    breaks_the_engine: "INTERNAL",
}
OWN_CAP = {"absolute": Decimal(1000), "mean_difference": Decimal(1), "residual": Decimal(1)}


@pytest.fixture
def node(hub, make_node):
    return make_node(engine=Particular(), alpha_cap=OWN_CAP)


@pytest.mark.parametrize("make_odd", KINDS, ids=lambda make_odd: make_odd.__name__)
def test_the_snapshot_is_applied_and_only_who_would_get_the_profile_is_not_steered(hub, node, make_odd):
    hub.publish(1, content=make_odd(hub))
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert effective(node, "atlas").reason == "unservable"
    [told] = node.unservable
    assert (told["profile"], told["revision"], told["code"]) == ("odd", 1, KINDS[make_odd])
    assert told["message"]
    assert describe_status(node)["unservable"] == node.unservable
    report = describe_report(node, 1)
    assert (report["result"], [slot["reason"] for slot in report["slots"]]) == ("ACK", ["flag_on", "unservable"])


@pytest.mark.parametrize("make_odd", KINDS, ids=lambda make_odd: make_odd.__name__)
def test_what_lowers_for_others_counts_beside_it(hub, node, make_odd):
    hub.publish(1)
    node.poll()
    content = make_odd(hub)
    hub.publish(2, content=content | {"flags": [make_flag(enabled=False), content["flags"][1]]})
    assert node.poll() is PollOutcome.APPLIED
    assert effective(node).reason == "flag_off"


def test_a_node_that_serves_everything_says_so(hub, make_node):
    node = make_node()
    assert node.unservable == []
    hub.publish(1)
    node.poll()
    assert node.unservable == []


def test_an_arm_that_cannot_be_served_leaves_the_other_arm_steered(hub, node):
    arms = [
        {"name": "now", "weight": 1, "profile": "harbor-empathy", "alpha_scale": "1"},
        {"name": "next", "weight": 1, "profile": "odd", "alpha_scale": "1"},
    ]
    hub.publish(1, content=has_no_blob(hub) | {"flags": [make_flag(arms=arms)]})
    node.poll()
    said = {(got := decide(node.in_force, "harbor", "", now=node.now(), key=f"user-{n}")).arm: got.reason for n in range(20)}
    assert said == {"now": "flag_on", "next": "unservable"}


@pytest.mark.parametrize("break_it", [has_no_blob, has_half_a_blob])
def test_a_blob_that_failed_is_tried_again_and_needs_no_new_revision(hub, node, break_it):
    hub.publish(1, content=break_it(hub))
    node.poll()
    assert node.poll() is PollOutcome.UNCHANGED
    assert effective(node, "atlas").reason == "unservable"
    hub.blobs[sha256_hex(OTHER)] = OTHER
    assert node.poll() is PollOutcome.UNCHANGED
    assert is_steered(node, "atlas")
    assert node.unservable == []
    assert sha256_hex(OTHER) in node.engine.staged_in_use
    assert node.in_force.staged is node.engine.staged_in_use


def test_what_can_never_be_served_is_not_prepared_again(hub, node, monkeypatch):
    hub.publish(1, content=has_a_blob_that_is_no_vector(hub))
    node.poll()
    monkeypatch.setattr(node.engine, "stage", lambda *_: pytest.fail("staged again"))
    assert node.poll() is PollOutcome.UNCHANGED


def test_a_hub_that_does_not_answer_is_not_asked_for_every_vector(hub, make_node, tmp_path):
    vectors = [make_vector(seed) for seed in range(4, 8)]
    profiles = [make_profile(id=f"p{n}", components=[make_component(vector)]) for n, vector in enumerate(vectors)]
    hub.blobs |= {sha256_hex(vector): vector for vector in vectors}
    hub.publish(1, content=make_content(profiles=profiles, flags=[]))
    make_node().poll()
    for vector in vectors[1:]:
        (tmp_path / "store/blobs" / sha256_hex(vector)).unlink()
    node = make_node(hub_url="http://127.0.0.1:9")
    asked = []
    node.client.blob = lambda digest, ask=node.client.blob: asked.append(digest) or ask(digest)
    node.start()
    assert {each["code"] for each in node.unservable} == {"BLOB_MISSING"}
    assert len(node.unservable) == 3
    assert len(asked) == 1


def test_an_engine_that_fails_on_everything_refuses_the_snapshot(hub, node):
    hub.publish(1)
    node.engine.stage_error = EngineError("OUT_OF_MEMORY", "no room")
    assert refused(node) == "OUT_OF_MEMORY"


def test_an_engine_that_fails_on_all_of_them_together_refuses_the_snapshot(hub, make_node):
    class Small(FakeEngine):
        def stage(self, profiles, vectors):
            if len(profiles) > 1:
                raise EngineError("OUT_OF_MEMORY", "room for one")
            return super().stage(profiles, vectors)

    hub.blobs[sha256_hex(OTHER)] = OTHER
    hub.publish(1, content=odd(make_component(OTHER)))
    assert refused(make_node(engine=Small())) == "OUT_OF_MEMORY"
