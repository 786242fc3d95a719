"""A rollout or a test that starts gets a salt of its own; one that goes on keeps it. What a plan says of who changes sides is so."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from registry.errors import InvalidInput, TransitionRefused
from registry.manifests.apply import apply_plan
from registry.manifests.export import export_manifests
from registry.manifests.plan import Options, make_plan
from registry.manifests.risks import Risks
from registry.models import TenantFlag
from registry.services.flags import ArmSpec, delete_flag, set_flag
from registry.services.freezes import declare_freeze
from registry.snapshots import read_head
from steernode.snapshot.resolve import resolve
from tests.support.declaring import flag as declare
from tests.support.declaring import manifest

CONTROL = ArmSpec("control", 1, alpha_scale=Decimal(0))
KEYS = [f"user-{number}" for number in range(400)]


@pytest.fixture
def put(production, harbor, approved, oscar):
    """put(rollout=...) sets harbor's flag and gives its salts."""

    def change(**stated) -> tuple[str, str]:
        flag = set_flag(production, harbor, **{"enabled": True, "reason": "test", "actor": oscar, "revision": approved, **stated})
        return flag.rollout_salt, flag.arms_salt

    return change


def sides(production, route: str = "") -> dict[str, tuple[str, str]]:
    _, snapshot = read_head(production)
    found = {key: resolve(snapshot, "harbor", route, key=key) for key in KEYS}
    return {key: (each.arm, each.reason) for key, each in found.items()}


def test_a_share_that_grows_or_shrinks_keeps_its_callers_and_one_that_starts_draws_others(put, production):
    assert put() == ("", "")
    first, _ = put(rollout=Decimal(10))
    assert first
    for share in (20, 0, 50):
        assert put(rollout=Decimal(share))[0] == first
    assert put(rollout=Decimal(100))[0] == ""
    second, _ = put(rollout=Decimal(10))
    assert second not in ("", first)


def test_another_revision_of_the_profile_goes_on_and_another_profile_starts(put, also_approved):
    first, _ = put(rollout=Decimal(10))
    assert put(alpha_scale=Decimal("0.5"))[0] == put(enabled=False)[0] == first
    assert put(revision=also_approved)[0] != first


def test_a_test_keeps_its_salt_while_an_arm_goes_on_and_each_test_has_its_own(put, also_approved):
    _, first = put(arms=[ArmSpec("warm", 1), CONTROL])
    assert first
    assert put(arms=[ArmSpec("more", 1), CONTROL, ArmSpec("warm", 3)])[1] == first
    assert put(arms=[ArmSpec("warm", 1, alpha_scale=Decimal("0.5"))])[1] == first
    _, other_profile = put(arms=[ArmSpec("warm", 1, also_approved), ArmSpec("control", 1, also_approved, Decimal(0))])
    assert other_profile != first
    put(arms=[])
    _, again = put(arms=[ArmSpec("warm", 1, also_approved), CONTROL])
    assert again not in ("", first, other_profile)


def test_starting_a_test_moves_nobody_in_or_out_of_the_share(put, production):
    put(rollout=Decimal(40))
    before = {key for key, (_, reason) in sides(production).items() if reason == "not_in_rollout"}
    put(arms=[ArmSpec("warm", 1), CONTROL])
    assert {key for key, (_, reason) in sides(production).items() if reason == "not_in_rollout"} == before


def test_a_third_arm_moves_callers_only_to_itself_and_the_order_moves_nobody(put, production):
    put(arms=[ArmSpec("warm", 1), CONTROL])
    before = sides(production)
    put(arms=[CONTROL, ArmSpec("warm", 1)])
    assert sides(production) == before
    put(arms=[ArmSpec("more", 1), CONTROL, ArmSpec("warm", 1)])
    after = sides(production)
    assert {after[key][0] for key in KEYS if after[key] != before[key]} == {"more"}


def test_a_route_stands_as_its_tenant_does_where_it_inherits_and_on_its_own_where_it_states(put, production, harbor, oscar):
    put(rollout=Decimal(50), arms=[ArmSpec("warm", 1), CONTROL])
    set_flag(production, harbor, route="chat", enabled=True, reason="x", actor=oscar)
    assert sides(production, "chat") == sides(production)
    own = set_flag(production, harbor, route="chat", enabled=True, reason="x", actor=oscar, rollout=Decimal(50))
    assert own.rollout_salt
    assert sides(production, "chat") != sides(production)
    back = set_flag(production, harbor, route="chat", enabled=True, reason="x", actor=oscar, inherit=["rollout"])
    assert (back.rollout_salt, sides(production, "chat")) == ("", sides(production))


def test_what_was_there_before_there_were_salts_goes_on_without(put, production):
    put(rollout=Decimal(50), arms=[ArmSpec("warm", 1), CONTROL])
    TenantFlag.objects.update(rollout_salt="", arms_salt="")
    assert put(rollout=Decimal(60)) == ("", "")


def test_a_salt_may_be_stated_and_has_the_form_of_a_name(put, production, harbor, oscar):
    assert put(rollout=Decimal(5), rollout_salt="spring", arms=[CONTROL, ArmSpec("warm", 1)], arms_salt="autumn") == ("spring", "autumn")
    for salt in ("a b", "\u00e9", "x" * 41, "-"):
        with pytest.raises(InvalidInput) as refused:
            put(rollout_salt=salt)
        assert refused.value.code == "FLAG_SALT"
    with pytest.raises(InvalidInput) as refused:
        set_flag(production, harbor, route="chat", enabled=True, reason="x", actor=oscar, rollout_salt="spring")
    assert (refused.value.code, refused.value.item) == ("FLAG_SALT", "rollout_salt")


def test_a_salt_that_splits_nobody_is_not_kept(put):
    assert put(rollout=Decimal(100), rollout_salt="spring", arms_salt="autumn") == ("", "")
    assert put(rollout=Decimal(50), rollout_salt="spring", arms=[CONTROL, ArmSpec("warm", 1)], arms_salt="autumn") == ("spring", "autumn")
    assert put(rollout=Decimal(100), arms=[]) == ("", "")


def test_the_api_takes_and_gives_salts(put, api, oscar):
    put(rollout=Decimal(5), arms=[CONTROL, ArmSpec("warm", 1)])
    answer = (
        api(oscar)
        .put(
            "/api/v1/environments/production/flags/harbor",
            {"enabled": True, "reason": "x", "rollout_salt": "spring", "arms_salt": "autumn"},
        )
        .json()
    )
    assert (answer["rollout_salt"], answer["arms_salt"]) == ("spring", "autumn")


def test_a_freeze_refuses_other_callers(put, production, oscar):
    put(rollout=Decimal(50))
    declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="x", actor=oscar)
    with pytest.raises(TransitionRefused) as refused:
        put(rollout_salt="others")
    assert refused.value.code == "FREEZE"


# -- Files ------------------------------------------------------------------------------------------------------------------------


def risks_of(*documents) -> dict[str, str]:
    plan = make_plan(list(documents), Options())
    risks = Risks(plan)
    return {risk.code: risk.message for step in plan.changes for risk in risks.of(step)}


def arms(*names: str, **weights: int) -> list[dict]:
    return [{"name": name, "weight": weights.get(name, 1), **({"alphaScale": "0"} if name == "control" else {})} for name in names]


def test_a_plan_says_which_share_of_the_callers_changes_sides(put, production):
    put(rollout=Decimal(50), arms=[ArmSpec("warm", 1), CONTROL])
    same = {"rollout": "50", "arms": arms("warm", "control")}

    def percent(**spec) -> int:
        said = risks_of(declare(**{**same, **spec})).get("SIDES_CHANGE", "about 0 %")
        return int(said.split()[1])

    assert percent(arms=arms("control", "warm")) == 0
    # Half of them are in the share, and the new arm takes a third of these.
    assert 13 <= percent(arms=arms("warm", "control", "more")) <= 20
    assert 7 <= percent(rollout="60") <= 13
    # Of a new salt a quarter leaves the share, a quarter comes; of those who stay nobody changes arms.
    assert 45 <= percent(rolloutSalt="others") <= 55
    # Of another test half of those in the share are on the other side.
    assert 20 <= percent(armsSalt="others") <= 30
    assert percent(reason="no other") == 0


def test_an_export_keeps_everybody_where_they_are_and_a_file_without_salts_leaves_them(put, production, oscar):
    put(rollout=Decimal(50), arms=[ArmSpec("warm", 1), CONTROL])
    (exported,) = [each for each in export_manifests() if each["kind"] == "TenantFlag"]
    row = TenantFlag.objects.get()
    assert (exported["spec"]["rolloutSalt"], exported["spec"]["armsSalt"]) == (row.rollout_salt, row.arms_salt)
    without = {**exported, "spec": {name: value for name, value in exported["spec"].items() if not name.endswith("Salt")}}
    for document in (exported, without):
        assert not make_plan([document], Options()).changes
    before = sides(production)
    changed = {**without, "spec": {**without["spec"], "reason": "another"}}
    apply_plan([changed], options=Options(), plan_digest=make_plan([changed], Options()).digest, actor=oscar, permit=lambda *roles: None)
    assert sides(production) == before


def take_export() -> list[dict]:
    return [each for each in export_manifests() if each["kind"] == "TenantFlag"]


def apply_all(documents: list[dict], oscar) -> None:
    plan = make_plan(documents, Options())
    apply_plan(documents, options=Options(), plan_digest=plan.digest, actor=oscar, permit=lambda *roles: None)


@pytest.mark.parametrize("has_salts", [True, False])
def test_an_earlier_export_brings_back_who_was_on_which_side(put, production, oscar, has_salts):
    test = {"rollout": Decimal(50), "arms": [ArmSpec("warm", 1), CONTROL]}
    put(**test)
    if not has_salts:
        TenantFlag.objects.update(rollout_salt="", arms_salt="")
        put(reason="from before there were salts")
    before, documents = sides(production), take_export()
    # The test ends, and another one of the same form begins.
    put(rollout=Decimal(100), arms=[])
    put(**test)
    assert sides(production) != before
    apply_all(documents, oscar)
    assert sides(production) == before
    # The flag goes, and comes back.
    put(enabled=False)
    delete_flag(TenantFlag.objects.get().pk, actor=oscar)
    apply_all(documents, oscar)
    assert sides(production) == before


def test_an_export_of_what_splits_nobody_takes_the_salts_of_a_later_test_away(put, oscar):
    put()
    documents = take_export()
    assert not {"rolloutSalt", "armsSalt"} & set(documents[0]["spec"])
    put(rollout=Decimal(50), arms=[ArmSpec("warm", 1), CONTROL])
    apply_all(documents, oscar)
    row = TenantFlag.objects.get()
    assert (row.rollout_salt, row.arms_salt) == ("", "")


def test_a_file_that_states_a_salt_of_nothing_plans_to_nothing(put):
    put()
    assert not make_plan([declare(rolloutSalt="spring", armsSalt="autumn", reason="test")], Options()).changes


def test_a_salt_in_a_file_is_set(put, production, oscar):
    put(rollout=Decimal(50))
    documents = [declare(rollout="50", rolloutSalt="spring"), manifest("Tenant", "harbor")]
    apply_plan(documents, options=Options(), plan_digest=make_plan(documents, Options()).digest, actor=oscar, permit=lambda *roles: None)
    assert TenantFlag.objects.get().rollout_salt == "spring"
