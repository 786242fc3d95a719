"""Covered forms at every door: API, manifests, console. What one leaves out would be lost there, or steer unseen."""

import pytest
from django.urls import reverse

from registry.manifests.apply import apply_plan
from registry.manifests.drift import find_drift
from registry.manifests.export import export_manifests
from registry.manifests.kinds.raising import plan_flag
from registry.manifests.plan import Options, make_plan
from registry.manifests.risks import Risks
from registry.models import ProfileRevision
from registry.reads.engines import read_capabilities
from registry.services.approvals import approve_revision
from registry.services.base_model_moves import move_environment
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, submit_revision
from tests.support.families import add_form
from tests.support.nodes import say

pytestmark = pytest.mark.django_db(transaction=True)
FIGURES = "another dtype, off by at most 0.0039 of the largest weight of a tensor"


@pytest.fixture
def halves(base_model, model_root, ada):
    return add_form(base_model, "harbor-halves", model_root, ada, verdict="another dtype", worst="0.0039")


@pytest.fixture
def covering(profile, component, halves, evaluation, ada):
    revision = draft_revision(profile, components=[component], covers=[halves], author=ada)
    return submit_revision(revision.pk, evaluation=evaluation, actor=ada)


BODY = {"components": [{"vector": "empathy", "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"}]}
ADDRESS = "/api/v1/profiles/harbor-empathy/revisions"


def test_the_api_takes_and_gives_covered_forms(api, ada, profile, vector, halves, base_model):
    answer = api(ada).post(ADDRESS, {**BODY, "covers": [f"harbor-halves@{halves.fingerprint[:8]}"]})
    assert answer.status_code == 201, answer.json()
    assert answer.json()["base_model"]["fingerprint"] == base_model.fingerprint
    assert answer.json()["covers"] == [
        {
            "name": "harbor-halves",
            "fingerprint": halves.fingerprint,
            "verdict": "another dtype",
            "worst": "0.0039",
            "changes": ["config: config.json changed"],
            "is_measured": False,
        }
    ]
    before = api(ada).get(f"{ADDRESS}/1")
    edited = api(ada).put(f"{ADDRESS}/1", BODY, headers={"If-Match": before.headers["ETag"]})
    assert (edited.status_code, edited.json()["covers"]) == (200, [])
    assert edited.headers["ETag"] != before.headers["ETag"]


@pytest.mark.parametrize(
    ("covers", "status", "code"),
    [
        (["nothing-such"], 404, "BASE_MODEL_NOT_FOUND"),
        (["harbor-support"], 422, "FORM_REPEATED"),
        (["harbor-halves", "harbor-halves"], 422, "FORM_REPEATED"),
        (["harbor-small"], 409, "FORM_NOT_COVERED"),
        ("harbor-halves", 400, "VALIDATION"),
        ([7], 400, "VALIDATION"),
        (None, 400, "VALIDATION"),
        (["harbor-halves"] * 17, 400, "VALIDATION"),
    ],
)
def test_the_api_refuses_what_cannot_be_covered_and_drafts_nothing(
    api, ada, profile, vector, halves, base_model, model_root, covers, status, code
):
    add_form(base_model, "harbor-small", model_root, ada, verdict="quantised", worst="0.05")
    answer = api(ada).post(ADDRESS, {**BODY, "covers": covers})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()
    assert not ProfileRevision.objects.exists()


def manifest_of(*, covers=None, name="harbor-empathy"):
    (document,) = export_manifests(kinds=["SteeringProfile"], names=[name])
    if covers is not None:
        document["spec"]["revision"]["covers"] = covers
    return document


def apply(document, actor):
    digest = make_plan([document], Options()).digest
    apply_plan([document], options=Options(), plan_digest=digest, actor=actor, permit=lambda *roles: None)


def test_manifests_export_plan_and_apply_covered_forms(covering, halves, ada, base_model):
    reference = f"harbor-halves@{halves.fingerprint[:12]}"
    exported = manifest_of()
    assert exported["spec"]["revision"]["covers"] == [reference]
    for same in (exported, manifest_of(covers=["harbor-halves"])):
        assert not make_plan([same], Options()).changes
    older = manifest_of()
    del older["spec"]["revision"]["covers"]
    (step,) = make_plan([older], Options()).changes
    assert [(change.field, change.before, change.after) for change in step.changes] == [("spec.revision.covers", [reference], [])]
    [row] = [row for row in find_drift([older]) if row.drifts]
    assert row.name == "harbor-empathy"
    apply(older, ada)
    latest = ProfileRevision.objects.order_by("-number").first()
    assert (latest.number, latest.state, latest.covers.count()) == (2, "draft", 0)
    plan = make_plan([exported], Options())
    assert f"nothing is measured on {halves}: {FIGURES}" in str(Risks(plan).of(plan.steps[0]))
    apply(exported, ada)
    latest.refresh_from_db()
    assert [covered.base_model for covered in latest.covers.all()] == [halves]


@pytest.mark.parametrize(("covers", "code"), [(["harbor-support"], "FORM_REPEATED"), (["harbor-small"], "FORM_NOT_COVERED")])
def test_a_plan_says_what_cannot_be_covered(covering, base_model, model_root, ada, covers, code):
    add_form(base_model, "harbor-small", model_root, ada, verdict="quantised", worst="0.05")
    plan = make_plan([manifest_of(covers=covers)], Options())
    assert [risk.code for risk in Risks(plan).of(plan.steps[0]) if risk.blocks] == [code]


def test_a_policy_states_it_at_every_door(api, client, root, policy_terms):
    change_policy("low", terms=policy_terms(coverable_forms="any"), reason="test", actor=root)
    (exported,) = export_manifests(kinds=["RiskPolicy"], names=["low"])
    assert exported["spec"]["coverableForms"] == "any"
    assert not make_plan([exported], Options()).changes
    row = api(root).get("/api/v1/risk-policies/low").json()
    body = {name: value for name, value in row.items() if name not in ("id", "name", "changed_by", "changed_at", "coverable_forms")}
    assert api(root).put("/api/v1/risk-policies/low", {**body, "coverable_forms": "some"}).status_code == 400
    assert api(root).put("/api/v1/risk-policies/low", body).json()["coverable_forms"] == "close"
    client.force_login(root)
    page = client.get(reverse("console:policy", args=["low"])).text
    assert 'name="coverable_forms"' in page
    assert "equal, or of another dtype" in page


def test_the_console_offers_forms_with_their_figures_and_drafts_what_is_chosen(client, ada, vector, profile, halves, base_model):
    client.force_login(ada)
    page = client.get(reverse("console:vector", args=[vector.pk])).text
    assert f"{halves}: {FIGURES}; config: config.json changed" in page
    asked = {
        "profile": profile.pk,
        "alpha": "0.5",
        "alpha_min": "0",
        "alpha_max": "0.5",
        "stale_policy": "zero",
        "max_staleness_seconds": 900,
    }
    address = reverse("console:draft-revision", args=[vector.pk])
    client.post(address, {**asked, "covers": [str(base_model.pk)]})
    assert not ProfileRevision.objects.exists()
    client.post(address, {**asked, "covers": [str(halves.pk)]})
    assert [covered.base_model for covered in ProfileRevision.objects.get().covers.all()] == [halves]


def test_the_page_of_a_vector_without_forms_asks_nothing_of_them(client, ada, vector, profile):
    client.force_login(ada)
    assert 'name="covers"' not in client.get(reverse("console:vector", args=[vector.pk])).text


def test_who_decides_sees_each_form_with_its_figures_and_that_nothing_was_measured_on_it(client, grace, covering, halves):
    client.force_login(grace)
    page = client.get(reverse("console:revision", args=[covering.pk])).text
    assert "Nothing was measured on it." in page
    assert f"You also decide for 1 form on which nothing was measured: {halves} (another dtype, off by at most 0.0039)." in page
    assert "config: config.json changed" in page


def test_a_plan_of_a_flag_says_which_form_is_steered_and_which_nodes_cannot(covering, halves, harbor, production, node, oscar, grace):
    digests = {"revision_digest": covering.digest, "evidence_digest": covering.evaluation.digest}
    approved = approve_revision(covering.pk, reviewer=grace, comment="", **digests)
    able = read_capabilities(approved)
    assert "covered_forms" in able
    say(node[0], capabilities=sorted(able - {"covered_forms"}))
    move_environment(production, base_model=halves, actor=oscar)
    plan = plan_flag(production, harbor, enabled=True, actor=oscar, revision=approved)
    risks = {risk.code: risk.message for risk in plan.risks}
    assert f"{halves}: {FIGURES}" in risks["FORM_UNMEASURED"]
    assert "node-1 cannot do covered_forms" in risks["NODE_INCAPABLE"]
