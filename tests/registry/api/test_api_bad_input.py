"""Bad input through the API: each row by its status and code, and nothing of it half-applied."""

import json

from registry.models import (
    ContrastSet,
)
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from tests.support.api import code_of
from tests.support.files import lines, make_pair, pairs_file


def test_pairs_of_which_none_is_left_to_extract_from(api, ada, base_model, suites, unchanged):
    author = api(ada)
    kept_back = [
        pair for pair in map(make_pair, range(60)) if not split_pairs(parse_pairs(lines([pair, make_pair(60)])).pairs[:1])["extract"]
    ]
    author.post("/api/v1/contrast-sets", {"name": "small", "axis": "empathy", "digest": author.upload(lines(kept_back[:2]))})
    before = unchanged()
    body = {"kind": "extraction", "base_model": "harbor-support", "contrast_set": "small", "recipe": {"vector": "v"}}
    answer = author.post("/api/v1/jobs", {**body, "suites": ["tickets", "facts", "refusals"]})
    assert code_of(answer) == (422, "CONTRAST_EXTRACT_EMPTY")
    assert unchanged() == before


def test_prompts_in_both_contrast_set_and_suite(api, ada, base_model, contrast_set, suites, unchanged):
    author = api(ada)
    item = {"id": "f", "split": "test", "messages": [{"role": "user", "content": " where IS refund 2? "}], "expect": {"contains": ["x"]}}
    digest = author.upload(lines([item]))
    author.post("/api/v1/eval-suites", {"name": "overlapping", "kind": "factual", "digest": digest})
    before = unchanged()
    body = {"kind": "extraction", "base_model": "harbor-support", "contrast_set": "empathy", "recipe": {"vector": "v"}}
    answer = author.post("/api/v1/jobs", {**body, "suites": ["tickets", "overlapping", "refusals"]})
    assert code_of(answer) == (422, "CONTRAST_SUITE_OVERLAP")
    assert "'p2'" in answer.json()["detail"]
    assert "'f'" in answer.json()["detail"]
    assert unchanged() == before


BAD_LAYERS = [-1, 4, True, "1", "14 ", 1.0, None, [1]]
BAD_ALPHAS = {
    "NaN": ("NaN", "ALPHA_FORMAT"),
    "infinite": ("Infinity", "ALPHA_FORMAT"),
    "exponent": ("1e309", "ALPHA_FORMAT"),
    "float": (1.5, "ALPHA_FORMAT"),
    "boolean": (True, "ALPHA_FORMAT"),
    "negative zero": ("-0", "ALPHA_FORMAT"),
    "comma": ("0,5", "ALPHA_FORMAT"),
    "space": (" 0.5", "ALPHA_FORMAT"),
    "other digits": ("٠.٥", "ALPHA_FORMAT"),
    "list": (["0.5"], "ALPHA_FORMAT"),
    "40 digits": ("1" * 40, "ALPHA_FORMAT"),
    "seven decimals": ("0.1234567", "ALPHA_FORMAT"),
    "a million": ("1000000", "ALPHA_RANGE"),
    "outside its range": ("0.6", "ALPHA_RANGE"),
    "below its range": ("-0.1", "ALPHA_RANGE"),
}


def test_bad_layers(api, ada, base_model, contrast_set, suites, unchanged):
    author = api(ada)
    before = unchanged()
    for layer in BAD_LAYERS:
        answer = author.post(
            "/api/v1/jobs",
            {
                "kind": "extraction",
                "base_model": "harbor-support",
                "contrast_set": "empathy@1",
                "suites": ["tickets", "facts", "refusals"],
                "recipe": {"vector": "v", "layers": [layer]},
            },
        )
        assert code_of(answer) == (422, "LAYER_RANGE"), layer
    assert unchanged() == before


def component(**changes: object) -> dict[str, object]:
    return {"vector": "empathy@1", "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"} | changes


def test_bad_coefficients(api, ada, oscar, profile, vector, approved, production, harbor, unchanged):
    author, operator = api(ada), api(oscar)
    before = unchanged()
    for row, (alpha, code) in BAD_ALPHAS.items():
        answer = author.post("/api/v1/profiles/harbor-empathy/revisions", {"components": [component(alpha=alpha)]})
        assert code_of(answer) == (422, code), row
        flag = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "alpha_scale": alpha, "reason": "x"}
        if "range" not in row:
            assert code_of(operator.put("/api/v1/environments/production/flags/harbor", flag)) == (422, code), row
    assert unchanged() == before


BAD_BODIES = {
    "not JSON": (b"{", (400, "JSON_SYNTAX")),
    "empty": (b"", (400, "VALIDATION")),
    "an array": (b"[]", (400, "VALIDATION")),
    "null": (b"null", (400, "VALIDATION")),
    "duplicate key": (b'{"name":"a","name":"b"}', (400, "JSON_DUPLICATE_KEY")),
    "NaN": (b'{"name":NaN}', (400, "JSON_NUMBER")),
    "huge integer": (b'{"name":1180591620717411303424}', (400, "JSON_NUMBER")),
    "depth": (b'{"name":' + b"[" * 1000 + b"]" * 1000 + b"}", (400, "JSON_DEPTH")),
    "not UTF-8": (b'{"name":"\xff"}', (400, "JSON_ENCODING")),
    "lone surrogate": (b'{"name":"\\ud800"}', (400, "JSON_ENCODING")),
    "NUL": (b'{"name":"a\\u0000b"}', (400, "JSON_NUL")),
    "ten megabytes": (b'{"name":"' + b"x" * 10_000_000 + b'"}', (413, "JSON_TOO_LARGE")),
    "mass assignment": (b'{"name":"x","id":"1","created_at":"2020-01-01"}', (400, "UNKNOWN_FIELD")),
    "prototype": (b'{"__proto__":{"x":1},"name":"x"}', (400, "UNKNOWN_FIELD")),
    "number for text": (b'{"name":5}', (400, "VALIDATION")),
    "a name with a slash": (b'{"name":"a/b"}', (400, "VALIDATION")),
    "a name turned round": ('{"name":"\u202eevil"}'.encode(), (400, "VALIDATION")),
    "a name too long": (json.dumps({"name": "n" * 101}).encode(), (400, "VALIDATION")),
    "a name that ends a line": (b'{"name":"a\\n"}', (400, "VALIDATION")),
}


def test_bad_bodies(api, oscar, unchanged):
    operator = api(oscar)
    before = unchanged()
    for row, (data, expected) in BAD_BODIES.items():
        answer = operator.post("/api/v1/tenants", data=data, content_type="application/json")
        assert code_of(answer) == expected, row
    answer = operator.post("/api/v1/tenants", data=b"name=x", content_type="application/x-www-form-urlencoded")
    assert code_of(answer) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert code_of(operator.post("/api/v1/blobs", data=b"{}", content_type="application/json")) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert unchanged() == before


def test_an_unknown_field_is_named_before_a_missing_one(api, ada):
    answer = api(ada).post("/api/v1/profiles", {"naem": "typo", "intent": "x", "purpose": "tone", "axis": "empathy", "risk_class": "low"})
    assert code_of(answer) == (400, "UNKNOWN_FIELD")
    assert answer.json()["item"] == "naem"


def test_nobody_assigns_what_is_not_theirs(api, ada, oscar, profile, vector, production, harbor, approved, unchanged):
    author, operator = api(ada), api(oscar)
    before = unchanged()
    revision = {"components": [component()], "state": "approved", "author": "grace", "approvals_needed": 0, "digest": "f" * 64}
    assert code_of(author.post("/api/v1/profiles/harbor-empathy/revisions", revision)) == (400, "UNKNOWN_FIELD")
    nested = {"components": [component(revision=7)]}
    answer = author.post("/api/v1/profiles/harbor-empathy/revisions", nested)
    assert code_of(answer) == (400, "UNKNOWN_FIELD")
    assert answer.json()["item"] == "components.0.revision"
    flag = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "reason": "x", "changed_by": "grace", "tenant": "atlas"}
    assert code_of(operator.put("/api/v1/environments/production/flags/harbor", flag)) == (400, "UNKNOWN_FIELD")
    assert unchanged() == before


def test_bad_flags(api, oscar, production, harbor, submitted, unchanged):
    operator, here = api(oscar), "/api/v1/environments/production/flags/harbor"
    good = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "alpha_scale": "1", "reason": "x"}
    rows = [
        (here, good, (409, "FLAG_NOT_APPROVED")),
        (here, good | {"revision": 9}, (404, "REVISION_NOT_FOUND")),
        (here, good | {"revision": "1"}, (400, "VALIDATION")),
        (here, good | {"revision": 2**40}, (400, "VALIDATION")),
        (here, good | {"enabled": "true"}, (400, "VALIDATION")),
        (here, good | {"enabled": 1}, (400, "VALIDATION")),
        (here, good | {"reason": "  "}, (400, "VALIDATION")),
        (here, good | {"reason": "x" * 2001}, (400, "VALIDATION")),
        (here, {"enabled": False, "reason": "x"}, (404, "FLAG_NOT_FOUND")),
        (here, {"enabled": False, "reason": "x", "profile": "harbor-empathy"}, (400, "VALIDATION")),
        (here.replace("harbor", "nobody"), good, (404, "TENANT_NOT_FOUND")),
        (here.replace("production", "nowhere"), good, (404, "ENVIRONMENT_NOT_FOUND")),
    ]
    before = unchanged()
    for path, body, expected in rows:
        assert code_of(operator.put(path, body)) == expected, body
    assert unchanged() == before


def test_off_needs_no_revision_to_be_looked_up(api, oscar, flag_on):
    answer = api(oscar).put("/api/v1/environments/production/flags/harbor", {"enabled": False, "reason": "complaint"})
    assert (answer.status_code, answer.json()["enabled"], answer.json()["revision"]) == (200, False, 1)


def test_bad_decisions(api, ada, grace, mary, person, submitted, component, evaluation):
    from registry.services.profiles import edit_revision, submit_revision

    here = "/api/v1/profiles/harbor-empathy/revisions/1"
    read = {"revision_digest": submitted.digest, "evidence_digest": evaluation.digest, "comment": "x"}
    assert code_of(api(ada).post(f"{here}/approve", read)) == (403, "PERMISSION_DENIED")
    ada.groups.add(*grace.groups.all())
    robot = person("ada-robot", "approver", acts_for=ada)
    for author in (ada, robot):
        assert code_of(api(author).post(f"{here}/approve", read)) == (409, "SELF_APPROVAL")
    approver = api(grace)
    for wrong in ({"revision_digest": "0" * 64}, {"evidence_digest": "0" * 64}):
        assert code_of(approver.post(f"{here}/approve", read | wrong)) == (409, "DIGEST_MISMATCH")
    assert code_of(approver.post(f"{here}/approve", read | {"revision_digest": "F" * 64})) == (400, "VALIDATION")
    assert code_of(approver.post(f"{here}/approve", {"comment": "blind"})) == (400, "VALIDATION")
    edit_revision(submitted.pk, components=[component], actor=ada)
    assert code_of(approver.post(f"{here}/approve", read)) == (409, "DIGEST_MISMATCH")
    again = submit_revision(submitted.pk, evaluation=evaluation, actor=ada)
    read["revision_digest"] = again.digest
    assert approver.post(f"{here}/reject", {"comment": "cold"}).json()["state"] == "rejected"
    assert code_of(approver.post(f"{here}/approve", read)) == (409, "ALREADY_DECIDED")
    assert code_of(api(mary).post(f"{here}/approve", read)) == (409, "REVISION_STATE")
    assert code_of(api(mary).post(here.replace("/1", "/9") + "/approve", read)) == (404, "REVISION_NOT_FOUND")


def test_one_approval_is_given_once(api, grace, approved):
    read = {"revision_digest": approved.digest, "evidence_digest": approved.evaluation.digest, "comment": "again"}
    answer = api(grace).post("/api/v1/profiles/harbor-empathy/revisions/1/approve", read)
    assert code_of(answer) == (409, "ALREADY_DECIDED")
    assert approved.approvals.count() == 1


def test_submitting_without_evidence(api, ada, draft):
    here = "/api/v1/profiles/harbor-empathy/revisions/1/submit"
    assert code_of(api(ada).post(here, {})) == (409, "EVIDENCE_MISSING")
    for unknown in ("not-an-id", "00000000-0000-0000-0000-000000000000"):
        assert code_of(api(ada).post(here, {"evaluation": unknown})) == (404, "EVALUATION_NOT_FOUND")


def test_submitting_finds_the_one_evaluation_there_is(api, ada, draft, evaluation):
    answer = api(ada).post("/api/v1/profiles/harbor-empathy/revisions/1/submit", {})
    assert (answer.json()["state"], answer.json()["evaluation"]) == ("submitted", str(evaluation.pk))


def test_references_that_lead_nowhere(api, ada, base_model, contrast_set, suites, vector, unchanged):
    author = api(ada)
    before = unchanged()
    for reference in ("nobody", "empathy@9", "empathy@0", "empathy@x", "empathy@1@2", "../1", "@1", "0" * 36, str(ada.pk), "e" * 5000):
        validation = {"kind": "validation", "vector": reference, "suites": ["tickets"], "alpha": "0.5"}
        assert code_of(author.post("/api/v1/jobs", validation)) == (404, "VECTOR_NOT_FOUND"), reference
    body = {"kind": "validation", "vector": str(vector.pk).upper(), "suites": ["tickets", "facts", "nothing"], "alpha": "0.5"}
    assert code_of(author.post("/api/v1/jobs", body)) == (404, "SUITE_NOT_FOUND")
    assert code_of(author.post("/api/v1/jobs", {"kind": "daydream"})) == (400, "VALIDATION")
    assert code_of(author.post("/api/v1/jobs", {"kind": ["validation"]})) == (400, "VALIDATION")
    assert unchanged() == before


def test_bad_kills(api, oscar, production, harbor, unchanged):
    operator = api(oscar)
    before = unchanged()
    rows = [
        ({"kind": "tenant", "target": "nobody", "reason": "x"}, (404, "KILL_TARGET")),
        ({"kind": "tenant", "reason": "x"}, (404, "KILL_TARGET")),
        ({"kind": "weather", "reason": "x"}, (400, "VALIDATION")),
        ({"kind": "everything"}, (400, "VALIDATION")),
        ({"kind": "everything", "environment": "production", "reason": "x"}, (422, "KILL_TARGET")),
        ({"kind": "tenant", "target": "harbor", "environment": "nowhere", "reason": "x"}, (404, "KILL_TARGET")),
    ]
    for body, expected in rows:
        assert code_of(operator.post("/api/v1/kills", body)) == expected, body
    assert unchanged() == before
    answer = operator.post("/api/v1/kills", {"kind": "environment", "environment": "production", "reason": "x"})
    assert (answer.status_code, answer.json()["target"]) == (201, "production")


def test_bad_queries(api, ada, iris, production):
    reader = api(iris)
    for path, expected in {
        "vectors?nmae=x": (400, "UNKNOWN_FIELD"),
        "vectors?page=0": (400, "VALIDATION"),
        "vectors?page=x": (400, "VALIDATION"),
        "vectors?page=201": (400, "VALIDATION"),
        "vectors?size=0": (400, "VALIDATION"),
        "vectors?size=501": (400, "VALIDATION"),
        "vectors?size=%D9%A1": (400, "VALIDATION"),
        "vectors?after=x": (400, "VALIDATION"),
        "vectors?after=": (400, "VALIDATION"),
        "vectors?before=00000000-0000-4000-8000-000000000000": (400, "VALIDATION"),
        "vectors?after=x&page=1": (400, "VALIDATION"),
        "audit/events?after=99999999999999999999": (400, "VALIDATION"),
        "vectors?name=a%00b": (400, "VALIDATION"),
        "environments/production/explain": (400, "VALIDATION"),
        "environments/nowhere/explain?tenant=x": (404, "ENVIRONMENT_NOT_FOUND"),
        "audit/export?format=pdf": (400, "VALIDATION"),
        "vectors/a%00b/1": (404, "VECTOR_NOT_FOUND"),
        "vectors/empathy/99999999999999999999": (404, "VECTOR_NOT_FOUND"),
        "profiles/a%00b": (422, "OUT_OF_RANGE"),
        "blobs/..%2f..%2fetc": (404, "NOT_FOUND"),
        "blobs/nothex": (404, "BLOB_MISSING"),
    }.items():
        assert code_of(reader.get(f"/api/v1/{path}")) == expected, path


def test_a_constraint_the_service_did_not_foresee_is_named(api, ada, monkeypatch, contrast_set):
    """Two uploads of one file under two names race past the service's own look."""
    from django.db.models.query import QuerySet

    monkeypatch.setattr(QuerySet, "first", lambda self: None if self.model is ContrastSet else next(iter(self[:1]), None))
    author = api(ada)
    answer = author.post("/api/v1/contrast-sets", {"name": "other", "axis": "empathy", "digest": author.upload(pairs_file())})
    assert code_of(answer) == (409, "CONSTRAINT")
    assert "digest" in answer.json()["item"]


def test_text_is_stored_as_written_and_never_served_as_a_page(api, ada, oscar, grace):
    nasty = '=HYPERLINK("x") <script>alert(1)</script> \x1b[31m \u202e line\nCEF:0|fake'
    made = api(ada).post("/api/v1/profiles", {"name": "p", "intent": nasty, "purpose": "tone", "axis": "empathy", "risk_class": "low"})
    assert made.json()["intent"] == nasty
    answer = api(grace).get(f"/api/v1/blobs/{api(ada).upload(b'<script>alert(1)</script>')}")
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("attachment")


def test_a_damaged_blob_is_our_fault_and_says_so(api, ada, settings):
    from pathlib import Path
    from urllib.parse import urlsplit

    author = api(ada)
    digest = author.upload(pairs_file())
    stored = Path(urlsplit(settings.STEERHUB_BLOB_URL).path) / "sha256" / digest[:2] / digest
    stored.write_bytes(b"other")
    assert code_of(author.get(f"/api/v1/blobs/{digest}")) == (500, "BLOB_CORRUPT")
    stored.unlink()
    assert code_of(author.get(f"/api/v1/blobs/{digest}")) == (404, "BLOB_MISSING")
