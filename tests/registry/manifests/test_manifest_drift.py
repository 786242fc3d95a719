"""Drift: files, registry, last snapshot and nodes, each asked for its own account."""

import pytest
from django.utils import timezone
from hypothesis import example, given, settings

from registry.manifests.drift import find_drift
from registry.manifests.kinds.flag_spec import describe_told
from registry.models import ServingNode, Tenant
from steernode.snapshot.resolve import resolve
from tests.support.declaring import flag, manifest
from tests.support.snapshots import arm as make_arm
from tests.support.snapshots import contents, make_snapshot
from tests.support.snapshots import flag as make_flag


@pytest.fixture
def row():
    """The first row of the drift of some documents, as (files, registry, snapshot, nodes, drifts)."""

    def find(*documents):
        found = find_drift(list(documents))[0]
        return found.files, found.registry, found.snapshot, found.nodes, found.drifts

    return find


@pytest.fixture
def in_step(node):
    def report(environment):
        environment.refresh_from_db()
        ServingNode.objects.update(last_seen_at=timezone.now(), last_result="ACK", applied_revision=environment.head_revision)

    return report


def test_nothing_drifts_where_all_four_agree(row, apply, approved, production, harbor, in_step):
    apply([flag()])
    in_step(production)
    on = "harbor-empathy@1 × 1"
    assert row(flag()) == (on, on, on, "1 of 1 in step", False)


def test_a_flag_turned_off_by_hand_differs_from_its_file(row, apply, approved, production, harbor, oscar, in_step):
    from registry.services.flags import set_flag

    apply([flag()])
    set_flag(production, harbor, enabled=False, reason="by hand", actor=oscar)
    in_step(production)
    assert row(flag()) == ("harbor-empathy@1 × 1", "off", "off", "1 of 1 in step", True)


def test_a_flag_that_differs_in_its_reason_alone_says_so(row, apply, approved, production, harbor, oscar, in_step):
    from registry.services.flags import set_flag

    apply([flag()])
    set_flag(production, harbor, enabled=True, reason="by hand", actor=oscar)
    in_step(production)
    on = "harbor-empathy@1 × 1"
    assert row(flag()) == (on, f"{on}; differs in spec.reason", on, "1 of 1 in step", True)


def test_who_declares_a_flag_is_no_drift(row, apply, approved, production, harbor, in_step):
    apply([flag(manager="git/a")])
    in_step(production)
    assert row(flag(manager="git/b"))[-1] is False


def test_a_kill_is_told_in_the_snapshots_account(row, apply, approved, production, harbor, oscar, in_step):
    from registry.services.kills import engage_kill

    apply([flag()])
    engage_kill("tenant", target="harbor", reason="stop", actor=oscar)
    in_step(production)
    on = "harbor-empathy@1 × 1"
    assert row(flag()) == (on, on, "killed (tenant)", "1 of 1 in step", True)


@pytest.mark.parametrize(
    ("killed", "told"),
    [
        ("harbor-empathy", "warm 1: killed (profile) | short 1: harbor-brevity@1 × 1"),
        ("harbor-brevity", "warm 1: harbor-empathy@1 × 1 | short 1: killed (profile)"),
    ],
)
def test_a_kill_of_one_arms_profile_is_told_of_that_arm(row, apply, approved, also_approved, production, harbor, oscar, killed, told):
    from registry.services.kills import engage_kill

    arms = [{"name": "warm", "weight": 1}, {"name": "short", "weight": 1, "profile": "harbor-brevity", "revision": 1}]
    apply([flag(arms=arms)])
    engage_kill("profile", target=killed, reason="stop", actor=oscar)
    assert row(flag(arms=arms))[2:] == (told, "no nodes", True)


def test_a_route_without_a_flag_of_its_own_is_told_what_it_gets(row, apply, approved, production, harbor):
    apply([flag()])
    _, registry, snapshot, _, drifts = row(flag("production/harbor/chat", alphaScale="0.5"))
    assert (registry, snapshot, drifts) == ("absent", "harbor-empathy@1 × 1, by the tenant's flag", True)
    apply([flag(alphaScale="0")])
    _, registry, snapshot, _, _ = row(flag("production/harbor/chat", alphaScale="0.5"))
    assert (registry, snapshot) == ("absent", "off")


# -- Against what nodes do ------------------------------------------------------------------------------------------------------

KEYS = [f"user-{number}" for number in range(200)]


@settings(max_examples=150, deadline=None)
@given(content=contents())
# On at scale 0, which is off, also for a route that has it from the tenant's flag.
@example(content=([make_flag(alpha_scale="0")], ()))
@example(content=([make_flag(arms=[make_arm("a", alpha_scale="0"), make_arm("b", alpha_scale="0")])], ()))
def test_what_is_told_of_each_arm_is_what_callers_in_it_get(content):
    flags, kills = content
    snapshot = make_snapshot(*flags, kills=kills)
    for route in ("", "chat", "other"):
        told = describe_told(snapshot, "harbor", route)
        decides = snapshot.flag_for("harbor", route)
        bounds = decides.override if decides else None
        asked = (None, bounds.alpha_min, bounds.alpha_max) if bounds else (None,)
        gets = [resolve(snapshot, "harbor", route, key=key, alpha=alpha) for key in KEYS for alpha in asked]
        covered = [effective for effective in gets if effective.reason != "not_in_rollout"]
        if told == "off":
            assert not any(effective.profile for effective in gets)
        elif told.startswith("killed"):
            assert {f"killed ({effective.killed_by})" for effective in covered} == {told}
        else:
            for arm, part in zip(decides.choices, told.split(" | "), strict=True):
                inside = [effective for effective in covered if effective.arm == arm.name]
                assert any(effective.killed_by for effective in inside) == ("killed" in part and bool(inside))
                is_control = bounds is None and part.split(",")[0].endswith("× 0")
                stopped = is_control or "killed" in part or "not served" in part
                assert any(effective.profile for effective in inside) == (not stopped and bool(inside))


def test_a_node_behind_is_told_in_the_nodes_account(row, apply, approved, production, harbor, in_step):
    in_step(production)
    apply([flag(alphaScale="0.5", rollout="25")])
    on = "harbor-empathy@1 × 0.5, for 25 %"
    assert row(flag(alphaScale="0.5", rollout="25")) == (on, on, on, "0 of 1 in step; BEHIND at r1", True)


def test_a_route_that_inherits_drifts_by_what_it_comes_to(row, apply, approved, production, harbor):
    tenant = flag(alphaScale="0.5")
    route = manifest("TenantFlag", "production/harbor/refunds", enabled=True, reason="go", inherits=["revision", "alphaScale", "rollout"])
    apply([tenant, route])
    found = {drift.name: drift for drift in find_drift([tenant, route])}
    assert found["production/harbor/refunds"].snapshot == found["production/harbor/refunds"].files == "harbor-empathy@1 × 0.5"


def test_every_kind_has_its_row_and_looking_is_no_claim(row, apply):
    mine = manifest("Tenant", "harbor", title="A", manager="git/a")
    apply([mine])
    Tenant.objects.update(title="B")
    assert row(mine) == ("declared", "differs in spec.title", "-", "-", True)
    assert row(manifest("Tenant", "harbor", title="B", manager="git/b")) == ("declared", "same", "-", "-", False)
    assert row(manifest("Tenant", "harbor", title="B", labels={"team": "b"}))[1] == "differs in metadata.labels.team"
    assert row(manifest("Environment", "staging")) == ("declared", "absent", "-", "-", True)


def test_what_a_manager_no_longer_declares_is_told(apply):
    apply([manifest("Tenant", "a", manager="git/a"), manifest("Tenant", "b", manager="git/a")])
    gone = find_drift([manifest("Tenant", "a", manager="git/a")])[1]
    assert (gone.name, gone.files, gone.registry, gone.drifts) == ("b", "absent", "present", True)


def test_arms_are_told_each_with_its_share(row, apply, approved, production, harbor):
    arms = [{"name": "warm", "weight": 9}, {"name": "control", "weight": 1, "alphaScale": "0"}]
    apply([flag(arms=arms)])
    files, registry, snapshot, _, _ = row(flag(arms=arms))
    assert files == registry == snapshot == "warm 9: harbor-empathy@1 × 1 | control 1: harbor-empathy@1 × 0"
