"""What raises steering is confirmed over the API by the digest of its plan."""

import pytest

from tests.support.api import code_of

HERE = "/api/v1/environments/production/flags/harbor"
MOVE = "/api/v1/environments/production/move"


@pytest.fixture
def operator(api, oscar):
    """oscar, whose program confirms nothing by itself."""
    client = api(oscar)
    client.says_yes = False
    return client


def test_a_flag_is_turned_on_with_the_digest_of_its_plan(operator, production, harbor, approved):
    body = {"enabled": True, "profile": "harbor-empathy", "revision": 1, "alpha_scale": "1", "reason": "go"}
    assert code_of(operator.put(HERE, body)) == (428, "CONFIRMATION_NEEDED")
    plan = operator.post(f"{HERE}/plan", body).json()
    assert (plan["raises"], plan["newly_steered"]) == ("harbor would get steering, and gets none", ["harbor"])
    anew = "harbor is not steered in production now, and would be"
    assert {"code": "TENANT_NEWLY_STEERED", "message": anew, "blocks": False} in plan["risks"]
    assert code_of(operator.put(HERE, body | {"confirm": "0" * 64})) == (409, "PLAN_STALE")
    assert code_of(operator.put(HERE, body | {"confirm": "yes"})) == (400, "VALIDATION")
    assert operator.put(HERE, body | {"confirm": plan["digest"]}).json()["enabled"] is True
    assert operator.put(HERE, body | {"alpha_scale": "0.9", "confirm": "0" * 64}).status_code == 200


def test_turning_off_and_lowering_take_no_digest(operator, flag_on):
    for body in ({"enabled": True, "rollout": "10"}, {"enabled": False}):
        assert operator.put(HERE, {**body, "reason": "less"}).status_code == 200
        assert operator.post(f"{HERE}/plan", body).json()["raises"] == ""


def test_an_environment_is_moved_with_a_reason_and_the_digest_of_its_plan(operator, flag_on, new_files):
    body = {"base_model": "harbor-support", "reason": "new weights"}
    assert code_of(operator.post(MOVE, body)) == (428, "CONFIRMATION_NEEDED")
    plan = operator.post(f"{MOVE}/plan", {"base_model": "harbor-support"}).json()
    assert any(risk["message"].startswith("turns off 1 flag") for risk in plan["risks"])
    assert code_of(operator.post(MOVE, {"base_model": "harbor-support", "confirm": plan["digest"]})) == (400, "VALIDATION")
    assert operator.post(MOVE, body | {"confirm": plan["digest"]}).json()["flags_off"] == ["harbor"]


def test_whoever_sees_one_tenant_plans_for_that_one(api, person, root, harbor, atlas, flag_on):
    from registry.services.people import change_access

    lina = person("lina", "operator")
    change_access(lina, roles=["operator"], tenants=[harbor], is_active=True, actor=root)
    assert api(lina).post(f"{HERE}/plan", {"enabled": False}).status_code == 200
    assert code_of(api(lina).post(f"{HERE.replace('harbor', 'atlas')}/plan", {"enabled": False})) == (404, "TENANT_NOT_FOUND")
