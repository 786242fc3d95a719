"""The whole of Harbor Support over the REST API, each step by the person whose role it is."""

from tests.support.files import make_suite, pairs_file, rubric_file, vector_file


def test_a_profile_goes_from_files_to_a_steered_tenant_and_back(api, ada, grace, oscar, evaluate):
    from registry.models import SteeringVector

    author, approver, operator = api(ada), api(grace), api(oscar)

    model = author.post("/api/v1/base-models", {"name": "harbor-support", "source": "harbor"}).json()
    assert (model["n_layers"], model["d_model"]) == (4, 64)
    pairs = author.post("/api/v1/contrast-sets", {"name": "empathy", "axis": "empathy", "digest": author.upload(pairs_file())}).json()
    assert (pairs["version"], pairs["pair_count"], pairs["locales"]) == (1, 8, ["en-US"])
    suite = author.post(
        "/api/v1/eval-suites",
        {
            "name": "more-tickets",
            "kind": "behaviour",
            "digest": author.upload(make_suite("behaviour")),
            "rubric_digest": author.upload(rubric_file()),
        },
    )
    # The same items are sealed under another name already: content is addressed once.
    assert (suite.status_code, suite.json()["code"], suite.json()["item"]) == (409, "SUITE_EXISTS", "tickets v1")

    job = author.post(
        "/api/v1/jobs",
        {
            "kind": "extraction",
            "base_model": "harbor-support",
            "contrast_set": "empathy@1",
            "suites": ["tickets", "facts@1", "refusals"],
            "recipe": {"vector": "empathy"},
        },
    )
    assert job.status_code == 201
    assert job.json()["state"] == "queued"
    assert job.json()["suites"] == ["facts@1", "refusals@1", "tickets@1"]
    assert author.post(f"/api/v1/jobs/{job.json()['id']}/cancel").json()["state"] == "cancelled"

    digest = author.upload(vector_file(model["fingerprint"], pairs["digest"]))
    vector = author.post("/api/v1/vectors", {"name": "empathy", "digest": digest}).json()
    assert (vector["layer"], vector["norm"], vector["contrast_set"]) == (2, "41.2", "empathy@1")
    assert author.get("/api/v1/vectors/empathy/1/file").content == vector_file(model["fingerprint"], pairs["digest"])
    evaluation = evaluate(SteeringVector.objects.get())

    assert (
        author.post(
            "/api/v1/profiles",
            {"name": "harbor-empathy", "intent": "Warm replies.", "purpose": "tone", "axis": "empathy", "risk_class": "low"},
        ).status_code
        == 201
    )
    component = {"vector": "empathy@1", "alpha": "0.5", "alpha_min": 0, "alpha_max": "0.5", "unit": "mean_difference"}
    revision = author.post("/api/v1/profiles/harbor-empathy/revisions", {"components": [component]}).json()
    assert (revision["number"], revision["state"], revision["digest"]) == (1, "draft", "")
    here = "/api/v1/profiles/harbor-empathy/revisions/1"
    revision = author.post(f"{here}/submit", {"evaluation": str(evaluation.pk)}).json()
    assert revision["state"] == "submitted"
    read = {"revision_digest": revision["digest"], "evidence_digest": revision["evidence_digest"], "comment": "Read it."}
    revision = approver.post(f"{here}/approve", read).json()
    assert revision["state"] == "approved"
    assert revision["approvals"][0]["reviewer"] == "grace"

    assert operator.post("/api/v1/environments", {"name": "production"}).json()["head"]["revision"] == 1
    assert operator.post("/api/v1/tenants", {"name": "harbor"}).status_code == 201
    flag = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "alpha_scale": "0.5", "reason": "pilot"}
    assert operator.put("/api/v1/environments/production/flags/harbor", flag).json()["alpha_scale"] == "0.5"
    explained = operator.get("/api/v1/environments/production/explain?tenant=harbor&route=chat").json()
    assert (explained["reason"], explained["profile"], explained["components"][0]["alpha"]) == ("flag_on", "harbor-empathy", "0.25")
    assert explained["components"][0]["coefficient"] == "10.3"

    kill = operator.post("/api/v1/kills", {"kind": "tenant", "target": "harbor", "reason": "complaint"}).json()
    assert operator.get("/api/v1/environments/production/explain?tenant=harbor").json()["reason"] == "killed_tenant"
    assert (
        operator.post(f"/api/v1/kills/{kill['id']}/request-lift", {"reason": "All answers read again."}).json()["lift_requested_by"]
        == "oscar"
    )
    assert operator.post(f"/api/v1/kills/{kill['id']}/confirm-lift").json()["code"] == "KILL_LIFT_NEEDS_TWO"
    assert approver.post(f"/api/v1/kills/{kill['id']}/confirm-lift").json()["is_engaged"] is False
    assert operator.get("/api/v1/environments/production/explain?tenant=harbor").json()["reason"] == "flag_on"

    off = operator.put("/api/v1/environments/production/flags/harbor", flag | {"enabled": False})
    assert off.json()["enabled"] is False
    environment = operator.get("/api/v1/environments/production").json()
    assert (environment["head_revision"], environment["head"]["rollback_of"]) == (3, 2)
