"""Who is let in, and to what: tokens, sessions and roles."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from registry.models import ApiToken, Environment, Role, User
from registry.services.people import issue_token, revoke_token
from tests.support.api import ANY_ID, WHOAMI, bearer, code_of


def test_a_token_says_who_its_bearer_is(api, ada):
    assert api(ada).get(WHOAMI).json() == {"name": "ada", "roles": ["author"], "tenants": None, "acts_for": None}


def test_nobody_is_told_nothing_but_how_to_say_who_they_are(api):
    for path in (WHOAMI, "/api/v1/vectors", "/api/v1/audit/events", "/api/v1/blobs/" + "0" * 64, "/api/v1/schema"):
        answer = api().get(path)
        assert code_of(answer) == (401, "NOT_AUTHENTICATED")
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_expired_revoked_unknown_and_departed_are_one_answer(client, ada, person):
    robot = person("robot", "author", acts_for=ada)
    token, secret = issue_token(ada, name="t", actor="tests")
    _, robot_secret = issue_token(robot, name="t", actor="tests")
    assert client.get(WHOAMI, **bearer(secret)).status_code == client.get(WHOAMI, **bearer(robot_secret)).status_code == 200
    revoke_token(token, actor="tests")
    expired, expired_secret = issue_token(ada, name="old", actor="tests")
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    _, departed_secret = issue_token(ada, name="gone", actor="tests")
    User.objects.filter(pk=ada.pk).update(is_active=False)
    bodies = set()
    for wrong in (secret, expired_secret, departed_secret, robot_secret, "sht_unknown", "", "ä", "a b", f"{secret},Bearer {secret}"):
        answer = client.get(WHOAMI, **bearer(wrong))
        assert code_of(answer) == (401, "NOT_AUTHENTICATED"), wrong
        assert "sht_" not in answer.content.decode()
        bodies.add(answer.content)
    assert len(bodies) == 1


def test_a_token_in_the_query_string_is_not_looked_at(client, ada):
    _, secret = issue_token(ada, name="t", actor="tests")
    for name in ("token", "access_token", "api_key"):
        assert code_of(client.get(f"{WHOAMI}?{name}={secret}")) == (401, "NOT_AUTHENTICATED")


def test_a_session_of_the_console_works_and_needs_a_csrf_token_to_change_anything(oscar):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(oscar)
    assert browser.get(WHOAMI).json()["name"] == "oscar"
    answer = browser.post("/api/v1/tenants", {"name": "x"}, content_type="application/json")
    assert code_of(answer) == (403, "PERMISSION_DENIED")


REVISION = "/api/v1/profiles/p/revisions/1"
CHANGES = [
    ("post", "/api/v1/users", {Role.ADMIN}),
    ("post", "/api/v1/users/ada/tokens", {Role.ADMIN}),
    ("delete", f"/api/v1/users/ada/tokens/{ANY_ID}", {Role.ADMIN}),
    ("get", "/api/v1/users", {Role.ADMIN}),
    ("get", "/api/v1/users/ada/tokens", {Role.ADMIN}),
    ("get", "/api/v1/users/ada", {Role.ADMIN}),
    ("put", "/api/v1/users/ada", {Role.ADMIN}),
    ("post", "/api/v1/tokens", set(Role)),
    ("delete", f"/api/v1/tokens/{ANY_ID}", set(Role)),
    ("post", "/api/v1/blobs", {Role.AUTHOR, Role.OPERATOR}),
    ("post", "/api/v1/base-models", {Role.AUTHOR, Role.OPERATOR}),
    ("post", "/api/v1/contrast-sets", {Role.AUTHOR}),
    ("post", "/api/v1/eval-suites", {Role.AUTHOR}),
    ("post", "/api/v1/gate-sets", {Role.ADMIN, Role.APPROVER}),
    ("post", "/api/v1/prompt-sets", {Role.AUTHOR}),
    ("post", "/api/v1/vectors", {Role.AUTHOR}),
    ("post", "/api/v1/jobs", {Role.AUTHOR}),
    ("post", f"/api/v1/proposals/{ANY_ID}/accept", {Role.AUTHOR}),
    ("post", f"/api/v1/proposals/{ANY_ID}/decline", {Role.AUTHOR}),
    ("post", f"/api/v1/jobs/{ANY_ID}/cancel", {Role.AUTHOR, Role.OPERATOR}),
    ("post", "/api/v1/risk-policies", {Role.ADMIN, Role.APPROVER}),
    ("put", "/api/v1/risk-policies/low", {Role.ADMIN, Role.APPROVER}),
    ("post", "/api/v1/profiles", {Role.AUTHOR}),
    ("post", "/api/v1/profiles/p/revisions", {Role.AUTHOR}),
    ("put", REVISION, {Role.AUTHOR}),
    ("post", f"{REVISION}/submit", {Role.AUTHOR}),
    ("post", f"{REVISION}/approve", {Role.APPROVER}),
    ("post", f"{REVISION}/reject", {Role.APPROVER}),
    ("post", f"{REVISION}/request-changes", {Role.APPROVER}),
    ("post", f"{REVISION}/comments", set(Role)),
    ("post", f"{REVISION}/retire", {Role.APPROVER, Role.OPERATOR}),
    ("post", f"/api/v1/evaluations/{ANY_ID}/waivers", {Role.APPROVER}),
    ("post", f"/api/v1/waivers/{ANY_ID}/confirm", {Role.APPROVER}),
    ("post", f"/api/v1/waivers/{ANY_ID}/withdraw", {Role.APPROVER, Role.OPERATOR}),
    ("post", "/api/v1/environments", {Role.OPERATOR}),
    ("post", "/api/v1/environments/production/move", {Role.OPERATOR, Role.APPROVER}),
    ("post", "/api/v1/environments/production/move/plan", {Role.OPERATOR, Role.APPROVER}),
    ("post", "/api/v1/environments/production/flags/harbor/plan", {Role.OPERATOR}),
    ("put", "/api/v1/environments/production/flags/harbor", {Role.OPERATOR}),
    ("post", "/api/v1/environments/production/freezes", {Role.OPERATOR, Role.APPROVER}),
    ("post", f"/api/v1/freezes/{ANY_ID}/end", {Role.OPERATOR, Role.APPROVER}),
    ("post", "/api/v1/tenants", {Role.OPERATOR}),
    ("post", "/api/v1/kills", {Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    ("post", f"/api/v1/kills/{ANY_ID}/request-lift", {Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    ("post", f"/api/v1/kills/{ANY_ID}/withdraw-lift", {Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    ("post", f"/api/v1/kills/{ANY_ID}/confirm-lift", {Role.OPERATOR, Role.APPROVER, Role.ADMIN}),
    ("post", "/api/v1/nodes", {Role.OPERATOR}),
    ("post", "/api/v1/nodes/node-1/rotate", {Role.OPERATOR}),
    ("post", "/api/v1/nodes/node-1/withdraw", {Role.OPERATOR}),
    ("post", "/api/v1/nodes/node-1/re-enroll", {Role.OPERATOR}),
    ("post", "/api/v1/notifications/read", set(Role)),
    ("post", "/api/v1/manifests/plan", set(Role)),
    ("post", "/api/v1/manifests/apply", {Role.AUTHOR, Role.OPERATOR, Role.ADMIN, Role.APPROVER}),
    ("post", "/api/v1/manifests/drift", set(Role)),
    ("get", "/api/v1/audit/events", {Role.AUDITOR}),
    ("get", "/api/v1/audit/export", {Role.AUDITOR}),
]


def test_each_change_takes_its_role_and_no_other_will_do(api, ada, grace, oscar, iris, root):
    cast = {Role.AUTHOR: ada, Role.APPROVER: grace, Role.OPERATOR: oscar, Role.AUDITOR: iris, Role.ADMIN: root}
    for method, path, allowed in CHANGES:
        for role, somebody in cast.items():
            # A field nobody knows is refused after the role was checked, so nothing is changed on the way.
            body = {} if method == "get" else {"surprise": 1}
            answer = getattr(api(somebody), method)(path, body)
            is_refused = answer.status_code == 403
            assert is_refused != (role in allowed), f"{method} {path} by {role}: {answer.status_code}"
            if is_refused:
                assert code_of(answer) == (403, "PERMISSION_DENIED")
    assert not Environment.objects.exists()


def test_the_list_of_roles_above_is_every_change_there_is():
    from registry.api.urls import urlpatterns

    declared = {
        (method.lower(), str(pattern.pattern), frozenset(roles))
        for pattern in urlpatterns
        for method, roles in getattr(pattern.callback.view_class, "roles", {}).items()
    }
    assert len(declared) == len(CHANGES)
    for pattern in urlpatterns:
        view = pattern.callback.view_class
        changing = {name for name in ("post", "put", "patch", "delete") if hasattr(view, name)}
        assert changing <= {method.lower() for method in getattr(view, "roles", {})}, view


def test_head_takes_the_role_of_get(api, ada, iris):
    for path in ("audit/events?size=1", "audit/export", "users"):
        assert api(ada).head(f"/api/v1/{path}").status_code == 403, path
    assert api(iris).head("/api/v1/audit/events?size=1").status_code == 200


def test_everybody_on_record_may_read_the_registry(api, iris, flag_on, node, evaluation):
    reader = api(iris)
    paths = [
        *("base-models", "base-models/harbor-support", "contrast-sets", "contrast-sets/empathy/1", "eval-suites", "eval-suites/facts/1"),
        *("jobs", "vectors", "vectors/empathy/1", "vectors/empathy/1/file", "evaluations", "profiles", "profiles/harbor-empathy"),
        *("profiles/harbor-empathy/revisions", "profiles/harbor-empathy/revisions/1", "tenants", "tenants/harbor", "environments"),
        *("environments/production", "environments/production/snapshots", "environments/production/flags", "kills", "nodes"),
        *("nodes/node-1", "environments/production/explain?tenant=harbor", f"jobs/{evaluation.job_id}", f"evaluations/{evaluation.pk}"),
        *(f"evaluations/{evaluation.pk}/evidence", f"base-models/{evaluation.vector.base_model_id}"),
    ]
    for path in paths:
        assert reader.get(f"/api/v1/{path}").status_code == 200, path


def test_an_admin_adds_people_and_tokens_that_work_until_revoked(api, client, root):
    admin = api(root)
    made = admin.post("/api/v1/users", {"name": "nina", "roles": ["author"], "password": "a long enough passphrase"})
    assert (made.status_code, made.json()["roles"]) == (201, ["author"])
    assert admin.post("/api/v1/users", {"name": "nina-ci", "roles": ["author"], "acts_for": "nina"}).status_code == 201
    token = admin.post("/api/v1/users/nina-ci/tokens", {"name": "pipeline", "days": 1}).json()
    assert client.get(WHOAMI, **bearer(token["token"])).json()["acts_for"] == "nina"
    assert "token" not in admin.get("/api/v1/users/nina-ci/tokens").json()["results"][0]
    assert admin.delete(f"/api/v1/users/nina-ci/tokens/{token['id']}").status_code == 204
    assert client.get(WHOAMI, **bearer(token["token"])).status_code == 401
    assert code_of(admin.post("/api/v1/users", {"name": "nina", "roles": []})) == (409, "USER_EXISTS")
    assert code_of(admin.post("/api/v1/users", {"name": "x", "roles": ["god"]})) == (422, "ROLE_UNKNOWN")
    assert code_of(admin.post("/api/v1/users", {"name": "x", "password": "short"})) == (400, "VALIDATION")
    assert not User.objects.filter(username="x").exists()


def test_health_needs_no_token(client, db):
    assert client.get("/api/v1/healthz").json() == {"status": "ok", "database": "ok"}


def test_the_openapi_document_is_valid_and_complete(tmp_path: Path):
    from django.core.management import call_command

    target = tmp_path / "schema.yaml"
    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(target))
    text = target.read_text()
    assert "application/problem+json" in text
    for path in ("/api/v1/jobs:", "/api/v1/profiles/{name}/revisions/{number}/approve:", "/api/v1/audit/export:"):
        assert path in text


@pytest.mark.parametrize("path", ["/api/v1/", "/api/v1/nothing", "/api/v1/vectors/", "/api/v1/vectors/a/x", "/api/v1/jobs/7"])
def test_an_unknown_address_is_a_problem_document_too(client, path, db):
    assert code_of(client.get(path)) == (404, "NOT_FOUND")


def test_a_method_that_does_not_exist_is_405(api, ada):
    assert code_of(api(ada).delete("/api/v1/vectors")) == (405, "METHOD_NOT_ALLOWED")
