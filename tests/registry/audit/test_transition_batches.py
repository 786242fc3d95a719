"""Transitions and batches: one transaction, one snapshot revision, events in their order."""

import json
from itertools import pairwise

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from registry.audit import Action, record
from registry.errors import NotFound
from registry.models import AuditEvent, Tenant
from registry.services.kills import engage_kill, request_lift
from registry.services.tenants import create_environment, create_tenant
from registry.services.transition import all_or_nothing, lock_environments, publish_at_end, transition
from tests.support.steering import put

BY_TWO = {"cause": Action.KILL_ENGAGED, "actor": "tests"}


def test_a_batch_publishes_each_environment_it_touched_once(production, harbor, atlas, approved, oscar):
    production.refresh_from_db()
    before = production.head_revision
    with all_or_nothing(**BY_TWO):
        put(production, harbor, approved, oscar)
        put(production, atlas, approved, oscar)
        create_environment("staging", actor=oscar)
    production.refresh_from_db()
    assert production.head_revision == before + 1
    assert production.snapshots.first().revision == before + 1


def test_a_batch_records_its_events_in_order_and_the_publishing_last(production, harbor, atlas, approved, oscar):
    before = AuditEvent.objects.count()
    with all_or_nothing(**BY_TWO):
        put(production, harbor, approved, oscar)
        put(production, atlas, approved, oscar)
    events = list(AuditEvent.objects.filter(seq__gt=before).order_by("seq"))
    assert [event.action for event in events] == ["flag.changed", "flag.changed", "snapshot.published"]
    for previous, event in pairwise(events):
        assert event.previous_digest == previous.digest


def test_versions_of_one_object_rise_within_a_batch(production, oscar):
    create_tenant("harbor", actor=oscar)
    with all_or_nothing(**BY_TWO):
        first = engage_kill("tenant", target="harbor", reason="noise", actor=oscar)
        request_lift(first.pk, reason="found", actor=oscar)
        request_lift(first.pk, reason="found", actor=oscar)
    versions = AuditEvent.objects.filter(object_id=str(first.pk)).order_by("seq").values_list("object_version", flat=True)
    assert list(versions) == [1, 2, 3]


def test_a_step_that_fails_takes_the_whole_batch_with_it(production, oscar):
    before = AuditEvent.objects.count(), production.head_revision
    with pytest.raises(NotFound), all_or_nothing(**BY_TWO):  # noqa: PT012  (the first step has to succeed)
        create_tenant("harbor", actor=oscar)
        engage_kill("tenant", target="nobody", reason="noise", actor=oscar)
    production.refresh_from_db()
    assert not Tenant.objects.exists()
    assert (AuditEvent.objects.count(), production.head_revision) == before


def test_a_transition_records_its_events_at_its_end_and_none_if_it_fails(oscar):
    harbor = create_tenant("harbor", actor=oscar)
    before, seen = AuditEvent.objects.count(), []

    @transition
    def say(*words, fails=False):
        for word in words:
            record(Action.TENANT_RENAMED, actor=oscar, subject=harbor, details={"title": word})
        seen.append(AuditEvent.objects.count())
        if fails:
            raise NotFound("NOBODY", "nobody")

    say("first", "second")
    with pytest.raises(NotFound):
        say("third", fails=True)
    assert seen == [before, before + 2]
    told = AuditEvent.objects.filter(seq__gt=before).order_by("seq")
    assert [(json.loads(bytes(event.body))["details"]["title"], event.object_version) for event in told] == [("first", 2), ("second", 3)]


def test_a_transition_called_in_another_is_a_step_of_it(production, approved, oscar):
    @transition
    def found(*names, fails=False):
        for name in names:
            put(production, create_tenant(name, actor=oscar), approved, oscar)
        if fails:
            raise NotFound("NOBODY", "nobody")

    before = AuditEvent.objects.count()
    with pytest.raises(NotFound):
        found("harbor", fails=True)
    assert (AuditEvent.objects.count(), Tenant.objects.count()) == (before, 0)
    found("harbor", "atlas")
    actions = AuditEvent.objects.filter(seq__gt=before).order_by("seq").values_list("action", flat=True)
    assert list(actions) == ["tenant.created", "flag.changed", "tenant.created", "flag.changed", "snapshot.published"]


def test_a_batch_locks_each_environment_once(production, harbor, atlas, approved, oscar):
    with CaptureQueriesContext(connection) as queries, all_or_nothing(**BY_TWO):
        put(production, harbor, approved, oscar)
        put(production, atlas, approved, oscar)
    locking = [query["sql"] for query in queries if "FOR NO KEY UPDATE" in query["sql"] and 'FROM "registry_environment"' in query["sql"]]
    assert len(locking) == 1


def test_what_a_batch_publishes_has_the_cause_of_the_batch(production, harbor, approved, oscar, grace):
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=grace):
        put(production, harbor, approved, oscar)
    assert production.snapshots.first().cause == Action.MANIFESTS_APPLIED
    assert AuditEvent.objects.filter(action=Action.SNAPSHOT_PUBLISHED).order_by("seq").last().actor_name == "grace"


def test_nothing_is_recorded_locked_or_published_outside_of_a_transition(production, oscar):
    for change in (
        lambda: record(Action.USER_CREATED, actor=oscar, subject=oscar),
        lambda: lock_environments([production]),
        lambda: publish_at_end(production, cause=Action.KILL_ENGAGED, actor=oscar),
    ):
        with pytest.raises(RuntimeError, match="in a transition"):
            change()


@pytest.mark.django_db(transaction=True)
def test_outside_a_batch_a_transition_refuses_a_transaction_around_it(oscar):
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        create_tenant("harbor", actor=oscar)
    assert not connection.in_atomic_block
    assert create_tenant("harbor", actor=oscar).name == "harbor"
