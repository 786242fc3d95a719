"""What a node accepts, and what it refuses while it keeps what it has."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from steernode.canonical import sha256_hex
from steernode.errors import EngineError, ModelError
from steernode.files.conversations import Message
from steernode.node.follower import PollOutcome
from steernode.node.report import describe_report, describe_steering
from steernode.node.responder import Responder
from steernode.strict import format_time
from tests.support.files import behaviour_document
from tests.support.hub_simulator import (
    CAPABILITIES,
    FINGERPRINT,
    NOW,
    VECTOR,
    FakeEngine,
    Signer,
    make_component,
    make_content,
    make_flag,
    make_profile,
    make_vector,
    read_payload,
)
from tests.support.node_rig import bad_signature, effective, is_steered, refused, state_of


def test_a_published_snapshot_is_in_force_after_one_poll_and_kept_as_signed(hub, make_node, tmp_path):
    hub.publish(4)
    node = make_node()
    assert effective(node).reason == "no_snapshot"
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert not is_steered(node, "atlas")
    assert (tmp_path / "store/snapshot.dsse").read_bytes() == hub.envelope
    assert (tmp_path / "store/blobs" / sha256_hex(VECTOR)).read_bytes() == VECTOR
    assert state_of(tmp_path)["highest"] == {"revision": 4, "content_digest": read_payload(hub.envelope)["content_digest"]}
    assert state_of(tmp_path)["etag"] == hub.etag


def test_an_unchanged_snapshot_is_not_sent_again(hub, make_node):
    hub.publish()
    node = make_node()
    assert [node.poll(), node.poll()] == [PollOutcome.APPLIED, PollOutcome.UNCHANGED]
    assert [request["etag"] for request in hub.requests] == [None, hub.etag]


def test_a_reply_is_steered_as_the_snapshot_says_and_counted(hub, make_node):
    hub.publish()
    node = make_node()
    node.poll()
    responder = Responder(node, node.engine)
    steered, generation = responder.generate([Message("user", "hello")], tenant="harbor", route="", max_tokens=5)
    assert (steered.profile.id, generation.text) == ("harbor-empathy", "warmth 20.60 for hello")
    plain, generation = responder.generate([Message("user", "hello")], tenant="stranger", route="", max_tokens=5)
    assert (plain.profile, generation.text) == (None, "warmth 0.00 for hello")
    counted = {"requests_steered": 1, "requests_unsteered": 1, "tokens_generated": 6, "snapshots_applied": 1}
    assert describe_report(node, 1, responder)["counters"] == counted


def older(hub):
    hub.publish(1, content=make_content(flags=[]))


def other_content(hub):
    hub.publish(5, content=make_content(flags=[]))


def expired(hub):
    hub.publish(6, expires_at=format_time(NOW - timedelta(seconds=1)))


def other_environment(hub):
    hub.publish(6, environment="staging")


def other_model(hub):
    hub.publish(6, content=make_content(base_models=[{"name": "other", "fingerprint": "11" * 32}], profiles=[], flags=[]))


def not_an_envelope(hub):
    hub.publish_bytes(b"<html>proxy error</html>")


def too_large(hub):
    hub.publish_bytes(b"x" * 6_000_000)


def unknown_field(hub):
    hub.publish(6, surprise=1)


def past_the_cap(hub):
    hub.publish(6, content=make_content(flags=[make_flag(alpha_scale="9")]))


def with_vector(vector):
    return make_content(profiles=[make_profile(components=[make_component(vector)])])


REFUSALS = {
    bad_signature: "SIGNATURE",
    older: "ROLLBACK",
    other_content: "EQUIVOCATION",
    expired: "EXPIRED",
    other_environment: "ENVIRONMENT",
    not_an_envelope: "ENVELOPE",
    too_large: "LIMIT",
    unknown_field: "SCHEMA",
    past_the_cap: "ALPHA_CAP",
}


@pytest.mark.parametrize("publish_bad", REFUSALS, ids=lambda publish_bad: publish_bad.__name__)
def test_a_bad_snapshot_is_refused_and_the_one_in_force_stays(hub, make_node, tmp_path, publish_bad):
    hub.publish(5)
    node = make_node()
    node.poll()
    stored, state, good_etag = (tmp_path / "store/snapshot.dsse").read_bytes(), state_of(tmp_path), hub.etag
    publish_bad(hub)
    assert refused(node) == REFUSALS[publish_bad]
    assert is_steered(node)
    assert node.in_force.snapshot.revision == 5
    assert (tmp_path / "store/snapshot.dsse").read_bytes() == stored
    assert state_of(tmp_path) == state
    # The ETag of what was refused is never sent, so that it is fetched and judged again.
    assert refused(node) == REFUSALS[publish_bad]
    assert [request["etag"] for request in hub.requests] == [None, good_etag, good_etag]
    report = describe_report(node, 2)
    assert (report["result"], report["code"], report["applied"]["revision"]) == ("NACK", REFUSALS[publish_bad], 5)
    hub.publish(9)
    assert node.poll() is PollOutcome.APPLIED
    assert describe_report(node, 3)["result"] == "ACK"


def test_a_refusal_before_anything_was_accepted_leaves_no_steering(hub, make_node, tmp_path):
    bad_signature(hub)
    node = make_node()
    assert refused(node) == "SIGNATURE"
    assert effective(node).reason == "no_snapshot"
    assert not (tmp_path / "store/state.json").exists()


def test_a_node_of_another_model_refuses_every_snapshot(hub, make_node):
    engine = FakeEngine()
    engine.fingerprint = "22" * 32
    hub.publish()
    assert refused(make_node(engine=engine)) == "BASE_MODEL_MISMATCH"


def test_a_node_with_another_architecture_file_than_the_hubs_steers_nobody(hub, make_node):
    engine = FakeEngine()
    engine.architecture_digest = "aa" * 32
    hub.publish(5)
    node = make_node(engine=engine)
    node.poll()
    assert is_steered(node)
    [entry] = make_content()["base_models"]
    hub.publish(6, content=make_content(base_models=[entry | {"architecture_digest": "bb" * 32}]))
    assert refused(node) == "ARCHITECTURE_MISMATCH"
    assert not is_steered(node)
    hub.publish(7, content=make_content(base_models=[entry | {"architecture_digest": "aa" * 32}]))
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)


def test_a_node_whose_model_behaves_otherwise_than_when_it_was_registered_steers_nobody(hub, make_node, tmp_path):
    engine, asked = FakeEngine(), []

    def prove(behaviour):
        asked.append(behaviour.digest)
        if behaviour.moved["float32"] < 1:
            raise ModelError("MODEL_BEHAVES_OTHERWISE", "a log-probability is 2 nats off", "What is 17 times 6?")
        return "proved: nothing is off"

    engine.prove_behaviour = prove
    hub.publish(5)
    node = make_node(engine=engine, store=tmp_path / "node")
    node.poll()
    assert is_steered(node)
    assert node.proof.said.startswith("not proved")
    [entry] = make_content()["base_models"]
    hub.publish(6, content=make_content(base_models=[entry | {"behaviour": behaviour_document()}]))
    assert refused(node) == "MODEL_BEHAVES_OTHERWISE"
    assert not is_steered(node)
    hub.publish(7, content=make_content(base_models=[entry | {"behaviour": behaviour_document(moved={"float32": "1"})}]))
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert node.proof.said == "proved: nothing is off"
    hub.publish(8, content=make_content(base_models=[entry | {"behaviour": behaviour_document(moved={"float32": "1"})}]))
    node.poll()
    # What is proved is not asked again, unless another process begins.
    assert len(asked) == 2
    engine.prove_behaviour = lambda behaviour: prove(replace(behaviour, moved={"float32": Decimal(0)}))
    again = make_node(engine=engine, store=tmp_path / "node")
    again.start()
    assert not is_steered(again)


def test_an_engine_that_reads_no_log_probabilities_serves_and_says_that_nothing_is_proved(hub, make_node):
    [entry] = make_content()["base_models"]
    hub.publish(5, content=make_content(base_models=[entry | {"behaviour": behaviour_document()}]))
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert node.proof.said == "not proved: echo has no way to read log-probabilities"


def test_a_node_whose_environment_moved_to_other_files_stops_steering_until_its_own_are_listed_again(hub, make_node):
    """It would refuse every later snapshot too, and never hear of a kill."""
    hub.publish(5)
    node = make_node()
    node.poll()
    other_model(hub)
    assert refused(node) == "BASE_MODEL_MISMATCH"
    assert effective(node).reason == "wrong_base_model"
    report = describe_report(node, 2)
    assert (report["result"], report["code"], report["applied"]["revision"]) == ("NACK", "BASE_MODEL_MISMATCH", 5)
    not_an_envelope(hub)
    assert refused(node) == "ENVELOPE"
    assert effective(node).reason == "wrong_base_model"
    hub.publish(9)
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)


def test_a_profile_for_another_listed_model_needs_no_vector_and_steers_nobody_here(hub, make_node):
    other = make_profile(id="other", base_model="11" * 32, components=[make_component(make_vector(7, "11" * 32))])
    models = [*make_content()["base_models"], {"name": "other", "fingerprint": "11" * 32}]
    flags = [make_flag(), make_flag(tenant="atlas", profile="other")]
    hub.publish(content=make_content(base_models=models, profiles=[make_profile(), other], flags=flags))
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert effective(node, "atlas").reason == "wrong_base_model"


def test_a_node_with_a_covered_form_is_steered_and_says_what_was_measured_and_one_with_any_other_is_not(hub, make_node):
    """The vector was read from the files that were measured, which this node does not have."""
    measured = "11" * 32
    vector = make_vector(7, measured)
    hub.blobs[sha256_hex(vector)] = vector
    models = [*make_content()["base_models"], {"name": "measured", "fingerprint": measured}]

    def publish(revision, covers):
        profile = make_profile(base_model=measured, components=[make_component(vector)], **covers)
        able = sorted([*CAPABILITIES, *(["covered_forms"] if covers else [])])
        hub.publish(revision, content=make_content(base_models=models, profiles=[profile], capabilities=able))

    engine = FakeEngine()
    engine.capabilities = CAPABILITIES | {"covered_forms"}
    node = make_node(engine=engine)
    publish(1, {"covers": ["22" * 32]})
    assert node.poll() is PollOutcome.APPLIED
    assert effective(node).reason == "wrong_base_model"
    publish(2, {"covers": [FINGERPRINT, "22" * 32]})
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert describe_steering(effective(node))["measured_on"] == measured
    publish(3, {})
    assert node.poll() is PollOutcome.APPLIED
    assert effective(node).reason == "wrong_base_model"


def test_an_engine_that_knows_nothing_of_covered_forms_does_not_serve_such_a_profile(hub, make_node):
    profiles = [make_profile(covers=["22" * 32]), make_profile(id="other")]
    flags = [make_flag(), make_flag(tenant="atlas", profile="other")]
    hub.publish(content=make_content(profiles=profiles, flags=flags, capabilities=sorted([*CAPABILITIES, "covered_forms"])))
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert (effective(node).reason, is_steered(node, "atlas")) == ("unservable", True)


def test_an_engine_that_cannot_prepare_a_snapshot_refuses_it(hub, make_node):
    hub.publish()
    node = make_node()
    node.engine.stage_error = EngineError("NON_FINITE", "layer 6 overflows")
    assert refused(node) == "NON_FINITE"
    node.engine.stage_error = RuntimeError("out of memory")
    assert refused(node) == "INTERNAL"
    node.engine.stage_error = None
    assert node.poll() is PollOutcome.APPLIED


def test_an_unwritable_store_is_reported_and_the_one_in_force_stays(hub, make_node, tmp_path):
    (tmp_path / "file").write_text("in the way")
    hub.publish()
    node = make_node(store=tmp_path / "file" / "store")
    assert refused(node) == "CACHE_UNWRITABLE"
    assert effective(node).reason == "no_snapshot"


def test_a_store_that_becomes_unwritable_keeps_the_snapshot_but_not_what_a_later_one_lowers(hub, make_node, tmp_path):
    hub.publish(1)
    node = make_node()
    node.poll()
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").write_text("in the way")
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    assert refused(node) == "CACHE_UNWRITABLE"
    assert str(effective(node).components[0].alpha) == "0.25"
    hub.publish(3, content=make_content(kills=[{"kind": "tenant", "target": "harbor"}]))
    node.poll()
    assert node.in_force.snapshot.revision == 1
    assert effective(node).reason == "killed_tenant"


def test_a_kill_counts_even_when_a_vector_beside_it_is_missing(hub, make_node):
    hub.publish(1)
    node = make_node()
    node.poll()
    hub.publish(2, content=with_vector(make_vector(2)) | {"kills": [{"kind": "everything", "target": ""}]})
    assert node.poll() is PollOutcome.APPLIED
    assert effective(node).reason == "killed_everything"
    hub.publish(3)
    node.poll()
    assert is_steered(node)


STOPPED = {"kills": [{"kind": "tenant", "target": "harbor"}]}
UNFOLLOWED = {
    "SCHEMA": {"content": make_content(**STOPPED), "surprise": 1},
    "CAPABILITY": {"content": make_content(**STOPPED, capabilities=[*make_content()["capabilities"], "telepathy"])},
    "ALPHA_CAP": {"content": make_content(**STOPPED, flags=[make_flag(alpha_scale="9")])},
    "EXPIRED": {"content": make_content(**STOPPED), "expires_at": format_time(NOW - timedelta(seconds=1))},
}


@pytest.mark.parametrize("code", UNFOLLOWED)
def test_a_kill_counts_even_in_a_snapshot_that_this_node_cannot_follow(hub, make_node, code):
    hub.publish(1)
    node = make_node()
    node.poll()
    hub.publish(2, **UNFOLLOWED[code])
    assert refused(node) == code
    assert (node.in_force.snapshot.revision, effective(node).reason) == (1, "killed_tenant")
    bad_signature(hub)
    assert refused(node) == "SIGNATURE"
    assert effective(node).reason == "killed_tenant"
    lifted = {**UNFOLLOWED[code], "content": {**UNFOLLOWED[code]["content"], "kills": []}}
    hub.publish(3, **lifted)
    assert refused(node) == code
    assert is_steered(node)


NOT_THE_HUBS_NEWEST_WORD = {
    "SIGNATURE": {"revision": 6, "signer": Signer()},
    "ENVIRONMENT": {"revision": 6, "environment": "staging"},
    "ROLLBACK": {"revision": 4},
}


@pytest.mark.parametrize("code", NOT_THE_HUBS_NEWEST_WORD)
def test_no_kill_is_taken_from_what_is_not_the_hubs_newest_word(hub, make_node, code):
    hub.publish(5)
    node = make_node()
    node.poll()
    hub.publish(**NOT_THE_HUBS_NEWEST_WORD[code], content=make_content(**STOPPED))
    assert refused(node) == code
    assert is_steered(node)


def test_a_rollback_is_a_higher_revision_that_says_what_an_older_one_said(hub, make_node):
    node = make_node()
    for revision, content in ((1, make_content()), (2, make_content(flags=[])), (3, make_content())):
        hub.publish(revision, content=content, rollback_of=2 if revision == 3 else None)
        assert node.poll() is PollOutcome.APPLIED
        assert is_steered(node) == (revision != 2)
