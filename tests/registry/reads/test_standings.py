"""Who is in step, environment by environment."""

from django.utils import timezone

from registry.models import Environment, ServingNode
from registry.reads.fleet import Standings, standings
from registry.services.nodes import invite_node, withdraw_node
from registry.services.tenants import create_environment
from tests.support.nodes import enroll as enroll_one


def enroll(environment, *names, actor, **report):
    for name in names:
        enroll_one(name, environment=environment, actor=actor)
    ServingNode.objects.filter(name__in=names).update(last_seen_at=timezone.now(), last_result="ACK", **report)


def test_every_environment_has_its_standings_and_nodes_that_left_are_in_none(production, oscar):
    staging = create_environment("staging", actor=oscar)
    production.refresh_from_db()
    enroll(production, "a", "b", actor=oscar, applied_revision=production.head_revision)
    enroll(production, "c", actor=oscar, applied_revision=production.head_revision - 1)
    enroll(production, "gone", actor=oscar)
    withdraw_node(ServingNode.objects.get(name="gone"), reason="Its machine is gone.", actor=oscar)
    # Nobody can be behind who has never had a token.
    invite_node("expected", environment=production, actor=oscar)
    found = standings([production, staging])
    assert [(standing.node.name, standing.state) for standing in found["production"].nodes] == [
        ("a", "SYNCED"),
        ("b", "SYNCED"),
        ("c", "BEHIND"),
    ]
    assert (found["production"].in_step, [standing.node.name for standing in found["production"].others]) == (2, ["c"])
    assert found["staging"] == Standings()


def test_one_query_for_any_number_of_nodes(production, oscar, django_assert_num_queries):
    environments = list(Environment.objects.all())
    for names in (["a"], ["b", "c", "d", "e"]):
        enroll(production, *names, actor=oscar)
        with django_assert_num_queries(1):
            standings(environments)
