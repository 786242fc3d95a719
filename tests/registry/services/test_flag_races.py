"""Fifty people change flags at the same moment. Real transactions, real threads."""

import threading
from decimal import Decimal

import pytest
from django.db import connection

from registry.audit import Action
from registry.models import AuditEvent, Snapshot, TenantFlag
from registry.services.flags import set_flag
from registry.services.kills import engage_kill
from registry.services.tenants import create_tenant
from registry.snapshots import read_head
from registry.snapshots.compile import compile_content
from steernode.snapshot.resolve import resolve

FLIPS = 50


@pytest.mark.django_db(transaction=True)
def test_fifty_flips_at_once_leave_revisions_without_gaps_and_a_head_that_says_what_the_record_says(production, approved, oscar):
    before = Snapshot.objects.count()
    tenants = [create_tenant(f"tenant-{number}", actor=oscar) for number in range(10)]
    barrier = threading.Barrier(FLIPS + 1)
    failures: list[BaseException] = []

    def run(work) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    def flip(number: int) -> None:
        # Every scale is another one, so that each flip is news for the nodes.
        scale = Decimal(number + 1) / 100
        set_flag(production, tenants[number % 10], revision=approved, enabled=True, alpha_scale=scale, reason=str(number), actor=oscar)

    threads = [threading.Thread(target=run, args=(lambda number=number: flip(number),)) for number in range(FLIPS)]
    threads.append(threading.Thread(target=run, args=(lambda: engage_kill("everything", reason="in the middle of it", actor=oscar),)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []

    production.refresh_from_db()
    revisions = list(Snapshot.objects.order_by("revision").values_list("revision", flat=True))
    assert revisions == list(range(1, before + FLIPS + 1))  # One for each flip, and none for the kill.
    assert production.head_revision == revisions[-1]
    assert sum(TenantFlag.objects.values_list("version", flat=True)) == FLIPS
    assert AuditEvent.objects.filter(action=Action.FLAG_CHANGED).count() == FLIPS

    head, told = read_head(production)
    assert head.content_digest == compile_content(production).digest
    assert resolve(told, "tenant-0", "").reason == "killed_everything"
    assert {flag.tenant: flag.alpha_scale for flag in told.flags} == {
        flag.tenant.name: flag.alpha_scale for flag in TenantFlag.objects.select_related("tenant")
    }
