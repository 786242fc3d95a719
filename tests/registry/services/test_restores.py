"""A hub that was restored from a backup, whose nodes have seen more than it knows."""

import pytest
from django.core.management import CommandError, call_command

from registry.errors import InvalidInput
from registry.models import Environment, ServingNode, StopStatement
from registry.reads.steering import head_snapshot
from registry.services import restores
from registry.services.tenants import create_environment
from steernode.records.reports import MAX_NUMBER
from tests.support.nodes import enroll, say


def publish() -> None:
    call_command("publish", "--above-fleet", verbosity=0)


@pytest.fixture
def ahead(node, monkeypatch):
    """node-1 of production has accepted r41, and heard a stop of the year 2050."""
    ServingNode.objects.filter(pk=node[0].pk).update(applied_revision=41)
    monkeypatch.setattr("registry.snapshots.stops.highest_stop_reported", lambda: 2_524_608_000_000)


def test_every_environment_and_the_stop_come_out_above_what_nodes_have_seen(flag_on, ahead, production, oscar, capsys):
    staging = create_environment("staging", actor=oscar)
    content = head_snapshot(production).content_digest
    publish()
    head = head_snapshot(production)
    assert (head.revision, head.content_digest, Environment.objects.get(name="production").head_revision) == (42, content, 42)
    assert head_snapshot(staging).revision == 2
    assert StopStatement.objects.first().sequence == 2_524_608_000_001
    assert capsys.readouterr().out.splitlines() == ["stop 2524608000001", "production r42", "staging r2"]


def test_what_a_node_has_only_heard_of_is_above_what_it_has_accepted(flag_on, ahead, production):
    ServingNode.objects.update(highest_revision=57)
    publish()
    assert head_snapshot(production).revision == 58


def test_trouble_in_one_environment_is_none_of_the_others(ahead, production, oscar, monkeypatch):
    staging = create_environment("staging", actor=oscar)
    whole = restores.publish_snapshot

    def fail(environment, **options):
        if environment.name == "production":
            raise InvalidInput("LIMIT", "too large")
        return whole(environment, **options)

    monkeypatch.setattr(restores, "publish_snapshot", fail)
    with pytest.raises(CommandError, match="production: LIMIT: too large"):
        publish()
    assert (head_snapshot(staging).revision, StopStatement.objects.count()) == (2, 1)


def test_a_node_that_claims_to_have_seen_everything_does_not_use_up_the_numbers(production, node, oscar):
    enroll("liar", environment=production, actor=oscar)
    ServingNode.objects.filter(name="liar").update(applied_revision=2**62, highest_revision=2**62, stop_sequence=2**62)
    publish()
    assert head_snapshot(production).revision == 2


def test_what_is_published_above_a_node_that_lies_can_be_reported_by_the_others(flag_on, production, node, oscar):
    liar, _ = enroll("liar", environment=production, actor=oscar)
    stop = {"sequence": MAX_NUMBER, "digest": "cd" * 32, "held": 0, "surplus": []}
    say(liar, highest_revision=MAX_NUMBER, stop=stop)
    publish()
    newest, head = StopStatement.objects.first(), head_snapshot(production)
    heard = {"sequence": newest.sequence, "digest": newest.digest, "held": 0, "surplus": []}
    assert say(node[0], revision=head.revision, highest_revision=head.revision, stop=heard) is not None


def test_it_is_said_what_for(production):
    with pytest.raises(CommandError, match="above-fleet"):
        call_command("publish")
