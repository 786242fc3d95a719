"""Manifests through the API: roles, faults with their field, the plan in words, schemas."""

import json
from datetime import timedelta

import jsonschema
import pytest
from django.utils import timezone

from registry.models import Tenant
from tests.support.api import code_of
from tests.support.declaring import flag, manifest, profile_manifest
from tests.support.files import pairs_file

PLAN, APPLY = "/api/v1/manifests/plan", "/api/v1/manifests/apply"


@pytest.fixture
def apply(api):
    """Plan as somebody and apply that plan."""

    def run(somebody, documents, **options):
        client = api(somebody)
        plan = client.post(PLAN, {"documents": documents, **options})
        assert plan.status_code == 200, plan.content
        return client.post(APPLY, {"documents": documents, "planDigest": plan.json()["planDigest"], **options})

    return run


def actions(answer):
    return [step["action"] for step in answer.json()["steps"]]


def test_manifests_are_applied_once_and_then_change_nothing(api, apply, ada):
    documents = [
        profile_manifest(),
        manifest("ContrastSet", "empathy", axis="empathy", pairs={"digest": api(ada).upload(pairs_file())}),
        manifest("BaseModel", "harbor-support", source="harbor"),
    ]
    assert actions(apply(ada, documents)) == ["create"] * 3
    assert actions(apply(ada, documents)) == ["no-op"] * 3


def test_each_change_takes_the_role_of_its_kind_and_what_stays_takes_none(api, apply, ada, oscar, grace):
    tenant = manifest("Tenant", "harbor")
    assert code_of(apply(ada, [profile_manifest(), tenant])) == (403, "PERMISSION_DENIED")
    assert code_of(apply(oscar, [tenant, profile_manifest()])) == (403, "PERMISSION_DENIED")
    assert code_of(apply(grace, [tenant])) == (403, "PERMISSION_DENIED")
    assert not Tenant.objects.exists()
    assert apply(oscar, [tenant]).status_code == 200
    assert actions(apply(ada, [tenant, profile_manifest()])) == ["create", "no-op"]


def test_every_fault_is_told_at_once_with_its_field(api, oscar):
    rows = [
        (manifest("Tenant", "x", colour="red"), "spec.colour", "MANIFEST_UNKNOWN_FIELD"),
        (manifest("Tenant", "a/b"), "metadata.name", "MANIFEST_VALUE"),
        (manifest("Tenant", "a\n"), "metadata.name", "MANIFEST_VALUE"),
        (manifest("Tenant", 5), "metadata.name", "MANIFEST_VALUE"),
        (manifest("Tenant", "v") | {"apiVersion": "v9"}, "apiVersion", "MANIFEST_VERSION"),
        (manifest("Planet", "mars"), "kind", "MANIFEST_KIND"),
        ({"apiVersion": "steerhub/v1", "kind": "Tenant"}, "metadata", "MANIFEST_MISSING_FIELD"),
        (flag("production"), "metadata.name", "MANIFEST_VALUE"),
        (flag(enabled="true"), "spec.enabled", "MANIFEST_VALUE"),
        (flag("a/b", alphaScale=0.5), "spec.alphaScale", "ALPHA_FORMAT"),
        (flag("a/c", revision=0), "spec.revision", "MANIFEST_VALUE"),
        (manifest("ContrastSet", "c", axis="a", pairs={"file": "pairs.jsonl"}), "spec.pairs", "MANIFEST_FILE"),
        (manifest("SteeringVector", "v"), "spec", "MANIFEST_VALUE"),
        (profile_manifest(purpose="facts"), "spec.purpose", "PURPOSE_UNFIT"),
        (profile_manifest("p", purpose="fun"), "spec.purpose", "PURPOSE_UNKNOWN"),
        (manifest("Tenant", "good"), None, None),
        (manifest("Tenant", "good"), "metadata.name", "MANIFEST_DUPLICATE"),
    ]
    answer = api(oscar).post(PLAN, {"documents": [document for document, _, _ in rows]})
    expected = [(f"documents.{position}.{field}", code) for position, (_, field, code) in enumerate(rows) if field]
    assert answer.status_code == 422
    assert [(fault["field"], fault["code"]) for fault in answer.json()["errors"]] == expected
    assert "retrieval or knowledge editing" in answer.json()["errors"][13]["message"]
    assert answer.json()["code"] == "MANIFEST_UNKNOWN_FIELD"


def test_documents_that_are_no_mappings_are_refused(api, ada):
    assert code_of(api(ada).post(PLAN, {"documents": ["text"]})) == (422, "MANIFEST_SHAPE")
    assert code_of(api(ada).post(PLAN, {"documents": []})) == (422, "MANIFEST_EMPTY")
    for body in ({"documents": "x"}, {"documents": [], "force": True}, {}, {"documents": [], "maxPrunePercent": 101}):
        assert api(ada).post(PLAN, body).status_code == 400
    assert api(ada).post(APPLY, {"documents": [manifest("Tenant", "harbor")]}).status_code == 400


def test_status_is_not_for_a_manifest_to_say(api, apply, oscar):
    claimed = manifest("Tenant", "harbor") | {"status": {"conditions": [{"type": "Approved", "status": "True"}]}}
    assert actions(apply(oscar, [claimed])) == ["create"]
    assert actions(apply(oscar, [manifest("Tenant", "harbor")])) == ["no-op"]


def test_a_plan_says_what_turning_a_flag_on_means(api, oscar, approved, production, harbor, node):
    plan = api(oscar).post(PLAN, {"documents": [flag()]}).json()
    risks = {risk["code"]: risk["message"] for risk in plan["steps"][0]["risks"]}
    assert risks["ALPHA_CHANGE"] == "α of empathy@1: 0 → 0.5 mean_difference (Δα +0.5)"
    assert risks["TENANT_NEWLY_STEERED"] == "harbor is not steered in production now, and would be"
    assert plan["environments"] == [{"environment": "production", "nodes": 1, "inStep": 0, "newlySteered": ["harbor"]}]
    assert not any(risk["blocks"] for risk in plan["steps"][0]["risks"])


def test_a_plan_says_what_stands_in_the_way_of_a_flag(api, oscar, draft, production, harbor):
    (step,) = api(oscar).post(PLAN, {"documents": [flag(alphaScale="3")]}).json()["steps"]
    blocking = {risk["code"]: risk["message"] for risk in step["risks"] if risk["blocks"]}
    assert set(blocking) == {"EVIDENCE_MISSING", "APPROVAL_MISSING", "RANGE_EXCEEDED"}
    assert "one person besides ada must approve it (role approver)" in blocking["APPROVAL_MISSING"]


def test_turning_off_is_told_as_less(api, oscar, flag_on):
    (step,) = api(oscar).post(PLAN, {"documents": [flag(enabled=False)]}).json()["steps"]
    assert [risk["message"] for risk in step["risks"]] == ["α of empathy@1: 0.5 → 0 mean_difference (Δα -0.5)"]


def test_a_freeze_is_told_in_the_plan_and_stops_the_apply_whole(api, apply, oscar, approved, production, harbor):
    from registry.services.freezes import declare_freeze

    declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="Black Friday", actor=oscar)
    (step, _) = api(oscar).post(PLAN, {"documents": [flag(), manifest("Tenant", "atlas")]}).json()["steps"][::-1]
    assert {risk["code"] for risk in step["risks"] if risk["blocks"]} == {"FREEZE"}
    assert code_of(apply(oscar, [flag(), manifest("Tenant", "atlas")])) == (409, "FREEZE")
    assert not Tenant.objects.filter(name="atlas").exists()
    assert actions(apply(oscar, [flag(enabled=False)])) == ["create"]


def test_a_plan_of_a_revision_says_what_it_still_needs(api, ada, vector, profile):
    part = {"vector": "empathy", "alpha": "1.9", "alphaMin": "0", "alphaMax": "1.9", "unit": "mean_difference"}
    document = profile_manifest("harbor-empathy", intent="Warm billing replies.", revision={"components": [part]})
    (step,) = api(ada).post(PLAN, {"documents": [document]}).json()["steps"]
    assert {"ALPHA_CHANGE", "EVIDENCE_MISSING", "APPROVAL_NEEDED"} <= {risk["code"] for risk in step["risks"]}


def test_the_published_schema_accepts_what_the_hub_accepts_and_refuses_what_it_refuses(api, ada):
    schema = api(ada).get("/api/v1/manifests/schema").json()
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    assert checker.is_valid(flag())
    assert checker.is_valid(manifest("ContrastSet", "c", axis="a", pairs={"file": "pairs.jsonl"}))
    for wrong in (manifest("Tenant", "x", colour="red"), manifest("Planet", "x"), flag(enabled="yes"), manifest("SteeringVector", "v")):
        assert not checker.is_valid(wrong)
    one = api(ada).get("/api/v1/manifests/schemas/TenantFlag").json()
    assert (one["title"], json.dumps(one) in json.dumps(schema)) == ("TenantFlag", False)
    assert code_of(api(ada).get("/api/v1/manifests/schemas/Planet")) == (404, "KIND_NOT_FOUND")
