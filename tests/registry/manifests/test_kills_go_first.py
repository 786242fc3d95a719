"""A kill that comes in the middle of an apply. Real transactions, real threads."""

import threading
import time

import pytest
from django.db import connection

from registry.errors import TransitionRefused
from registry.models import AppliedPlan, Environment, Kill, Tenant
from registry.services.kills import engage_kill
from registry.services.tenants import create_environment
from tests.support.declaring import manifest
from tests.support.racing import somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)
TENANTS = [manifest("Tenant", name) for name in ("harbor", "atlas")]


@pytest.fixture
def kill(oscar):
    """Engages a kill in another thread, and returns that thread once the kill stands at the environments' rows or is committed."""

    def engage() -> threading.Thread:
        thread = threading.Thread(target=run)
        thread.start()
        started = time.monotonic()
        while thread.is_alive() and not somebody_waits("transactionid", "tuple"):
            assert time.monotonic() - started < 10
            time.sleep(0.01)
        return thread

    def run() -> None:
        try:
            engage_kill("everything", reason="Replies promise refunds.", actor=oscar)
        finally:
            connection.close()

    return engage


def test_an_apply_gives_way_whole_and_the_same_plan_can_be_applied_after_the_kill(plan, gitops, oscar, kill):
    from registry.manifests.apply import apply_plan
    from registry.manifests.plan import Options

    create_environment("production", actor=oscar)
    digest, threads = plan(TENANTS).digest, []

    def send(permit):
        return apply_plan(TENANTS, options=Options(), plan_digest=digest, actor=gitops, permit=permit)

    # Roles are asked for when the environments are held and no step is taken yet.
    with pytest.raises(TransitionRefused) as refused:
        send(lambda *roles: threads.append(kill()))
    assert refused.value.code == "KILL_FIRST"
    for thread in threads:
        thread.join(10)
    assert (Kill.objects.count(), Tenant.objects.count(), AppliedPlan.objects.count()) == (1, 0, 0)
    assert Environment.objects.get().head_revision == 2  # Its own, and that of the kill.
    send(lambda *roles: None)
    assert (Tenant.objects.count(), AppliedPlan.objects.count()) == (2, 1)


def test_a_kill_that_is_committed_stops_no_apply(apply, oscar, kill):
    create_environment("production", actor=oscar)
    kill().join(10)
    apply(TENANTS)
    assert Tenant.objects.count() == 2
