"""A node is invited, enrols with a key of its own, is rotated, withdrawn and let in again."""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.audit import Action
from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, NodeReport, ServingNode, Snapshot
from registry.reads.fleet import convergence_of, standings
from registry.services.kills import engage_kill
from registry.services.nodes import MAX_PAST_TOKENS, enroll_node, invite_node, reenroll_node, rotate_node, withdraw_node
from registry.services.reports import CHANGES_IN, MAX_CHANGES, MAX_PAST_BOOTS
from steernode.dsse import write_public_key
from steernode.hub.tokens import is_well_formed
from tests.support.nodes import KEY, applied, enroll, say
from tests.support.steering import publish_again


def state_of(node):
    node.refresh_from_db()
    node.environment.refresh_from_db()
    return convergence_of(node, timezone.now())


# -- Enrolment ------------------------------------------------------------------------------------------------------------------


def test_an_enrolment_token_is_good_for_one_node_once(production, oscar):
    node, secret = invite_node("node-1", environment=production, actor=oscar)
    assert is_well_formed(secret)
    assert (node.token_sha256, node.public_key, node.enrolled_at) == ("", "", None)
    assert code_of(lambda: enroll_node(secret, name="node-2", public_key=KEY.public_key())) == "ENROLMENT_TOKEN"
    node, token = enroll_node(secret, name="node-1", public_key=KEY.public_key())
    assert token.startswith("shn_")
    assert node.public_key == write_public_key(KEY.public_key())
    assert code_of(lambda: enroll_node(secret, name="node-1", public_key=KEY.public_key())) == "ENROLMENT_TOKEN"
    assert list(AuditEvent.objects.filter(object_name="node-1").order_by("seq").values_list("action", "actor_name")) == [
        ("node.invited", "oscar"),
        ("node.enrolled", "node-1"),
    ]


def test_an_enrolment_token_ends_within_the_hour(production, oscar):
    _, secret = invite_node("node-1", environment=production, actor=oscar)
    ServingNode.objects.update(enrolment_expires_at=timezone.now() - timedelta(seconds=1))
    assert code_of(lambda: enroll_node(secret, name="node-1", public_key=KEY.public_key())) == "ENROLMENT_TOKEN"


def test_a_name_is_listed_once(production, oscar, node):
    assert code_of(lambda: invite_node("node-1", environment=production, actor=oscar)) == "NODE_EXISTS"


def test_a_rotation_ends_the_old_token_when_the_new_one_is_used(production, oscar, node):
    record, _ = node
    before, other = record.token_sha256, Ed25519PrivateKey.generate()
    _, secret = rotate_node(record, actor=oscar)
    record.refresh_from_db()
    assert record.token_sha256 == before
    enroll_node(secret, name="node-1", public_key=other.public_key())
    record.refresh_from_db()
    assert record.token_sha256 != before
    assert record.public_key == write_public_key(other.public_key())


def test_only_the_latest_tokens_that_were_replaced_are_remembered(node, oscar):
    record, _ = node
    had = []
    for _turn in range(MAX_PAST_TOKENS + 2):
        had.append(record.token_sha256)
        _, secret = rotate_node(record, actor=oscar)
        record, _ = enroll_node(secret, name=record.name, public_key=KEY.public_key())
    assert record.past_tokens == had[-MAX_PAST_TOKENS:]


def test_a_withdrawn_node_comes_back_by_another_token_and_not_before_it_is_used(production, oscar, node):
    record, _ = node
    say(record)
    assert code_of(lambda: reenroll_node(record, actor=oscar)) == "NODE_ACTIVE"
    withdraw_node(record, reason="Its machine is gone.", actor=oscar)
    assert state_of(record) == "WITHDRAWN"
    assert code_of(lambda: rotate_node(record, actor=oscar)) == "NODE_WITHDRAWN"
    assert code_of(lambda: withdraw_node(record, reason="Again.", actor=oscar)) == "NODE_WITHDRAWN"
    assert code_of(lambda: say(record)) == "NODE_WITHDRAWN"
    _, secret = reenroll_node(record, actor=oscar)
    assert state_of(record) == "WITHDRAWN"
    enroll_node(secret, name="node-1", public_key=KEY.public_key())
    assert state_of(record) == "NEVER"
    event = AuditEvent.objects.get(action=Action.NODE_WITHDRAWN)
    assert (event.actor_name, event.environment) == ("oscar", "production")


def test_an_invitation_that_was_not_used_ends_with_the_withdrawal(production, oscar):
    node, secret = invite_node("node-1", environment=production, actor=oscar)
    withdraw_node(node, reason="A mistake.", actor=oscar)
    assert code_of(lambda: enroll_node(secret, name="node-1", public_key=KEY.public_key())) == "ENROLMENT_TOKEN"


def test_who_is_withdrawn_or_has_not_enrolled_counts_in_no_convergence(production, oscar, node):
    say(node[0])
    invite_node("expected", environment=production, actor=oscar)
    gone, _ = enroll("gone", environment=production, actor=oscar)
    assert len(standings([production])["production"].nodes) == 2
    withdraw_node(gone, reason="Its machine is gone.", actor=oscar)
    found = standings([production])["production"]
    assert (len(found.nodes), found.in_step) == (1, 1)


def test_the_database_knows_no_node_half_withdrawn(production, oscar, node):
    with pytest.raises(IntegrityError, match="node_is_active_or_withdrawn"), transaction.atomic():
        ServingNode.objects.update(is_active=False)
    with pytest.raises(IntegrityError, match="node_enrolment_token_expires"), transaction.atomic():
        ServingNode.objects.update(enrolment_sha256="ab" * 32)


# -- Reports --------------------------------------------------------------------------------------------------------------------


def test_a_late_or_replayed_report_changes_nothing(production, node):
    record, _ = node
    publish_again(production)
    say(record, seq=5, revision=2)
    assert code_of(lambda: say(record, seq=4, revision=1)) == "REPORT_LATE"
    assert code_of(lambda: say(record, seq=5, revision=1)) == "REPORT_REPLAYED"
    record.refresh_from_db()
    assert (record.applied_revision, record.last_seq, state_of(record)) == (2, 5, "SYNCED")


def test_a_new_boot_begins_anew_and_the_boots_before_it_are_over(production, node):
    record, _ = node
    say(record, seq=90, boot_id="first")
    say(record, seq=1, boot_id="second")
    assert code_of(lambda: say(record, seq=91, boot_id="first")) == "REPORT_LATE"
    say(record, seq=2, boot_id="second")
    for number in range(MAX_PAST_BOOTS + 5):
        say(record, seq=1, boot_id=f"boot-{number}")
    record.refresh_from_db()
    assert len(record.past_boots) == MAX_PAST_BOOTS


def test_another_token_for_the_same_key_brings_no_boot_back(node, oscar):
    record, _ = node
    say(record, seq=90, boot_id="first")
    say(record, seq=1, boot_id="second")
    _, secret = rotate_node(record, actor=oscar)
    enroll_node(secret, name=record.name, public_key=KEY.public_key())
    assert code_of(lambda: say(record, seq=91, boot_id="first")) == "REPORT_LATE"
    assert code_of(lambda: say(record, seq=1, boot_id="second")) == "REPORT_LATE"
    say(record, seq=1, boot_id="third")


def test_a_heartbeat_that_is_not_written_still_has_its_turn(node):
    record, _ = node
    say(record, seq=1)
    say(record, seq=2)
    assert code_of(lambda: say(record, seq=2)) == "REPORT_REPLAYED"


@pytest.mark.parametrize("wrong", [{"content_digest": "00" * 32}, {"revision": 7, "content_digest": "ab" * 32}])
def test_what_was_never_published_is_a_mismatch_and_never_synced(production, node, wrong):
    record, _ = node
    in_force = applied() | wrong
    say(record, revision=in_force["revision"], applied=in_force)
    assert state_of(record) == "MISMATCH"
    record.refresh_from_db()
    assert (record.applied_revision, record.applied_digest) == (in_force["revision"], in_force["content_digest"])
    say(record, revision=1)
    assert state_of(record) == "SYNCED"


def test_the_digest_of_a_refused_snapshot_is_not_that_in_force(production, node, oscar):
    record, _ = node
    engage_kill("everything", reason="drill", actor=oscar)
    say(record, result="NACK", code="CAPABILITY", revision=2, applied=applied(1))
    assert state_of(record) == "NACKED"
    record.refresh_from_db()
    assert record.applied_digest == Snapshot.objects.get(revision=1).content_digest


def test_a_report_tells_of_the_stop_and_of_what_cannot_be_served(node):
    record, _ = node
    cannot = {"profile": "harbor-empathy", "revision": 3, "code": "CAPABILITY", "message": "condition:intent"}
    stop = {"sequence": 1_764_460_800_000, "digest": "cd" * 32, "held": 3, "surplus": ["a" * 32, "b" * 32]}
    say(record, stop=stop, unservable=[cannot], capabilities=["scope:generated", "operator:add"], highest_revision=9)
    record.refresh_from_db()
    assert (record.stop_sequence, record.stop_digest, record.stop_held) == (stop["sequence"], "cd" * 32, 3)
    assert record.stop_surplus == ["a" * 32, "b" * 32]
    assert (record.unservable, record.capabilities, record.highest_revision) == ([cannot], ["operator:add", "scope:generated"], 9)
    say(record)
    record.refresh_from_db()
    assert record.unservable == []


def test_a_node_that_swings_to_and_fro_fills_no_log(node):
    record, _ = node

    def swing() -> None:
        say(record, result="NACK", code="BLOB_DIGEST", revision=2)
        say(record)

    for _turn in range(MAX_CHANGES):
        swing()
    kept = NodeReport.objects.count()
    assert kept == MAX_CHANGES
    assert AuditEvent.objects.filter(action__in=[Action.NODE_ACKED, Action.NODE_REFUSED]).count() == MAX_CHANGES
    counted = AuditEvent.objects.filter(action=Action.NODE_CHANGES_COUNTED)
    assert [details_of(event)["left_out"] for event in counted] == [0]
    record.refresh_from_db()
    assert record.last_result == "ACK"
    ServingNode.objects.update(counted_since=timezone.now() - CHANGES_IN)
    swing()
    assert NodeReport.objects.count() == kept + 2
    assert details_of(counted.order_by("seq").last())["left_out"] == MAX_CHANGES


def code_of(call):
    with pytest.raises((InvalidInput, TransitionRefused)) as caught:
        call()
    return caught.value.code


def details_of(event):
    return json.loads(bytes(event.body))["details"]
