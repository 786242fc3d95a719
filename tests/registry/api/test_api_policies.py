"""Risk policies through the API: who may declare them, and what is no policy."""

import pytest

from registry.audit import Action
from registry.models import AuditEvent, RiskPolicy

TERMS = {
    "alpha_caps": {"absolute": "100", "mean_difference": "1", "residual": "0.5"},
    "composition_budget": "0.6",
    "suite_kinds": ["safety", "factual"],
    "gate_set": "default",
    "minimum_pairs": 500,
    "locales": ["en-US", "de-DE"],
    "evidence_max_age_days": 30,
    "approvals_needed": 2,
    "reviewer_roles": ["approver", "auditor"],
    "approval_valid_days": 14,
    "review_after_days": 90,
    "reason": "Wellbeing replies reach people in distress.",
}
ADDRESS = "/api/v1/risk-policies"


def test_every_registry_has_three_classes_with_the_limits_that_always_held(api, iris):
    found = {policy["name"]: policy for policy in api(iris).get(ADDRESS).json()["results"]}
    assert {name: policy["approvals_needed"] for name, policy in found.items()} == {"low": 1, "medium": 1, "high": 2}
    for policy in found.values():
        assert policy["alpha_caps"] == {"absolute": "1000", "mean_difference": "2", "residual": "1"}


def test_admins_and_approvers_declare_a_class_and_what_they_wrote_is_what_holds(api, root, grace):
    for who, name in ((root, "wellbeing"), (grace, "finance")):
        answer = api(who).post(ADDRESS, {**TERMS, "name": name})
        assert answer.status_code == 201, answer.content
        shown = api(grace).get(f"{ADDRESS}/{name}").json()
        assert shown["changed_by"] == who.username
        assert {field: shown[field] for field in TERMS} == {**TERMS, "suite_kinds": ["factual", "safety"], "locales": ["de-DE", "en-US"]}


def test_nobody_else_declares_or_changes_a_policy(api, ada, oscar, iris):
    for who in (ada, oscar, iris):
        assert api(who).post(ADDRESS, {**TERMS, "name": "mine"}).status_code == 403
        assert api(who).put(f"{ADDRESS}/low", TERMS).status_code == 403
    assert RiskPolicy.objects.count() == 3


def test_a_change_says_in_the_log_what_held_before_and_after(api, root):
    assert api(root).put(f"{ADDRESS}/low", TERMS).status_code == 200
    event = AuditEvent.objects.get(action=Action.POLICY_CHANGED)
    body = bytes(event.body).decode()
    assert '"approvals_needed":2' in body
    assert '"approvals_needed":1' in body
    assert TERMS["reason"] in body
    assert api(root).put(f"{ADDRESS}/low", TERMS).status_code == 200
    assert AuditEvent.objects.filter(action=Action.POLICY_CHANGED).count() == 1


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"alpha_caps": {**TERMS["alpha_caps"], "mean_difference": "2.1"}}, 422, "POLICY_CAP"),
        ({"alpha_caps": {**TERMS["alpha_caps"], "absolute": "-1"}}, 422, "POLICY_CAP"),
        ({"alpha_caps": {"absolute": "1"}}, 400, "VALIDATION"),
        ({"alpha_caps": {**TERMS["alpha_caps"], "furlong": "1"}}, 400, "UNKNOWN_FIELD"),
        ({"alpha_caps": {**TERMS["alpha_caps"], "residual": 0.5}}, 422, "ALPHA_FORMAT"),
        ({"composition_budget": "-0.1"}, 422, "POLICY_BUDGET"),
        ({"composition_budget": "11"}, 422, "POLICY_BUDGET"),
        ({"composition_budget": "0.1234567"}, 422, "ALPHA_FORMAT"),
        ({"suite_kinds": ["vibes"]}, 422, "POLICY_SUITES"),
        ({"gate_set": "lenient"}, 422, "POLICY_GATES"),
        ({"reviewer_roles": []}, 422, "POLICY_ROLES"),
        ({"reviewer_roles": ["wizard"]}, 422, "POLICY_ROLES"),
        ({"locales": ["en US"]}, 422, "POLICY_LOCALES"),
        ({"minimum_pairs": 1}, 422, "POLICY_NUMBER"),
        ({"approvals_needed": 0}, 422, "POLICY_NUMBER"),
        ({"evidence_max_age_days": 0}, 422, "POLICY_NUMBER"),
        ({"approval_valid_days": 0}, 422, "POLICY_NUMBER"),
        ({"review_after_days": 4000}, 422, "POLICY_NUMBER"),
        ({"review_after_days": 2**40}, 422, "POLICY_NUMBER"),
        ({"approvals_needed": "2"}, 400, "VALIDATION"),
        ({"changed_by": "grace"}, 400, "UNKNOWN_FIELD"),
        ({"reason": ""}, 400, "VALIDATION"),
    ],
)
def test_a_term_that_makes_no_sense_is_refused_and_nothing_changes(api, root, change, status, code):
    before = RiskPolicy.objects.values().get(name="low")
    for send, address, extra in ((api(root).post, ADDRESS, {"name": "new"}), (api(root).put, f"{ADDRESS}/low", {})):
        answer = send(address, {**TERMS, **change, **extra})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert RiskPolicy.objects.values().get(name="low") == before
    assert RiskPolicy.objects.count() == 3


def test_a_class_is_declared_once_and_one_that_nobody_declared_is_not_found(api, root, ada):
    answer = api(root).post(ADDRESS, {**TERMS, "name": "low"})
    assert (answer.status_code, answer.json()["code"]) == (409, "POLICY_EXISTS")
    assert api(root).put(f"{ADDRESS}/none", TERMS).status_code == 404
    body = {"name": "p", "intent": "x", "purpose": "tone", "axis": "empathy", "risk_class": "none"}
    answer = api(ada).post("/api/v1/profiles", body)
    assert (answer.status_code, answer.json()["code"]) == (404, "POLICY_NOT_FOUND")
    assert "low" in answer.json()["detail"]
