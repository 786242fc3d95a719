"""A kill that comes in the middle of an apply waits for nothing, and the apply goes on. Real transactions, real threads."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from registry.audit import Action
from registry.models import AppliedPlan, AuditEvent, Kill, StopStatement, Tenant, User
from registry.services.kills import engage_kill
from registry.services.people import change_access
from registry.services.profiles import delete_profile, edit_profile
from registry.services.tenants import create_environment, create_tenant, delete_tenant, rename_tenant
from registry.services.transition import all_or_nothing
from steernode.stop.document import parse_stop
from tests.support.declaring import manifest

pytestmark = pytest.mark.django_db(transaction=True)
TENANTS = [manifest("Tenant", name) for name in ("harbor", "atlas")]
AT_ONCE_SECONDS = 0.5


@pytest.fixture
def kill(oscar):
    """Engages a kill in another transaction while the caller's is open; how many seconds it took until it was committed."""

    def run(kind: str = "everything", target: str = "", **more: str) -> float:
        def engage() -> None:
            try:
                engage_kill(kind, target=target, reason="Replies promise refunds.", actor=oscar, **more)
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as beside:
            started = time.monotonic()
            beside.submit(engage).result(10)
            return time.monotonic() - started

    return run


def test_a_kill_lands_in_the_middle_of_an_apply_and_both_stay(plan, gitops, oscar, kill):
    from registry.manifests.apply import apply_plan
    from registry.manifests.plan import Options

    create_environment("production", actor=oscar)
    digest, took = plan(TENANTS).digest, []
    # Roles are asked for when the environments are held and no step is taken yet.
    apply_plan(TENANTS, options=Options(), plan_digest=digest, actor=gitops, permit=lambda *roles: took or took.append(kill()))
    assert took[0] < AT_ONCE_SECONDS
    assert (Kill.objects.count(), Tenant.objects.count(), AppliedPlan.objects.count()) == (1, 2, 1)
    first, last = AuditEvent.objects.filter(action__in=[Action.KILL_ENGAGED, Action.MANIFESTS_APPLIED]).order_by("seq")
    assert (first.action, last.action) == (Action.KILL_ENGAGED, Action.MANIFESTS_APPLIED)


def test_a_kill_waits_for_nobody_who_holds_what_it_refers_to(production, harbor, profile, ada, root, oscar, kill):
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=ada):
        rename_tenant("harbor", title="Harbor & Sons", actor=oscar)
        edit_profile(profile.name, intent="Warmer.", purpose="tone", axis="empathy", risk_class="low", actor=ada)
        change_access(User.objects.get(pk=oscar.pk), roles=["operator", "author"], tenants=None, is_active=True, actor=root)
        kills = [("everything", ""), ("environment", "production"), ("tenant", "harbor"), ("profile", profile.name)]
        took = [kill(kind, target) for kind, target in kills] + [kill("tenant", "harbor", environment="production")]
        assert max(took) < AT_ONCE_SECONDS
    statement = parse_stop(StopStatement.objects.first().payload)
    assert len(statement.kills) == Kill.objects.count() == 5


def test_what_is_being_deleted_is_killed_by_its_name(production, profile, ada, oscar, kill):
    create_tenant("gone", actor=oscar)
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=ada):
        delete_profile(profile.name, actor=ada)
        delete_tenant("gone", actor=oscar)
        assert max(kill("profile", profile.name), kill("tenant", "gone")) < AT_ONCE_SECONDS
    assert set(Kill.objects.values_list("kind", "target", "profile", "tenant")) == {
        ("profile", "harbor-empathy", None, None),
        ("tenant", "gone", None, None),
    }
    assert {kill.target for kill in parse_stop(StopStatement.objects.first().payload).kills} == {"harbor-empathy", "gone"}
