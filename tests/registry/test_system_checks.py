"""A setting that is wrong stops the start, and the message names it."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from registry.checks import check_settings, check_web_settings


def ids() -> list[str]:
    return [problem.id for problem in (*check_web_settings(None), *check_settings(None))]


def test_settings_of_embedded_mode_have_no_problem():
    assert ids() == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("SECRET_KEY", "unset", "steerhub.E001"),
        ("STEERHUB_SIGNING_KEY", "", "steerhub.E002"),
        ("STEERHUB_SIGNING_KEY", "not a key", "steerhub.E002"),
        ("STEERHUB_STOP_KEY", "", "steerhub.E015"),
        ("STEERHUB_STOP_KEY", "not a key", "steerhub.E015"),
        ("STEERHUB_OFFLINE_STOP_KEYS", [("ops",)], "steerhub.E016"),
        ("STEERHUB_OFFLINE_STOP_KEYS", [("ops", "c2hvcnQ=")], "steerhub.E016"),
        ("STEERHUB_OFFLINE_STOP_KEYS", [("hub", "A" * 43 + "=")], "steerhub.E016"),
        ("STEERHUB_BLOB_URL", "", "steerhub.E003"),
        ("STEERHUB_BLOB_URL", "ftp://files/blobs", "steerhub.E003"),
        ("CELERY_BROKER_URL", "", "steerhub.E004"),
        ("STEERHUB_MODEL_ROOT", Path("/no/such/folder"), "steerhub.E005"),
        ("STEERHUB_ARCHITECTURES", "/no/such/folder", "steerhub.E018"),
        ("STEERHUB_WORKER_DEVICE", "gpu", "steerhub.E019"),
        ("STEERHUB_WORKER_DEVICE", "cpu,cuda:0", "steerhub.E019"),
        ("STEERHUB_QUEUES", [("large",)], "steerhub.E022"),
        ("STEERHUB_QUEUES", [("large", "0")], "steerhub.E022"),
        ("STEERHUB_QUEUES", [("large.gpu", "80")], "steerhub.E022"),
        ("STEERHUB_QUEUES", [("large", "80"), ("large", "40")], "steerhub.E022"),
        ("STEERHUB_WORKER_IDLE_SECONDS", -1, "steerhub.E023"),
        ("STEERHUB_SNAPSHOT_SECONDS", 59, "steerhub.E006"),
        ("STEERHUB_LEASE_SECONDS", 4, "steerhub.E007"),
        ("STEERHUB_OIDC_CLIENT_ID", "hub", "steerhub.E011"),
        ("STEERHUB_OIDC_ROLES", [("ml", "author")], "steerhub.E013"),
        ("STEERHUB_PROXIES", -1, "steerhub.E014"),
    ],
)
def test_a_wrong_setting_is_named_by_its_check(settings, name, value, problem):
    setattr(settings, name, value)
    (found,) = (*check_web_settings(None), *check_settings(None))
    assert found.id == problem
    assert name.removeprefix("STEERHUB_") in found.msg


def test_the_key_of_stops_is_a_key_of_its_own(settings):
    settings.STEERHUB_STOP_KEY = settings.STEERHUB_SIGNING_KEY
    assert ids() == ["steerhub.E015"]


@pytest.mark.parametrize("issuer", ["http://login.example", "ftp://login.example", "login.example", "http://127.0.0.1.example"])
def test_a_login_in_the_clear_is_refused(settings, issuer):
    settings.STEERHUB_OIDC_ISSUER, settings.STEERHUB_OIDC_CLIENT_ID, settings.STEERHUB_OIDC_CLIENT_SECRET = issuer, "hub", "secret"
    assert ids() == ["steerhub.E012"]


@pytest.mark.parametrize("roles", [[("ml", "god")], [("ml",)]])
def test_a_role_that_no_provider_can_give_is_refused(settings, roles):
    settings.STEERHUB_OIDC_ROLES_CLAIM, settings.STEERHUB_OIDC_ROLES = "groups", roles
    assert ids() == ["steerhub.E013"]


def test_atomic_requests_and_open_hosts_are_refused(settings, monkeypatch):
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    settings.EMBEDDED, settings.ALLOWED_HOSTS = False, ["*"]
    assert ids() == ["steerhub.E009", "steerhub.E008"]


SHARED = ["STEERHUB_BLOB_URL", "CELERY_BROKER_URL"]
WEB = ["STEERHUB_SECRET_KEY", "STEERHUB_SIGNING_KEY", "STEERHUB_STOP_KEY"]


@pytest.mark.parametrize(
    ("program", "named", "not_asked_for"),
    [
        (["manage.py", "check"], SHARED + WEB, []),
        (["-m", "uvicorn", "steerhub.asgi:application", "--port", "0"], SHARED + WEB, []),
        # A worker loads other people's weights; it has no business with keys.
        (["-m", "celery", "-A", "steerhub", "worker"], SHARED, WEB),
    ],
    ids=["management command", "web", "worker"],
)
def test_production_mode_without_its_settings_does_not_start(program, named, not_asked_for, tmp_path):
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": "postgresql://hub@127.0.0.1:1/hub", "STEERHUB_VAR": str(tmp_path)}
    done = subprocess.run([sys.executable, *program], capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode != 0
    assert all(name in done.stderr for name in named)
    assert not any(name in done.stderr for name in not_asked_for)


def test_production_settings_pass_djangos_own_checks(tmp_path):
    """`check --deploy` at the level of warnings: cookies, TLS, hosts, keys, and an OpenAPI document without gaps."""
    from django.conf import settings

    production = {
        "PATH": os.environ["PATH"],
        "STEERHUB_VAR": str(tmp_path),
        "DATABASE_URL": "postgresql://hub@127.0.0.1:1/hub",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "STEERHUB_BLOB_URL": tmp_path.as_uri(),
        "STEERHUB_SIGNING_KEY": settings.STEERHUB_SIGNING_KEY,
        "STEERHUB_STOP_KEY": settings.STEERHUB_STOP_KEY,
        "STEERHUB_SECRET_KEY": secrets.token_urlsafe(48),
        "STEERHUB_HOSTS": "hub.example",
        "STEERHUB_PROXIES": "1",
        "STEERHUB_OIDC_ISSUER": "https://login.example",
        "STEERHUB_OIDC_CLIENT_ID": "steerhub",
        "STEERHUB_OIDC_CLIENT_SECRET": "a secret",
        "STEERHUB_OIDC_ROLES_CLAIM": "groups",
        "STEERHUB_OIDC_ROLES": "ml=author,ml-approvers=approver",
    }
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, capture_output=True, text=True, env=production, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
