"""A node against a real hub on a real socket: what it accepts, what it refuses, what survives a restart."""

import json
import threading
import time
from datetime import timedelta

import pytest
from hub_simulator import (
    NODE_TOKEN,
    NOW,
    VECTOR,
    FakeEngine,
    HubSimulator,
    Signer,
    make_component,
    make_content,
    make_document,
    make_flag,
    make_profile,
    make_vector,
    read_payload,
    served,
    trust,
    wait_until,
)

from steerkit.batchgate import BatchGate
from steerkit.canonical import sha256_hex
from steerkit.client import FleetClient
from steerkit.clock import SteadyClock
from steerkit.conversation import Message
from steerkit.errors import EngineError, HubError, NodeError
from steerkit.node import Node, PollOutcome
from steerkit.nodereport import describe_report, describe_status, readiness_problem
from steerkit.noderunner import NodeRunner
from steerkit.snapshot import format_time


class Clock:
    def __init__(self):
        self.moment = NOW

    def __call__(self):
        return self.moment

    def advance(self, **duration):
        self.moment += timedelta(**duration)


class CurrentHub:
    """One socket for the whole module; behind it the hub of the test that runs."""

    app = None

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def current_hub():
    return CurrentHub()


@pytest.fixture(scope="module")
def hub_url(current_hub):
    current_hub.app = HubSimulator().app
    with served(current_hub) as url:
        yield url


@pytest.fixture
def hub(current_hub):
    simulator = HubSimulator()
    current_hub.app = simulator.app
    return simulator


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make_node(hub_url, hub, clock, tmp_path):
    clients = []

    def make(**changes):
        clients.append(FleetClient(changes.pop("hub_url", hub_url), "production", "node-1", NODE_TOKEN))
        settings = {
            "environment": "production",
            "name": "node-1",
            "store": tmp_path / "store",
            "client": clients[-1],
            "keys": trust(hub.signer),
            "engine": FakeEngine(),
            "clock": clock,
        }
        node = Node(**(settings | changes))
        node.start()
        return node

    yield make
    for client in clients:
        client.close()


def is_steered(node, tenant="harbor", route=""):
    return node.effective(tenant, route).profile is not None


def refused(node):
    assert node.poll() is PollOutcome.REFUSED
    return node.refusal.code


def state_of(tmp_path):
    return json.loads((tmp_path / "store/state.json").read_bytes())


def test_a_published_snapshot_is_in_force_after_one_poll_and_kept_as_signed(hub, make_node, tmp_path):
    hub.publish(4)
    node = make_node()
    assert node.effective("harbor", "").reason == "no_snapshot"
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
    effective, generation = node.generate([Message("user", "hello")], tenant="harbor", route="", max_tokens=5)
    assert (effective.profile.id, generation.text) == ("harbor-empathy", "warmth 20.60 for hello")
    effective, generation = node.generate([Message("user", "hello")], tenant="stranger", route="", max_tokens=5)
    assert (effective.profile, generation.text) == (None, "warmth 0.00 for hello")
    assert (node.counters["requests_steered"], node.counters["requests_unsteered"], node.counters["tokens_generated"]) == (1, 1, 6)


def bad_signature(hub):
    hub.publish(2, signer=Signer())


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


def missing_blob(hub):
    hub.publish(6, content=with_vector(make_vector(2)))


def truncated_blob(hub):
    vector = make_vector(2)
    hub.blobs[sha256_hex(vector)] = vector[: len(vector) // 2]
    hub.publish(6, content=with_vector(vector))


def blob_that_is_no_vector(hub):
    hub.blobs[sha256_hex(b"PK\x03\x04 not a vector")] = b"PK\x03\x04 not a vector"
    hub.publish(6, content=with_vector(b"PK\x03\x04 not a vector"))


def blob_of_another_model(hub):
    vector = make_vector(2, fingerprint="11" * 32)
    hub.blobs[sha256_hex(vector)] = vector
    hub.publish(6, content=with_vector(vector))


def with_vector(vector):
    return make_content(profiles=[make_profile(components=[make_component(vector)])])


REFUSALS = {
    bad_signature: "SIGNATURE",
    older: "ROLLBACK",
    other_content: "EQUIVOCATION",
    expired: "EXPIRED",
    other_environment: "ENVIRONMENT",
    other_model: "BASE_MODEL_MISMATCH",
    not_an_envelope: "ENVELOPE",
    too_large: "LIMIT",
    unknown_field: "SCHEMA",
    past_the_cap: "ALPHA_CAP",
    missing_blob: "BLOB_MISSING",
    truncated_blob: "BLOB_DIGEST",
    blob_that_is_no_vector: "BLOB_INVALID",
    blob_of_another_model: "BLOB_INVALID",
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
    assert node.effective("harbor", "").reason == "no_snapshot"
    assert not (tmp_path / "store/state.json").exists()


def test_a_node_of_another_model_refuses_every_snapshot(hub, make_node):
    engine = FakeEngine()
    engine.fingerprint = "22" * 32
    hub.publish()
    assert refused(make_node(engine=engine)) == "BASE_MODEL_MISMATCH"


def test_a_profile_for_another_listed_model_needs_no_vector_and_steers_nobody_here(hub, make_node):
    other = make_profile(id="other", base_model="11" * 32, components=[make_component(make_vector(7, "11" * 32))])
    models = [*make_content()["base_models"], {"name": "other", "fingerprint": "11" * 32}]
    flags = [make_flag(), make_flag(tenant="atlas", profile="other")]
    hub.publish(content=make_content(base_models=models, profiles=[make_profile(), other], flags=flags))
    node = make_node()
    assert node.poll() is PollOutcome.APPLIED
    assert is_steered(node)
    assert node.effective("atlas", "").reason == "wrong_base_model"


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
    assert node.effective("harbor", "").reason == "no_snapshot"


def test_a_store_that_becomes_unwritable_keeps_the_snapshot_but_not_what_a_kill_forbids(hub, make_node, tmp_path):
    hub.publish(1)
    node = make_node()
    node.poll()
    (tmp_path / "store").rename(tmp_path / "moved")
    (tmp_path / "store").write_text("in the way")
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    assert refused(node) == "CACHE_UNWRITABLE"
    assert str(node.effective("harbor", "").components[0].alpha) == "0.5"
    hub.publish(3, content=make_content(kills=[{"kind": "tenant", "target": "harbor"}]))
    node.poll()
    assert node.in_force.snapshot.revision == 1
    assert node.effective("harbor", "").reason == "killed_tenant"


def test_a_kill_counts_even_when_a_vector_beside_it_is_missing(hub, make_node):
    hub.publish(1)
    node = make_node()
    node.poll()
    hub.publish(2, content=with_vector(make_vector(2)) | {"kills": [{"kind": "everything", "target": ""}]})
    assert refused(node) == "BLOB_MISSING"
    assert node.effective("harbor", "").reason == "killed_everything"
    hub.publish(3)
    node.poll()
    assert is_steered(node)


def test_a_rollback_is_a_higher_revision_that_says_what_an_older_one_said(hub, make_node):
    node = make_node()
    for revision, content in ((1, make_content()), (2, make_content(flags=[])), (3, make_content())):
        hub.publish(revision, content=content, rollback_of=2 if revision == 3 else None)
        assert node.poll() is PollOutcome.APPLIED
        assert is_steered(node) == (revision != 2)


def test_a_node_starts_from_disk_while_the_hub_is_down(hub, make_node):
    hub.publish(3)
    make_node().poll()
    node = make_node(hub_url="http://127.0.0.1:9")
    assert is_steered(node)
    assert node.in_force.snapshot.revision == 3
    with pytest.raises(HubError) as caught:
        node.poll()
    assert caught.value.code == "HUB_UNREACHABLE"
    assert is_steered(node)


def test_a_restarted_node_asks_with_its_etag_and_still_refuses_what_is_older(hub, make_node):
    hub.publish(3)
    make_node().poll()
    node = make_node()
    assert node.poll() is PollOutcome.UNCHANGED
    assert hub.requests[-1]["etag"] == hub.etag
    hub.publish(2)
    assert refused(node) == "ROLLBACK"


def test_a_flipped_bit_in_a_stored_vector_is_fetched_again_or_not_used(hub, make_node, tmp_path):
    hub.publish()
    make_node().poll()
    path = tmp_path / "store/blobs" / sha256_hex(VECTOR)
    data = bytearray(VECTOR)
    data[-1] ^= 1
    path.write_bytes(data)
    hubless = make_node(hub_url="http://127.0.0.1:9")
    assert not is_steered(hubless)
    assert hubless.refusal.code == "BLOB_MISSING"
    assert is_steered(make_node())
    assert path.read_bytes() == VECTOR


@pytest.mark.parametrize("damage", [b"", b"nonsense", None, "other key", "cut"])
def test_a_damaged_stored_snapshot_means_no_steering_but_the_highest_revision_is_kept(hub, make_node, tmp_path, damage):
    hub.publish(7)
    make_node().poll()
    path = tmp_path / "store/snapshot.dsse"
    if damage is None:
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.write_bytes(Signer().sign(make_document(8)) if damage == "other key" else damage)
    node = make_node()
    assert node.effective("harbor", "").reason == "no_snapshot"
    assert describe_report(node, 1)["result"] == "NACK"
    hub.publish(6)
    assert refused(node) == "ROLLBACK"
    assert hub.requests[-1]["etag"] is None
    hub.publish(7)
    assert node.poll() is PollOutcome.APPLIED


@pytest.mark.parametrize("damage", [b"", b"{}", b"nonsense", b'{"schema":"steerhub.node-state/9"}'])
def test_a_damaged_state_means_no_steering_but_the_signed_bytes_still_say_how_far_it_was(hub, make_node, tmp_path, damage, caplog):
    hub.publish(7)
    make_node().poll()
    (tmp_path / "store/state.json").write_bytes(damage)
    node = make_node()
    assert node.effective("harbor", "").reason == "no_snapshot"
    assert "starting without steering" in caplog.text
    assert describe_report(node, 1)["code"] == "STORE_CORRUPT"
    hub.publish(6)
    assert refused(node) == "ROLLBACK"
    hub.publish(8)
    assert node.poll() is PollOutcome.APPLIED
    assert describe_report(node, 2)["result"] == "ACK"


def test_power_lost_between_snapshot_and_state_leaves_the_newer_snapshot(hub, make_node, tmp_path):
    hub.publish(1)
    make_node().poll()
    hub.publish(2, content=make_content(flags=[make_flag(alpha_scale="0.5")]))
    (tmp_path / "store/snapshot.dsse").write_bytes(hub.envelope)
    assert make_node(hub_url="http://127.0.0.1:9").in_force.snapshot.revision == 2


def test_a_store_of_another_environment_stops_the_start(hub, make_node):
    hub.publish()
    make_node().poll()
    with pytest.raises(NodeError) as caught:
        make_node(environment="staging")
    assert caught.value.code == "STORE_ENVIRONMENT"


@pytest.mark.parametrize(("policy", "reason"), [("zero", "stale"), ("keep", "flag_on")])
def test_losing_the_hub_is_handled_by_the_profiles_stale_policy(hub, make_node, clock, policy, reason):
    hub.publish(content=make_content(profiles=[make_profile(stale_policy=policy)]))
    node = make_node()
    node.poll()
    hub.fail_with = 503
    clock.advance(seconds=900)
    with pytest.raises(HubError):
        node.poll()
    assert is_steered(node)
    assert readiness_problem(node) is None
    clock.advance(seconds=1)
    assert node.effective("harbor", "").reason == reason
    assert readiness_problem(node) == "stale"
    hub.fail_with = None
    node.poll()
    assert is_steered(node)


@pytest.mark.parametrize(("policy", "reason"), [("zero", "stale"), ("keep", "flag_on")])
def test_an_expired_snapshot_still_loads_after_a_restart_and_only_its_age_counts(hub, make_node, clock, policy, reason):
    hub.publish(content=make_content(profiles=[make_profile(stale_policy=policy, max_staleness_seconds=7200)]))
    make_node().poll()
    clock.advance(seconds=7200)
    node = make_node(hub_url="http://127.0.0.1:9")
    assert describe_report(node, 1)["result"] == "STALE"
    assert is_steered(node)
    clock.advance(seconds=1)
    assert node.effective("harbor", "").reason == reason


def test_an_answer_of_not_modified_cannot_prolong_an_expired_snapshot(hub, make_node, clock):
    """Somebody who can only repeat 304 must not be able to keep a node steering past what was signed."""
    hub.publish()
    node = make_node()
    node.poll()
    for _ in range(8):
        clock.advance(minutes=10)
        assert node.poll() is PollOutcome.UNCHANGED
    assert node.effective("harbor", "").reason == "stale"


def test_staleness_is_counted_from_the_contact_that_a_heartbeat_wrote_down(hub, make_node, clock):
    hub.publish()
    node = make_node()
    node.poll()
    clock.advance(seconds=800)
    node.poll()
    node.remember_contact()
    clock.advance(seconds=800)
    assert is_steered(make_node(hub_url="http://127.0.0.1:9"))
    clock.advance(seconds=101)
    assert not is_steered(make_node(hub_url="http://127.0.0.1:9"))


def test_a_report_says_what_every_slot_really_gets(hub, make_node):
    flags = [make_flag(alpha_scale="0.5"), make_flag(tenant="atlas", enabled=False)]
    hub.publish(3, content=make_content(flags=flags))
    node = make_node()
    assert describe_report(node, 1)["result"] == "PENDING"
    node.poll()
    report = describe_report(node, 2)
    assert (report["result"], report["revision"], report["seq"], report["engine"]) == ("ACK", 3, 2, "echo 1")
    assert [(slot["tenant"], slot["reason"]) for slot in report["slots"]] == [("harbor", "flag_on"), ("atlas", "flag_off")]
    steering = report["slots"][0]["steering"]
    assert (steering["profile"], steering["revision"], steering["alpha"], steering["layer"]) == ("harbor-empathy", 3, "0.25", 6)
    assert steering["components"][0]["vector_sha256"] == sha256_hex(VECTOR)
    assert json.loads(json.dumps(describe_status(node)))["applied"]["last_contact_seconds"] == 0


def test_the_clock_never_runs_backwards(monkeypatch):
    clock = SteadyClock()
    before = clock()
    monkeypatch.setattr(clock, "_wall", clock._wall + timedelta(days=1))
    assert clock() > before + timedelta(hours=23)


def test_a_waiting_swap_goes_before_the_next_generation():
    gate, order = BatchGate(), []
    first_runs, first_may_end = threading.Event(), threading.Event()

    def generate(name):
        with gate.batch():
            order.append(name)
            if name == "first":
                first_runs.set()
                first_may_end.wait(5)

    def swap():
        with gate.swap():
            order.append("swap")

    first = threading.Thread(target=generate, args=("first",))
    first.start()
    first_runs.wait(5)
    swapping = threading.Thread(target=swap)
    swapping.start()
    wait_until(lambda: gate._swaps_waiting == 1)
    later = [threading.Thread(target=generate, args=("later",)) for _ in range(4)]
    for thread in later:
        thread.start()
    first_may_end.set()
    for thread in (first, swapping, *later):
        thread.join(5)
    assert order == ["first", "swap", "later", "later", "later", "later"]


@pytest.fixture
def running(make_node):
    runners = []

    def run(node, **options):
        runners.append(NodeRunner(node, node._client, **options))
        runners[-1].start()
        return runners[-1]

    yield run
    for runner in runners:
        runner.stop(wait_seconds=0.1)


def test_a_running_node_hears_of_a_change_at_once_and_acknowledges_it(hub, make_node, running):
    hub.publish(1)
    node = make_node(clock=SteadyClock())
    running(node)
    wait_until(lambda: hub.reports and hub.reports[-1]["result"] == "ACK")
    wait_until(lambda: hub.requests[-1]["prefer"] is not None and hub.requests[-1]["etag"] == hub.etag)
    hub.publish(2, content=make_content(kills=[{"kind": "everything", "target": ""}]))
    published = time.monotonic()
    wait_until(lambda: not is_steered(node))
    assert time.monotonic() - published < 2
    wait_until(lambda: hub.reports[-1]["revision"] == 2)
    assert [report["seq"] for report in hub.reports] == list(range(1, len(hub.reports) + 1))


def test_a_running_node_does_not_hammer_a_hub_whose_snapshot_it_refuses(hub, make_node, running):
    bad_signature(hub)
    running(make_node(clock=SteadyClock()))
    wait_until(lambda: hub.reports and hub.reports[-1]["result"] == "NACK")
    time.sleep(1.2)
    assert len(hub.requests) <= 3
    assert len(hub.reports) == 1


def test_a_running_node_survives_the_hub_going_away_and_coming_back(hub, make_node, running):
    hub.fail_with = 503
    node = make_node(clock=SteadyClock())
    running(node)
    wait_until(lambda: node.counters["polls_failed"] >= 1)
    hub.publish(1)
    hub.fail_with = None
    wait_until(lambda: is_steered(node))


def test_a_running_node_says_it_is_alive_every_heartbeat(hub, make_node, running):
    hub.publish(1)
    running(make_node(clock=SteadyClock()), poll_seconds=1, heartbeat_seconds=0.5)
    wait_until(lambda: len(hub.reports) >= 3)
    assert {report["result"] for report in hub.reports} == {"ACK"}


def test_a_token_the_hub_does_not_know_is_not_tried_again_soon(hub, hub_url, make_node):
    client = FleetClient(hub_url, "production", "node-1", "shn_" + "x" * 43)
    hub.publish()
    runner = NodeRunner(make_node(client=client), client)
    assert runner._poll() >= 60
    client.close()
