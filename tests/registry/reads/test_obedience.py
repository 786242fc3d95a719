"""What became of a kill, from what the nodes report of the stop that they hold."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Kill, ServingNode, StopStatement
from registry.reads.obedience import Obedience, read_obedience
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.nodes import withdraw_node
from registry.services.tenants import create_environment
from tests.support.nodes import enroll, say


def hold(node, stop=None, **changes):
    """The node says that it holds this statement, or the newest."""
    stop = stop or StopStatement.objects.first()
    say(node, stop={"sequence": stop.sequence, "digest": stop.digest, "held": 1, "surplus": [], **changes})


def fall_silent(node):
    ServingNode.objects.filter(pk=node.pk).update(last_seen_at=timezone.now() - timedelta(minutes=5))


def became_of(kill):
    return read_obedience([Kill.objects.get(pk=kill.pk)])[kill.pk]


@pytest.fixture
def nodes(production, oscar):
    """node-1, node-2 and node-3 of production, each of which has reported."""
    found = [enroll(f"node-{number}", environment=production, actor=oscar)[0] for number in (1, 2, 3)]
    for node in found:
        say(node)
    return found


@pytest.fixture
def kill(nodes, harbor, oscar):
    return engage_kill("tenant", target="harbor", reason="x", actor=oscar)


def test_a_kill_is_in_force_on_those_that_say_that_they_hold_its_statement_or_a_later_one(nodes, kill, oscar):
    assert became_of(kill) == Obedience(0, 3, ("node-1", "node-2", "node-3"))
    hold(nodes[0])
    # Within ten seconds of the report before it, too.
    assert became_of(kill) == Obedience(1, 3, ("node-2", "node-3"))
    later = engage_kill("everything", reason="y", actor=oscar)
    hold(nodes[1])
    assert became_of(kill) == Obedience(2, 3, ("node-3",))
    assert became_of(later) == Obedience(1, 3, ("node-1", "node-3"))
    assert str(became_of(kill)) == "in force on 2 of 3 nodes; waiting for node-3"


def test_a_statement_that_is_not_on_record_says_nothing_of_a_kill(nodes, kill):
    hold(nodes[0], sequence=2**50, digest="0" * 64)
    assert became_of(kill).nodes == 0
    hold(nodes[0], sequence=2**50, digest="0" * 64, surplus=[kill.pk.hex])
    assert became_of(kill).nodes == 1


def test_who_is_silent_or_withdrawn_is_said_to_be(nodes, kill, oscar):
    hold(nodes[0])
    fall_silent(nodes[0])
    fall_silent(nodes[1])
    withdraw_node(nodes[2], reason="Its machine is gone.", actor=oscar)
    assert became_of(kill) == Obedience(1, 2, ("node-2",), ("node-1", "node-2"), ("node-3",))
    said = str(became_of(kill))
    assert said.startswith("in force on 1 of 2 nodes; waiting for node-2 (silent); silent since they obeyed: node-1; ")
    assert said.endswith("withdrawn before they said so: node-3")


def test_a_kill_of_one_environment_waits_for_its_nodes_alone(nodes, harbor, oscar):
    create_environment("staging", actor=oscar)
    kill = engage_kill("tenant", target="harbor", environment="staging", reason="x", actor=oscar)
    assert became_of(kill) == Obedience(0, 0)
    assert str(became_of(kill)) == "no node is there to obey it"


def test_a_kill_from_before_statements_is_in_force_where_the_newest_is(nodes, oscar, kill):
    old = Kill.objects.create(kind="everything", target="*", reason="x", engaged_by=oscar)
    hold(nodes[0])
    assert became_of(old).nodes == 1
    engage_kill("environment", target="production", reason="x", actor=oscar)
    assert became_of(old).nodes == 0


def test_it_takes_as_many_queries_for_many_kills_and_nodes_as_for_one(nodes, kill, atlas, oscar, django_assert_num_queries):
    one = list(Kill.objects.all())
    with django_assert_num_queries(3):
        read_obedience(one)
    engage_kill("tenant", target="atlas", reason="x", actor=oscar)
    more = list(Kill.objects.all())
    with django_assert_num_queries(3):
        read_obedience(more)
    with django_assert_num_queries(0):
        read_obedience([])


def test_the_api_and_the_console_tell_it(api, client, nodes, kill, oscar, grace):
    hold(nodes[0])
    told = {"nodes": 1, "of": 3, "waiting": ["node-2", "node-3"], "silent": [], "withdrawn": []}
    assert api(oscar).get("/api/v1/kills").json()["results"][0]["obeyed_by"] == told
    assert api(oscar).get(f"/api/v1/kills/{kill.pk}").json()["obeyed_by"] == told
    client.force_login(oscar)
    for page in ("console:kills", "admin:index"):
        assert "in force on 1 of 3 nodes; waiting for node-2, node-3" in client.get(reverse(page)).text
    fleet = client.get(reverse("console:fleet")).text
    assert fleet.count(f"of {StopStatement.objects.first().sequence}") == 2
    request_lift(kill.pk, reason="fixed", actor=oscar)
    confirm_lift(kill.pk, actor=grace)
    assert api(oscar).get(f"/api/v1/kills/{kill.pk}").json()["obeyed_by"] is None
