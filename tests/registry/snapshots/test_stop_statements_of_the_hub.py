"""Stop statements as the hub writes them: in the kill's own transaction, of every kill in force, with a sequence that only rises."""

import json
from datetime import timedelta

import pytest
from django.db import DatabaseError, transaction
from django.utils import timezone

from registry.models import AuditEvent, Environment, Kill, Snapshot, StopStatement
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.tenants import create_environment
from registry.snapshots import compile as compiling
from registry.snapshots import issue_stop, stops, trust_document
from steernode.dsse import STOP, TrustedKeys, open_envelope, write_envelope
from steernode.stop.document import HUB, PAYLOAD_TYPE, StoppedKill, parse_stop


def newest():
    return parse_stop(StopStatement.objects.first().payload)


def lift(kill, first, second):
    request_lift(kill.pk, reason="over", actor=first)
    confirm_lift(kill.pk, actor=second)


def test_a_kill_is_in_a_statement_that_is_signed_and_named_by_its_event(production, harbor, oscar):
    kill = engage_kill("tenant", target="harbor", environment="production", reason="x", actor=oscar)
    stop = StopStatement.objects.get()
    keys = TrustedKeys.from_document(trust_document())
    envelope = write_envelope(stop.payload, PAYLOAD_TYPE, stop.signatures)
    payload = open_envelope(envelope, keys=keys, payload_type=PAYLOAD_TYPE, now=timezone.now(), purpose=STOP)
    statement = parse_stop(payload)
    assert statement.kills == (StoppedKill("tenant", "production", "harbor", kill.pk.hex),)
    assert (statement.issuer, statement.sequence, statement.released, statement.adopted) == (HUB, stop.sequence, frozenset(), frozenset())
    details = json.loads(bytes(AuditEvent.objects.get(action="kill.engaged").body))["details"]
    assert (details["stop_sequence"], details["stop_digest"]) == (stop.sequence, stop.digest)


@pytest.mark.parametrize(
    ("kind", "target", "environment", "told"),
    [
        ("everything", "", "", ("everything", "", "*")),
        ("environment", "production", "", ("environment", "", "production")),
        ("environment", "", "production", ("environment", "", "production")),
        ("tenant", "harbor", "", ("tenant", "", "harbor")),
        ("profile", "harbor-empathy", "production", ("profile", "production", "harbor-empathy")),
    ],
)
def test_each_kind_is_told_in_the_words_of_a_statement(production, harbor, profile, oscar, kind, target, environment, told):
    engage_kill(kind, target=target, environment=environment, reason="x", actor=oscar)
    (kill,) = newest().kills
    assert (kill.kind, kill.environment, kill.target) == told


def test_a_kill_compiles_and_publishes_nothing(flag_on, production, oscar, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a kill compiled a snapshot")

    monkeypatch.setattr(compiling, "compile_content", refuse)
    monkeypatch.setattr("registry.snapshots.publish.compile_content", refuse)
    before = Snapshot.objects.count(), Environment.objects.get().head_revision
    engage_kill("everything", reason="x", actor=oscar)
    assert (Snapshot.objects.count(), Environment.objects.get().head_revision) == before


def test_a_lift_is_named_for_a_week_and_the_sequence_rises(production, harbor, oscar, grace):
    first = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    second = engage_kill("everything", reason="y", actor=oscar)
    lift(first, oscar, grace)
    assert {kill.id for kill in newest().kills} == {second.pk.hex}
    assert newest().released == {first.pk.hex}
    sequences = list(StopStatement.objects.order_by("pk").values_list("sequence", flat=True))
    assert sequences == sorted(set(sequences))
    assert len(sequences) == 3


def test_what_was_lifted_long_ago_is_named_while_a_node_still_obeys_it(production, harbor, oscar, grace, monkeypatch):
    kill = engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    lift(kill, oscar, grace)
    monkeypatch.setattr(stops, "RELEASES_ARE_NAMED_FOR", timedelta(0))
    with transaction.atomic():
        issue_stop()
    assert newest().released == frozenset()
    monkeypatch.setattr(stops, "surplus_reported", lambda: [kill.pk])
    with transaction.atomic():
        issue_stop()
    assert newest().released == {kill.pk.hex}


def test_the_sequence_is_above_its_own_the_nodes_and_the_clock(production, oscar, monkeypatch):
    before = int(timezone.now().timestamp() * 1000)
    engage_kill("everything", reason="x", actor=oscar)
    assert before <= newest().sequence <= int(timezone.now().timestamp() * 1000)
    ahead = before + 10**9
    monkeypatch.setattr(stops, "highest_stop_reported", lambda: ahead)
    engage_kill("environment", target="production", reason="x", actor=oscar)
    assert newest().sequence == ahead + 1
    monkeypatch.setattr(stops, "highest_stop_reported", lambda: 0)
    engage_kill("environment", target="production", reason="again", actor=oscar)
    with transaction.atomic():
        issue_stop()
    assert newest().sequence == ahead + 2


def test_one_environment_that_cannot_be_compiled_is_no_trouble_of_a_kill(flag_on, oscar, monkeypatch):
    create_environment("staging", actor=oscar)
    monkeypatch.setattr("registry.snapshots.publish.compile_content", lambda *args, **options: 1 / 0)
    kill = engage_kill("everything", reason="x", actor=oscar)
    assert [each.id for each in newest().kills] == [kill.pk.hex]


def test_ten_thousand_kills_are_a_megabyte(production, oscar):
    kills = [Kill(kind="tenant", target=f"tenant-{number:05d}", reason="x", engaged_by=oscar) for number in range(10_000)]
    Kill.objects.bulk_create(kills, batch_size=1_000)
    engage_kill("everything", reason="x", actor=oscar)
    assert len(newest().kills) == 10_001
    assert len(StopStatement.objects.get().payload) <= 1_000_000


@pytest.mark.parametrize("change", ["UPDATE registry_stopstatement SET sequence = 1", "DELETE FROM registry_stopstatement"])
def test_a_statement_is_never_changed(production, oscar, change):
    from django.db import connection

    engage_kill("everything", reason="x", actor=oscar)
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(change)
