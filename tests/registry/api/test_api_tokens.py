"""API tokens: what each may do, and that a token which may nothing is refused without a trace of itself."""

import logging
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.api import authentication
from registry.audit import Action
from registry.models import ApiToken, AuditEvent
from registry.services.people import issue_token, revoke_token
from registry.web.alarms import Alarm
from steernode.hub.tokens import PERSON, make_token
from tests.support.api import WHOAMI, bearer, code_of


@pytest.fixture(autouse=True)
def _quiet_alarm(monkeypatch):
    monkeypatch.setattr(authentication, "_alarm", Alarm(every_seconds=60))


@pytest.fixture
def with_token(api):
    """A client that uses a new token of this user: with_token(ada, scopes=["read"])."""

    def client(user, **limits):
        client = api()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(user, name='t', actor='tests', **limits)[1]}")
        return client

    return client


def test_a_wrong_checksum_is_refused_before_the_database_is_asked(client, ada, django_assert_num_queries):
    secret = issue_token(ada, name="t", actor="tests")[1]
    mistyped = secret[:-1] + ("0" if secret[-1] != "0" else "1")
    for wrong in (mistyped, secret[:-1], secret + "0", secret[:20], "sht_" + "x" * 49):
        with django_assert_num_queries(0):
            assert code_of(client.get(WHOAMI, **bearer(wrong))) == (401, "NOT_AUTHENTICATED")


def test_two_authorization_headers_are_no_token(client, ada, grace):
    one, other = issue_token(ada, name="t", actor="tests")[1], issue_token(grace, name="t", actor="tests")[1]
    # What a server makes of two headers of one name.
    assert code_of(client.get(WHOAMI, HTTP_AUTHORIZATION=f"Bearer {one},Bearer {other}")) == (401, "NOT_AUTHENTICATED")


def test_a_read_only_token_changes_nothing(with_token, ada, unchanged):
    reader = with_token(ada, scopes=["read"])
    assert reader.get(WHOAMI).json()["roles"] == []
    assert reader.get("/api/v1/vectors").status_code == 200
    before = unchanged()
    assert code_of(reader.post("/api/v1/profiles", {"name": "p", "intent": "x", "axis": "a", "risk_class": "low"}))[0] == 403
    assert unchanged() == before


def test_a_token_uses_only_the_roles_of_its_scopes(with_token, person):
    both = person("both", "author", "operator")
    operating = with_token(both, scopes=["operator"])
    assert operating.post("/api/v1/tenants", {"name": "x"}).status_code == 201
    assert operating.post("/api/v1/profiles", {"name": "p", "intent": "x", "axis": "a", "risk_class": "low"}).status_code == 403


def test_a_token_never_exceeds_its_person(with_token, person, root):
    from registry.services.people import change_access

    both = person("both", "author", "operator")
    operating, everything = with_token(both, scopes=["operator"]), with_token(both)
    change_access(both, roles=["author"], tenants=None, is_active=True, actor=root)
    for token in (operating, everything):
        assert code_of(token.post("/api/v1/tenants", {"name": "x"})) == (403, "PERMISSION_DENIED")


def test_scopes_nobody_knows_or_holds_are_refused(api, ada):
    author = api(ada)
    assert code_of(author.post("/api/v1/tokens", {"name": "t", "scopes": ["operator"]})) == (422, "TOKEN_SCOPE")
    assert code_of(author.post("/api/v1/tokens", {"name": "t", "scopes": ["god"]})) == (400, "VALIDATION")
    assert code_of(author.post("/api/v1/tokens", {"name": "t", "scopes": []})) == (400, "VALIDATION")
    assert code_of(author.post("/api/v1/tokens", {"name": "t", "days": 367})) == (400, "VALIDATION")


def test_the_database_knows_the_scopes_too(ada):
    for scopes in ([], ["god"], ["read", "node"]):
        with pytest.raises(IntegrityError, match="token_scopes_are_known"), transaction.atomic():
            ApiToken.objects.create(user=ada, name="t", prefix="sht_x", secret_sha256="0" * 64, scopes=scopes)


def test_everybody_with_a_role_keeps_their_own_tokens(api, client, ada, grace):
    author = api(ada)
    made = author.post("/api/v1/tokens", {"name": "laptop", "days": 7, "scopes": ["read"]})
    assert (made.status_code, made.json()["scopes"]) == (201, ["read"])
    assert made["Cache-Control"] == "no-store"
    secret, token_id = made.json()["token"], made.json()["id"]
    assert client.get(WHOAMI, **bearer(secret)).status_code == 200
    listed = author.get("/api/v1/tokens").json()["results"]
    assert {row["name"] for row in listed} == {"tests", "laptop"}
    assert "token" not in listed[0]
    # Another person's token does not exist for grace.
    assert code_of(api(grace).delete(f"/api/v1/tokens/{token_id}")) == (404, "TOKEN_NOT_FOUND")
    assert author.delete(f"/api/v1/tokens/{token_id}").status_code == 204
    assert client.get(WHOAMI, **bearer(secret)).status_code == 401


def test_nobody_issues_a_token_under_another_persons_name(api, ada, root, person):
    admin = api(root)
    assert code_of(admin.post("/api/v1/users/ada/tokens", {"name": "t"})) == (409, "TOKEN_OF_ANOTHER")
    person("ada-ci", "author", acts_for=ada)
    assert admin.post("/api/v1/users/ada-ci/tokens", {"name": "t"}).status_code == 201


def test_a_token_issues_no_token_that_exceeds_it(with_token, harbor, atlas, person):
    both = person("both", "author", "operator")
    narrow = with_token(both, scopes=["operator"], tenant=harbor, days=2)
    for wider in ({}, {"scopes": ["author"]}, {"scopes": ["operator"]}, {"scopes": ["operator"], "tenant": "harbor", "days": 30}):
        assert code_of(narrow.post("/api/v1/tokens", {"name": "t", **wider})) == (422, "TOKEN_SCOPE"), wider
    assert narrow.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "tenant": "harbor", "days": 1}).status_code == 201
    assert code_of(narrow.post("/api/v1/tokens", {"name": "t", "scopes": ["read"], "tenant": "atlas"})) == (404, "TENANT_NOT_FOUND")


def test_when_a_token_was_last_used_is_written_once_a_minute(client, ada, django_assert_num_queries):
    token, secret = issue_token(ada, name="t", actor="tests")
    with django_assert_num_queries(3):  # the token, its use, the roles
        client.get(WHOAMI, **bearer(secret))
    first = ApiToken.objects.get(pk=token.pk).last_used_at
    assert timezone.now() - first < timedelta(seconds=10)
    with django_assert_num_queries(2):
        client.get(WHOAMI, **bearer(secret))
    assert ApiToken.objects.get(pk=token.pk).last_used_at == first
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(seconds=61))
    client.get(WHOAMI, **bearer(secret))
    assert ApiToken.objects.get(pk=token.pk).last_used_at > first


def test_a_token_that_once_worked_leaves_one_event_a_minute_and_noise_leaves_none(client, ada):
    token, secret = issue_token(ada, name="t", actor="tests")
    revoke_token(token, actor="tests")
    before = AuditEvent.objects.count()
    for _ in range(20):
        client.get(WHOAMI, **bearer(secret))
        client.get(WHOAMI, **bearer(make_token(PERSON)))
        client.get(WHOAMI, **bearer("sht_nonsense"))
    (event,) = AuditEvent.objects.filter(seq__gt=before)
    assert (event.action, event.object_name) == (Action.TOKEN_REFUSED, "ada")
    assert b'"reason":"revoked"' in bytes(event.body)


def test_a_token_is_in_no_log_and_no_answer(client, api, ada, caplog):
    caplog.set_level(logging.DEBUG)
    token, secret = issue_token(ada, name="t", actor="tests")
    revoke_token(token, actor="tests")
    issued = api(ada).post("/api/v1/tokens", {"name": "t"}).json()["token"]
    said = ""
    for wrong in (secret, make_token(PERSON), issued[:-1] + "!"):
        said += client.get(WHOAMI, **bearer(wrong)).content.decode()
        said += client.get(f"{WHOAMI}?access_token={wrong}").content.decode()
        said += client.get(f"{WHOAMI}?access_token={wrong}", **bearer(issued)).content.decode()
    stored = "".join(bytes(event.body).decode() for event in AuditEvent.objects.all())
    for hidden in (secret, issued):
        # The first twelve characters are shown in lists, so that people can tell tokens apart.
        assert hidden[12:] not in said + caplog.text + stored


def test_a_flood_is_let_through_once_and_counted():
    alarm = Alarm(every_seconds=60, max_subjects=2)
    assert [alarm.ring("a") for _ in range(3)] == [0, None, None]
    assert alarm.ring("b") == 0
    assert alarm.ring("c") == 0
    assert alarm.ring("a") is None
