"""Default is no steering: off needs one person, on needs two, and a kill needs nobody's leave."""

import pytest

from registry.errors import TransitionRefused
from registry.models import TenantFlag
from registry.reads.steering import head_snapshot
from registry.services.approvals import approve_revision
from registry.services.kills import confirm_lift, engage_kill, request_lift
from registry.services.profiles import draft_revision, edit_revision, retire_revision, submit_revision
from registry.snapshots import read_snapshot
from steernode.errors import AlphaError
from steernode.snapshot.resolve import resolve
from tests.support.steering import put, reason_for


def test_a_tenant_without_a_flag_is_not_steered(production, harbor, approved):
    assert reason_for(production, "harbor") == "no_flag"


@pytest.mark.parametrize("state", ["draft", "submitted"])
def test_only_an_approved_revision_is_turned_on(production, harbor, submitted, component, ada, oscar, state):
    if state == "draft":
        edit_revision(submitted.pk, components=[component], actor=ada)
    before = head_snapshot(production)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "FLAG_NOT_APPROVED"):
        put(production, harbor, submitted, oscar)
    assert not TenantFlag.objects.exists()
    assert head_snapshot(production) == before


def test_off_works_for_any_revision(production, harbor, submitted, oscar):
    assert put(production, harbor, submitted, oscar, enabled=False).enabled is False


@pytest.mark.parametrize("scale", ["1.1", "-0.5", "10.5"])
def test_a_scale_past_what_was_approved_is_refused(production, harbor, approved, oscar, scale):
    with pytest.raises(AlphaError, check=lambda error: error.code == "ALPHA_RANGE"):
        put(production, harbor, approved, oscar, scale=scale)
    assert not TenantFlag.objects.exists()


def test_a_route_has_a_flag_of_its_own(production, harbor, approved, oscar):
    put(production, harbor, approved, oscar, route="chat")
    assert reason_for(production, "harbor", "chat") == "flag_on"
    assert reason_for(production, "harbor") == "no_flag"


def test_rollback_is_a_new_higher_revision_that_says_what_it_undoes(production, flag_on, harbor, approved, oscar):
    *_, before, on = production.snapshots.order_by("revision")
    put(production, harbor, approved, oscar, enabled=False)
    head = head_snapshot(production)
    assert (head.revision, head.rollback_of) == (on.revision + 1, on.revision)
    assert head.content_digest == before.content_digest


def test_two_tenants_may_be_on_two_revisions_of_one_profile(production, flag_on, atlas, component, approved, ada, grace, oscar):
    """An upgrade, and its rollback, happens tenant by tenant."""
    second = draft_revision(approved.profile, components=[component], author=ada)
    second = submit_revision(second.pk, evaluation=approved.evaluation, actor=ada)
    digests = {"revision_digest": second.digest, "evidence_digest": second.evaluation.digest}
    second = approve_revision(second.pk, reviewer=grace, comment="again", **digests)
    put(production, atlas, second, oscar)
    snapshot = read_snapshot(head_snapshot(production))
    assert [resolve(snapshot, tenant, "").profile.revision for tenant in ("harbor", "atlas")] == [1, 2]


def test_a_change_that_nodes_would_not_notice_publishes_nothing(production, flag_on, harbor, approved, oscar):
    before = head_snapshot(production)
    put(production, harbor, approved, oscar)
    assert head_snapshot(production) == before


@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("tenant", "harbor", "killed_tenant"),
        ("profile", "harbor-empathy", "killed_profile"),
        ("environment", "production", "killed_environment"),
        ("everything", "", "killed_everything"),
    ],
)
def test_one_person_kills_and_two_lift(production, flag_on, oscar, grace, kind, target, reason):
    kill = engage_kill(kind, target=target, reason="complaint", actor=oscar)
    assert reason_for(production, "harbor") == reason
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "KILL_LIFT_NEEDS_TWO"):
        confirm_lift(kill.pk, actor=grace)
    request_lift(kill.pk, reason="found", actor=oscar)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "KILL_LIFT_NEEDS_TWO"):
        confirm_lift(kill.pk, actor=oscar)
    confirm_lift(kill.pk, actor=grace)
    assert reason_for(production, "harbor") == "flag_on"


def test_a_service_account_does_not_lift_what_its_owner_asked_to_lift(flag_on, oscar, person):
    kill = engage_kill("everything", reason="x", actor=oscar)
    request_lift(kill.pk, reason="found", actor=oscar)
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "KILL_LIFT_NEEDS_TWO"):
        confirm_lift(kill.pk, actor=person("robot", "operator", acts_for=oscar))


def test_everything_may_be_named_as_it_is_told(flag_on, production, oscar):
    kill = engage_kill("everything", target="*", reason="x", actor=oscar)
    assert (kill.target, reason_for(production, "harbor")) == ("*", "killed_everything")


def test_killing_what_is_killed_is_the_same_kill(flag_on, oscar, grace):
    first = engage_kill("tenant", target="harbor", reason="one", actor=oscar)
    assert engage_kill("tenant", target="harbor", reason="two", actor=grace).pk == first.pk


def test_a_retired_revision_steers_nobody(production, flag_on, approved, oscar):
    retire_revision(approved.pk, reason="superseded", actor=oscar)
    assert reason_for(production, "harbor") == "no_flag"
