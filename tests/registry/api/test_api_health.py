"""Live is who answers, ready is who can do its work; and what is missing is named by a code, here and in every other answer."""

import pytest
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from registry.services.people import create_user, issue_token
from registry.web import readiness
from tests.support.api import WHOAMI, bearer, code_of

READY, LIVE = "/api/v1/healthz", "/api/v1/livez"


@pytest.fixture
def without_tables():
    """What a database looks like before anybody has migrated it."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA empty")
        cursor.execute("SET search_path TO empty")
    yield
    with connection.cursor() as cursor:
        cursor.execute("RESET search_path")
        cursor.execute("DROP SCHEMA empty")


def test_a_hub_that_has_all_it_needs_is_live_and_ready(client, db):
    assert client.get(READY).json() == {"status": "ok", "database": "ok"}
    assert client.get(LIVE).json() == {"status": "ok"}


def test_a_migration_that_is_missing_is_named(client, db):
    last = MigrationRecorder.Migration.objects.filter(app="registry").latest("name")
    last.delete()
    answer = client.get(READY)
    assert code_of(answer) == (503, "MIGRATIONS_PENDING")
    assert (answer.json()["item"], "manage.py migrate" in answer.json()["detail"]) == (f"registry.{last.name}", True)
    assert answer["Retry-After"] == "10"
    assert client.get(LIVE).status_code == 200


@pytest.mark.parametrize("key", ["", "not a key", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_a_signing_key_that_is_missing_or_none_is_named(client, db, settings, key):
    settings.STEERHUB_SIGNING_KEY = key
    answer = client.get(READY)
    assert code_of(answer) == (503, "SIGNING_KEY")
    assert answer.json()["item"] == "STEERHUB_SIGNING_KEY"
    assert client.get(LIVE).status_code == 200


def test_a_database_that_does_not_answer_is_said_and_ends_no_life(client, db, monkeypatch):
    def fail(_recorder):
        raise OperationalError("connection refused")

    monkeypatch.setattr(readiness.MigrationRecorder, "applied_migrations", fail)
    assert code_of(client.get(READY)) == (503, "UNAVAILABLE")
    assert client.get(LIVE).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_database_without_tables_is_not_ready_and_says_so_to_whoever_asks(client, without_tables):
    secret = "sht_00000000000000000000000000000000000000000004WaEOy"
    assert code_of(client.get(READY)) == (503, "MIGRATIONS_PENDING")
    assert client.get(LIVE).status_code == 200
    for ask in (
        lambda: client.get(WHOAMI, **bearer(secret)),
        lambda: client.get("/api/v1/tenants?size=1", **bearer(secret)),
        lambda: client.post("/api/v1/kills", {"kind": "everything"}, content_type="application/json", **bearer(secret)),
        lambda: client.post("/ofrep/v1/evaluate/flags/steering", {}, content_type="application/json", **bearer(secret)),
    ):
        answer = ask()
        assert code_of(answer) == (503, "MIGRATIONS_PENDING")
        assert "manage.py migrate" in answer.json()["detail"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/admin/", "/accounts/login/", "/console/kills/"])
def test_a_page_on_a_database_without_tables_says_so_too(without_tables, path):
    browser = Client(raise_request_exception=False)
    browser.cookies["sessionid"] = "x" * 32
    answer = browser.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "10")
    assert "MIGRATIONS_PENDING" in answer.content.decode()


@pytest.mark.django_db(transaction=True)
def test_a_column_that_is_missing_is_not_ready_where_a_migration_is_and_a_failure_where_none_is(client):
    secret = issue_token(create_user("ada", roles=["author"], actor="tests"), name="t", actor="tests")[1]
    client.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE registry_apitoken RENAME COLUMN scopes TO unknown")
    try:
        assert code_of(client.get(WHOAMI, **bearer(secret))) == (500, "INTERNAL")
        last = MigrationRecorder.Migration.objects.filter(app="registry").latest("name")
        last.delete()
        assert code_of(client.get(WHOAMI, **bearer(secret))) == (503, "MIGRATIONS_PENDING")
        last.save(force_insert=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE registry_apitoken RENAME COLUMN unknown TO scopes")
