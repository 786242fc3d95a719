"""Flags, their history, freezes, kills of one environment and the explanation, over the REST API."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from registry.models import Kill
from registry.services.flags import ArmSpec, set_flag
from registry.services.freezes import declare_freeze
from registry.services.kills import engage_kill
from registry.services.profiles import retire_revision
from steernode.snapshot.records import AlphaBounds
from tests.support.api import code_of

HERE = "/api/v1/environments/production/flags/harbor"
EXPLAIN = "/api/v1/environments/production/explain"
GOOD = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "reason": "go"}
ARMS = [{"name": "warm", "weight": 9}, {"name": "control", "weight": 1, "alpha_scale": "0"}]


def test_a_flag_is_set_read_and_changed_with_all_its_fields(api, oscar, production, harbor, approved):
    operator = api(oscar)
    stated = {"rollout": "12.5", "arms": ARMS, "override": {"alpha_min": "0", "alpha_max": "0.5"}, "alpha_scale": "0.5"}
    answer = operator.put(HERE, GOOD | stated)
    assert answer.status_code == 200, answer.content
    flag = operator.get(HERE).json()
    assert flag == answer.json()
    assert (flag["rollout"], flag["alpha_scale"], flag["override"]) == ("12.5", "0.5", {"alpha_min": "0", "alpha_max": "0.5"})
    assert [(arm["name"], arm["weight"], arm["alpha_scale"], arm["profile"]) for arm in flag["arms"]] == [
        ("warm", 9, None, None),
        ("control", 1, "0", None),
    ]
    off = operator.put(HERE, {"enabled": False, "reason": "complaint"}).json()
    assert (off["enabled"], off["rollout"], len(off["arms"]), off["version"]) == (False, "12.5", 2, 2)


def test_a_route_says_what_it_inherits(api, oscar, flag_on):
    operator = api(oscar)
    route = operator.put(HERE, {"route": "chat", "enabled": True, "alpha_scale": "0.5", "reason": "softer"}).json()
    assert route["inherits"] == ["revision", "rollout", "arms", "override"]
    assert (route["profile"], route["rollout"], route["alpha_scale"]) == (None, None, "0.5")
    assert operator.get(f"{HERE}?route=chat").json() == route
    given_back = operator.put(HERE, {"route": "chat", "enabled": True, "inherit": ["alpha_scale"], "reason": "as ever"}).json()
    assert (given_back["alpha_scale"], "alpha_scale" in given_back["inherits"]) == (None, True)


def test_a_stale_if_match_changes_nothing(api, oscar, flag_on):
    operator = api(oscar)
    read = operator.get(HERE)["ETag"]
    changed = operator.put(HERE, {"enabled": True, "alpha_scale": "0.5", "reason": "x"}, headers={"If-Match": read})
    assert (changed.status_code, changed["ETag"] != read) == (200, True)
    answer = operator.put(HERE, {"enabled": True, "alpha_scale": "0.9", "reason": "x"}, headers={"If-Match": read})
    assert code_of(answer) == (412, "FLAG_CHANGED")
    assert operator.get(HERE).json()["alpha_scale"] == "0.5"


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"rollout": 12.5}, (422, "ALPHA_FORMAT")),
        ({"rollout": "NaN"}, (422, "ALPHA_FORMAT")),
        ({"rollout": "1e1"}, (422, "ALPHA_FORMAT")),
        ({"rollout": "101"}, (422, "FLAG_ROLLOUT")),
        ({"rollout": "0.0001"}, (422, "FLAG_ROLLOUT")),
        ({"alpha_scale": "9" * 40}, (422, "ALPHA_FORMAT")),
        ({"alpha_scale": "-0"}, (422, "ALPHA_FORMAT")),
        ({"alpha_scale": "0,5"}, (422, "ALPHA_FORMAT")),
        ({"alpha_scale": "1000000"}, (422, "ALPHA_RANGE")),
        ({"override": {"alpha_min": "0", "alpha_max": "0.6"}}, (422, "ALPHA_RANGE")),
        ({"override": {"alpha_min": "1", "alpha_max": "0"}}, (422, "FLAG_OVERRIDE")),
        ({"override": {"alpha_min": "0"}}, (400, "VALIDATION")),
        ({"override": {"alpha_min": "0", "alpha_max": "0.1", "unit": "x"}}, (400, "UNKNOWN_FIELD")),
        ({"override": "0 to 0.5"}, (400, "VALIDATION")),
        ({"arms": [{"name": "a b", "weight": 1}]}, (400, "VALIDATION")),
        ({"arms": [{"name": "=HYPERLINK()", "weight": 1}]}, (400, "VALIDATION")),
        ({"arms": [{"name": "a", "weight": True}]}, (400, "VALIDATION")),
        ({"arms": [{"name": "a", "weight": 0}]}, (400, "VALIDATION")),
        ({"arms": [{"name": "a", "weight": 1, "profile": "harbor-empathy"}]}, (400, "VALIDATION")),
        ({"arms": [{"name": "a", "weight": 1, "profile": "harbor-empathy", "revision": 9}]}, (404, "REVISION_NOT_FOUND")),
        ({"arms": [{"name": "a", "weight": 1}] * 11}, (400, "VALIDATION")),
        ({"arms": [{"name": "a", "weight": 1, "state": "approved"}]}, (400, "UNKNOWN_FIELD")),
        ({"arms": {}}, (400, "VALIDATION")),
        ({"inherit": ["rollout"]}, (422, "FLAG_INHERITS")),
        ({"inherit": ["mood"]}, (400, "VALIDATION")),
        ({"inherit": "rollout"}, (400, "VALIDATION")),
        ({"route": "x" * 101}, (400, "VALIDATION")),
        ({"version": 7}, (400, "UNKNOWN_FIELD")),
    ],
)
def test_a_flag_that_means_nothing_is_refused_with_a_code(api, oscar, flag_on, unchanged, stated, expected):
    operator = api(oscar)
    before = unchanged()
    assert code_of(operator.put(HERE, GOOD | stated)) == expected
    assert unchanged() == before


def test_bad_questions_about_a_flag(api, oscar, flag_on):
    operator = api(oscar)
    assert code_of(operator.get(f"{HERE}?route=nowhere")) == (404, "FLAG_NOT_FOUND")
    assert code_of(operator.get(f"{HERE}/history?route=nowhere")) == (404, "FLAG_NOT_FOUND")
    assert code_of(operator.get(f"{HERE}?rout=chat")) == (400, "UNKNOWN_FIELD")
    assert code_of(operator.get(HERE.replace("harbor", "nobody"))) == (404, "TENANT_NOT_FOUND")
    assert code_of(operator.get(f"{HERE}?route=%00")) == (400, "VALIDATION")


def test_the_history_says_who_when_why_and_what(api, oscar, iris, flag_on):
    operator = api(oscar)
    hostile = '=HYPERLINK("x") <script> \u202e'
    operator.put(HERE, {"enabled": True, "rollout": "50", "reason": hostile})
    operator.put(HERE, {"enabled": False, "reason": "complaint"})
    changes = api(iris).get(f"{HERE}/history").json()["results"]
    assert [(change["actor"], change["reason"], change["changes"]) for change in changes] == [
        ("oscar", "complaint", ["enabled: yes → no"]),
        ("oscar", hostile.strip(), ["rollout: 100 → 50"]),
        ("oscar", "go", []),
    ]
    page = api(iris).get(f"{HERE}/history?size=1").json()
    assert (len(page["results"]), page["results"][0]["changes"]) == (1, ["enabled: yes → no"])


# -- The explanation ------------------------------------------------------------------------------------------------------------


def explain(client, **asked):
    return client.get(EXPLAIN, {"tenant": "harbor", **asked})


def rules_of(answer) -> dict[str, str]:
    return {rule["rule"]: rule["says"] for rule in answer.json()["rules"]}


def test_the_explanation_tells_every_rule_in_order(api, iris, oscar, production, harbor, approved, known_salt):
    arms = [ArmSpec("warm", 9), ArmSpec("control", 1, alpha_scale=Decimal(0))]
    stated = {"rollout": Decimal(60), "arms": arms, "override": AlphaBounds(Decimal(0), Decimal("0.5"))}
    set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, **stated)
    set_flag(production, harbor, route="chat", enabled=True, reason="softer", actor=oscar, alpha_scale=Decimal("0.5"))
    declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="holiday", actor=oscar)
    answer = explain(api(iris), route="chat", key="user-1", alpha="0.3")
    body = answer.json()
    assert (body["reason"], body["arm"], body["profile"], body["components"][0]["alpha"]) == ("override", "warm", "harbor-empathy", "0.3")
    assert [rule["rule"] for rule in body["rules"]] == [
        "kill",
        "freeze",
        "flag",
        "inheritance",
        "rollout",
        "arm",
        "profile",
        "override",
        "scale",
        "base model",
        "staleness",
        "safety override",
        "conditions",
    ]
    rules = rules_of(answer)
    assert "what is served stays as it is" in rules["freeze"]
    assert rules["inheritance"] == "the route has from the tenant's flag: revision, rollout, arms, override"
    assert "58.991 %" in rules["rollout"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [({"alpha": "0.6"}, "OVERRIDE_NOT_ALLOWED"), ({"key": "user-1"}, "flag_on"), ({"route": "anything"}, "flag_on")],
)
def test_the_explanation_of_a_refusal_is_an_answer(api, iris, flag_on, asked, reason):
    answer = explain(api(iris), **asked)
    assert (answer.status_code, answer.json()["reason"], bool(answer.json()["refusal"])) == (200, reason, reason.isupper())


def test_the_explanation_says_why_a_flag_that_is_on_steers_nobody(api, iris, oscar, production, harbor, atlas, flag_on, approved):
    reader = api(iris)
    assert "the tenant has no flag here" in rules_of(reader.get(EXPLAIN, {"tenant": "atlas"}))["flag"]
    set_flag(production, harbor, route="chat", enabled=True, reason="x", actor=oscar, alpha_scale=Decimal("0.5"))
    set_flag(production, harbor, enabled=False, reason="complaint of a customer", actor=oscar)
    assert "complaint of a customer" in rules_of(explain(reader))["flag"]
    assert "the tenant's flag is off, which is the main switch" in rules_of(explain(reader, route="chat"))["flag"]
    set_flag(production, harbor, enabled=True, reason="again", actor=oscar)
    retire_revision(approved.pk, reason="superseded", actor=oscar)
    assert "harbor-empathy r1 is retired and may not steer here" in rules_of(explain(reader))["flag"]


def test_the_explanation_of_a_kill_stops_at_the_kill(api, iris, oscar, flag_on):
    engage_kill("tenant", target="harbor", reason="x", actor=oscar)
    answer = explain(api(iris))
    assert answer.json()["reason"] == "killed_tenant"
    assert answer.json()["rules"] == [{"rule": "kill", "says": "a kill of the tenant harbor is in force", "reason": "killed_tenant"}]


def test_bad_questions_for_an_explanation(api, iris, flag_on):
    reader = api(iris)
    assert code_of(explain(reader, alpha="1e309")) == (422, "ALPHA_FORMAT")
    assert code_of(explain(reader, alpha="0,5")) == (422, "ALPHA_FORMAT")
    assert code_of(explain(reader, mood="x")) == (400, "UNKNOWN_FIELD")
    assert code_of(reader.get(EXPLAIN)) == (400, "VALIDATION")
    assert code_of(reader.get(EXPLAIN, {"tenant": "nobody"})) == (404, "TENANT_NOT_FOUND")


# -- Freezes --------------------------------------------------------------------------------------------------------------------

FREEZES = "/api/v1/environments/production/freezes"


def in_hours(hours: float) -> str:
    return (timezone.now() + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_freeze_is_declared_met_and_ended(api, oscar, grace, flag_on):
    operator = api(oscar)
    operator.put(HERE, {"enabled": True, "alpha_scale": "0.5", "reason": "x"})
    freeze = operator.post(FREEZES, {"ends_at": in_hours(1), "reason": "Black Friday"})
    assert (freeze.status_code, freeze.json()["state"]) == (201, "in force")
    answer = operator.put(HERE, {"enabled": True, "alpha_scale": "1", "reason": "x"})
    assert code_of(answer) == (409, "FREEZE")
    assert "Black Friday" in answer.json()["detail"]
    assert operator.put(HERE, {"enabled": False, "reason": "x"}).status_code == 200
    ended = api(grace).post(f"/api/v1/freezes/{freeze.json()['id']}/end", {"reason": "all quiet"})
    assert (ended.status_code, ended.json()["state"], ended.json()["ended_by"]) == (200, "ended", "grace")
    assert operator.put(HERE, {"enabled": True, "alpha_scale": "1", "reason": "x"}).status_code == 200
    assert [row["state"] for row in operator.get(FREEZES).json()["results"]] == ["ended"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"ends_at": "2026-02-30T00:00:00Z"}, (400, "VALIDATION")),
        ({"ends_at": "10000-01-01T00:00:00Z"}, (400, "VALIDATION")),
        ({"ends_at": "2027-01-01T00:00:00"}, (400, "VALIDATION")),
        ({"ends_at": "2027-01-01"}, (400, "VALIDATION")),
        ({"ends_at": 1798761600}, (400, "VALIDATION")),
        ({}, (400, "VALIDATION")),
        ({"ends_at": "2020-01-01T00:00:00Z"}, (422, "FREEZE_WINDOW")),
        ({"ends_at": "3026-01-01T00:00:00Z"}, (422, "FREEZE_WINDOW")),
        ({"ends_at": in_hours(2), "starts_at": in_hours(3)}, (422, "FREEZE_WINDOW")),
        ({"ends_at": in_hours(2), "environment": "staging"}, (400, "UNKNOWN_FIELD")),
    ],
)
def test_a_window_that_is_none_is_refused(api, oscar, production, body, expected):
    assert code_of(api(oscar).post(FREEZES, {"reason": "x", **body})) == expected


# -- Kills ----------------------------------------------------------------------------------------------------------------------


def test_a_kill_of_one_environment_and_the_list_of_those_in_force(api, oscar, grace, flag_on):
    operator = api(oscar)
    kill = operator.post("/api/v1/kills", {"kind": "tenant", "target": "harbor", "environment": "production", "reason": "x"})
    assert (kill.status_code, kill.json()["environment"], kill.json()["target"]) == (201, "production", "harbor")
    assert [row["id"] for row in operator.get("/api/v1/kills?is_engaged=true").json()["results"]] == [kill.json()["id"]]
    operator.post(f"/api/v1/kills/{kill.json()['id']}/request-lift", {"reason": "x"})
    api(grace).post(f"/api/v1/kills/{kill.json()['id']}/confirm-lift", {})
    assert operator.get("/api/v1/kills?is_engaged=true").json()["results"] == []
    assert len(operator.get("/api/v1/kills?is_engaged=false").json()["results"]) == 1
    assert code_of(operator.get("/api/v1/kills?is_engaged=1")) == (400, "VALIDATION")


def test_a_kill_needs_no_key_and_no_tag(api, oscar, flag_on):
    """Whatever a client has forgotten to send, it may stop steering."""
    declare_freeze(flag_on.environment, ends_at=timezone.now() + timedelta(hours=1), reason="x", actor=oscar)
    answer = api(oscar).post("/api/v1/kills", {"kind": "everything", "reason": "now"}, headers={"If-Match": '"something else"'})
    assert answer.status_code == 201
    assert Kill.objects.get().kind == "everything"
