"""Gate sets over the API: who may seal one, how it is read, and that a validation may name it."""

from tests.support.api import code_of

BODY = {
    "name": "our-tone",
    "about": "Tone of billing replies.",
    "gates": [{"metric": "facts", "kind": "min", "threshold": "0.90", "why": "Nine of ten."}],
}


def test_an_approver_seals_a_set_and_everybody_reads_it(api, grace, ada):
    sealed = api(grace).post("/api/v1/gate-sets", BODY)
    assert sealed.status_code == 201
    assert (sealed.json()["version"], sealed.json()["gates"][0]["threshold"], sealed.json()["author"]) == (1, "0.9", "grace")
    assert api(ada).get("/api/v1/gate-sets/our-tone/1").json() == sealed.json()
    assert api(ada).get("/api/v1/gate-sets?name=our-tone").json()["results"] == [sealed.json()]
    assert code_of(api(ada).get("/api/v1/gate-sets/our-tone/2")) == (404, "GATE_SET_NOT_FOUND")
    assert code_of(api(ada).post("/api/v1/gate-sets", BODY)) == (403, "PERMISSION_DENIED")


def test_a_set_that_cannot_be_is_refused_by_name(api, grace):
    (gate,) = BODY["gates"]
    for change, expected in [
        ({"name": "default"}, (409, "GATE_SET_TAKEN")),
        ({"gates": [{**gate, "metric": "charm"}]}, (422, "GATE_INVALID")),
        ({"gates": [{**gate, "kind": "about"}]}, (422, "GATE_INVALID")),
        ({"gates": [{**gate, "threshold": "low"}]}, (422, "ALPHA_FORMAT")),
        ({"gates": []}, (400, "VALIDATION")),
        ({"gates": [{**gate, "note": "x"}]}, (400, "UNKNOWN_FIELD")),
    ]:
        assert code_of(api(grace).post("/api/v1/gate-sets", BODY | change)) == expected, change


def test_a_validation_and_a_policy_name_it(api, grace, ada, vector, suites):
    api(grace).post("/api/v1/gate-sets", BODY)
    body = {"kind": "validation", "vector": "empathy@1", "suites": ["tickets", "facts", "refusals"], "alpha": "0.5"}
    assert code_of(api(ada).post("/api/v1/jobs", {**body, "gates": "nothing"})) == (422, "RECIPE_GATES")
    job = api(ada).post("/api/v1/jobs", {**body, "gates": "our-tone"}).json()
    assert job["recipe"]["gate_set"]["name"] == "our-tone"
    low = api(grace).get("/api/v1/risk-policies/low").json()
    terms = {name: value for name, value in low.items() if name not in ("id", "name", "changed_by", "changed_at")}
    changed = api(grace).put("/api/v1/risk-policies/low", {**terms, "gate_set": "our-tone", "reason": "Ours."})
    assert changed.json()["gate_set"] == "our-tone@1"
