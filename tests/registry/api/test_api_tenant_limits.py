"""Callers limited to harbor: atlas, its flags, kills and events do not exist for them, on any endpoint."""

import json
import re
from decimal import Decimal

import pytest

from registry.api.urls import urlpatterns
from registry.models import AuditEvent, Kill, Role
from registry.services.flags import set_flag
from registry.services.kills import engage_kill
from registry.services.people import change_access, issue_token
from tests.support.api import code_of
from tests.support.paths import FOREIGN, NAMES, NOTHING

# As long as harbor's, so that bodies can be compared.
ANY_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def world(flag_on, node, evaluation, base_model, approved, production, harbor, atlas, oscar) -> dict[str, str]:
    """Both tenants are steered and both are killed. What stands in the place of each path's parameters."""
    set_flag(production, atlas, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="atlas too", actor=oscar)
    for target in ("harbor", "atlas"):
        engage_kill("tenant", target=target, reason="noise", actor=oscar)
    return {
        "version": "1",
        "number": "1",
        "environment": "production",
        "tenant": FOREIGN,
        "digest": evaluation.digest,
        "job_id": str(evaluation.job_id),
        "evaluation_id": str(evaluation.pk),
        "kill_id": str(Kill.objects.get(tenant=atlas).pk),
        "token_id": ANY_ID,
    }


@pytest.fixture(params=["a person", "a token", "a service account of a limited person", "a limited service account"])
def limited(request, api, person, harbor):
    """Every role, and harbor only."""
    everything = person("everything", *Role.values)
    user = everything if "service" not in request.param else person("robot", *Role.values, acts_for=everything)
    if request.param in ("a person", "a service account of a limited person"):
        change_access(everything, roles=Role.values, tenants=[harbor], is_active=True, actor="tests")
    elif request.param == "a limited service account":
        change_access(user, roles=Role.values, tenants=[harbor], is_active=True, actor="tests")
    tenant = harbor if request.param == "a token" else None
    client = api()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(user, name='t', actor='tests', tenant=tenant)[1]}")
    return client


def paths_of(world: dict[str, str]) -> list[tuple[str, type]]:
    """Every address there is, filled with what exists, and its view."""
    found = []
    for pattern in urlpatterns:
        route = str(pattern.pattern)
        name = next((name for start, name in NAMES.items() if route.startswith(start)), FOREIGN)
        values = {**world, "name": name, "reference": name}
        values |= {unknown: ANY_ID for unknown in re.findall(r"<uuid:(\w+)>", route) if unknown not in values}
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda match, values=values: values.get(match[1], FOREIGN), route)
        if path:
            found.append((f"/api/v1/{path}", pattern.callback.view_class))
    return found


def test_no_answer_tells_of_another_tenant(limited, world):
    assert limited.get("/api/v1/whoami").json()["tenants"] == ["harbor"]
    for path, view in paths_of(world):
        if not hasattr(view, "get"):
            continue
        for query in ("", f"?tenant={FOREIGN}", "?tenant=harbor"):
            answer = limited.get(path + query)
            told = answer.getvalue() if answer.streaming else answer.content
            # The address itself may say it back; nothing else may.
            shown = told.replace(b"'atlas'", b"").replace(b'"atlas"', b"") if answer.status_code == 404 else told
            assert b"atlas" not in shown, f"{path}{query}: {shown!r}"


def test_every_change_that_a_view_does_not_open_is_closed(limited, world):
    events = AuditEvent.objects.count()
    for path, view in paths_of(world):
        for method in ("post", "put", "delete"):
            if hasattr(view, method) and method.upper() not in view.limited and getattr(view, "roles", None):
                answer = getattr(limited, method)(path, {"surprise": 1})
                assert code_of(answer) == (403, "PERMISSION_DENIED"), f"{method} {path}"
    assert AuditEvent.objects.count() == events


def test_another_tenants_names_and_ids_are_answered_like_what_does_not_exist(limited, world):
    foreign_kill = world["kill_id"]
    flag = {"enabled": False, "reason": "x"}
    rows = [
        ("get", "/api/v1/tenants/{name}", None),
        ("get", "/api/v1/environments/production/explain?tenant={name}", None),
        ("get", "/api/v1/environments/production/flags?tenant={name}", None),
        ("put", "/api/v1/environments/production/flags/{name}", flag),
        ("get", "/api/v1/environments/production/flags/{name}", None),
        ("get", "/api/v1/environments/production/flags/{name}/history", None),
        ("post", "/ofrep/v1/evaluate/flags", {"context": {"environment": "production", "tenant": "{name}"}}),
        ("post", "/ofrep/v1/evaluate/flags/steering", {"context": {"environment": "production", "tenant": "{name}"}}),
        ("post", "/api/v1/kills", {"kind": "tenant", "target": "{name}", "reason": "x"}),
        ("post", "/api/v1/tokens", {"name": "t", "scopes": ["read"], "tenant": "{name}", "days": 1}),
        ("get", "/api/v1/audit/events?tenant={name}", None),
        ("get", "/api/v1/kills/{kill}", None),
        ("post", "/api/v1/kills/{kill}/request-lift", {"reason": "x"}),
        ("post", "/api/v1/kills/{kill}/confirm-lift", {}),
    ]
    before = AuditEvent.objects.count()
    for method, path, body in rows:
        answers = []
        for name, kill in ((FOREIGN, foreign_kill), (NOTHING, ANY_ID)):
            filled = json.loads(json.dumps(body).replace("{name}", name))
            answer = getattr(limited, method)(path.replace("{name}", name).replace("{kill}", kill), filled)
            answers.append((answer.status_code, answer["Content-Type"], answer.content.decode().replace(name, "?").replace(kill, "?")))
        assert answers[0] == answers[1], path
        # OFREP has no 404 for a context; it says INVALID_CONTEXT.
        gone = 400 if path.startswith("/ofrep/") else 404
        assert answers[0][0] == gone or '"results":[]' in answers[0][2], f"{path}: {answers[0]}"
    assert AuditEvent.objects.count() == before


def test_a_record_of_another_tenant_is_no_place_to_page_from(limited, world, atlas):
    from registry.models import TenantFlag

    flag = TenantFlag.objects.get(tenant=atlas)
    for foreign in (str(flag.pk), ANY_ID):
        answer = limited.get(f"/api/v1/environments/production/flags?after={foreign}")
        assert code_of(answer) == (400, "VALIDATION")


def test_ones_own_tenant_is_all_there(limited, world):
    assert limited.get("/api/v1/tenants/harbor").status_code == 200
    assert [row["tenant"] for row in limited.get("/api/v1/environments/production/flags").json()["results"]] == ["harbor"]
    assert [row["target"] for row in limited.get("/api/v1/kills").json()["results"]] == ["harbor"]
    assert limited.get("/api/v1/environments/production/explain?tenant=harbor").json()["tenant"] == "harbor"
    assert {row["tenant"] for row in limited.get("/api/v1/audit/events").json()["results"]} == {"harbor"}
    off = limited.put("/api/v1/environments/production/flags/harbor", {"enabled": False, "reason": "x"})
    assert off.status_code == 200
    again = limited.post("/api/v1/kills", {"kind": "tenant", "target": "harbor", "reason": "x"})
    assert again.status_code == 201


def test_a_kill_that_reaches_other_tenants_is_for_others_to_make(limited, world, oscar):
    before = Kill.objects.count()
    for kind, target in (("everything", ""), ("environment", "production"), ("profile", "harbor-empathy")):
        assert code_of(limited.post("/api/v1/kills", {"kind": kind, "target": target, "reason": "x"})) == (409, "KILL_BEYOND_TENANTS")
    wide = engage_kill("everything", reason="x", actor=oscar)
    assert limited.get(f"/api/v1/kills/{wide.pk}").status_code == 200
    assert code_of(limited.post(f"/api/v1/kills/{wide.pk}/request-lift", {"reason": "x"})) == (409, "KILL_BEYOND_TENANTS")
    assert Kill.objects.count() == before + 1


def test_taking_the_last_tenant_away_opens_nothing(api, person, world, root):
    somebody = person("somebody", "operator", "auditor")
    change_access(somebody, roles=["operator", "auditor"], tenants=[], is_active=True, actor=root)
    client = api(somebody)
    for path in ("tenants", "environments/production/flags", "kills", "audit/events"):
        assert client.get(f"/api/v1/{path}").json()["results"] == [], path


def test_only_another_administrator_widens_a_limit(api, root, person, world):
    limit = {"roles": ["operator"], "tenants": ["harbor"]}
    somebody = person("somebody", "operator")
    changed = api(root).put("/api/v1/users/somebody", limit)
    assert (changed.status_code, changed.json()["tenants"]) == (200, ["harbor"])
    assert api(somebody).get(f"/api/v1/tenants/{FOREIGN}").status_code == 404
    assert code_of(api(root).put("/api/v1/users/root", {"roles": ["admin", "approver"], "tenants": None})) == (409, "OWN_ACCESS")
    assert code_of(api(root).put("/api/v1/users/somebody", {"roles": ["god"], "tenants": None})) == (422, "ROLE_UNKNOWN")
    assert code_of(api(root).put("/api/v1/users/somebody", {"roles": [], "tenants": ["ghost"]})) == (404, "TENANT_NOT_FOUND")
    assert code_of(api(root).put("/api/v1/users/somebody", {"roles": []})) == (400, "VALIDATION")
    assert api(root).put("/api/v1/users/somebody", {"roles": [], "tenants": None, "is_active": False}).status_code == 200
    assert api(somebody).get("/api/v1/whoami").status_code == 401
