"""System checks: a setting that is wrong or missing stops the start, with the setting's name. Ids are stable."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection
from django.utils import timezone

from registry.dispatch import read_queues
from registry.owner import RoleFound, find_role
from steernode.errors import ModelError
from steernode.files.architectures import learn_architectures
from steernode.placement import parse_devices

# Tags of the checks: those of every process, and those of the web process alone.
EVERYWHERE, WEB = "steerhub", "steerhub_web"
# Asked by nobody but `manage.py check`.
KEYS = "steerhub_keys"
# How long before a purpose is without a key somebody is told.
KEY_WARNING = timedelta(days=30)


@register(WEB)
def check_web_settings(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """What only the web process needs: a worker holds neither the key that signs snapshots nor the one that signs sessions."""
    problems: list[CheckMessage] = []
    if settings.SECRET_KEY == "unset":  # noqa: S105  (what the settings say when the variable is missing)
        problems.append(Error("STEERHUB_SECRET_KEY is not set; sessions cannot be signed without it.", id="steerhub.E001"))
    problems += _check_keys()
    problems += _check_single_sign_on()
    problems += _check_descriptors()
    if settings.STEERHUB_PROXIES < 0:
        problems.append(Error("STEERHUB_PROXIES is the number of proxies in front, 0 or more.", id="steerhub.E014"))
    if not settings.EMBEDDED and "*" in settings.ALLOWED_HOSTS:
        problems.append(Error("STEERHUB_HOSTS must name hosts in production, not *.", id="steerhub.E009"))
    return problems


def _check_descriptors() -> list[CheckMessage]:
    """A warning: with few of them fewer polls are held, and nodes hear of a stop by their next plain poll."""
    from registry.web.descriptors import MAX_HELD, RESERVE, raise_limit

    allowed = raise_limit()
    if allowed >= MAX_HELD + RESERVE:
        return []
    message = f"The process may open {allowed} files: it holds {max(1, allowed - RESERVE)} polls of nodes instead of {MAX_HELD}."
    return [Warning(message, hint=f"Allow it {MAX_HELD + RESERVE} (ulimit -n, LimitNOFILE).", id="steerhub.W003")]


def _check_single_sign_on() -> list[CheckMessage]:
    """All of it or none; nobody's login travels in the clear; and a role that nobody has is a typing error."""
    from registry.models import Role

    needed = {name: getattr(settings, name) for name in ("STEERHUB_OIDC_ISSUER", "STEERHUB_OIDC_CLIENT_ID", "STEERHUB_OIDC_CLIENT_SECRET")}
    missing = [name for name, value in needed.items() if not value]
    problems: list[CheckMessage] = []
    if missing and len(missing) < len(needed):
        problems.append(Error(f"{missing[0]} is not set; single sign-on takes {', '.join(needed)}.", id="steerhub.E011"))
    issuer = urlsplit(settings.STEERHUB_OIDC_ISSUER)
    is_here = settings.EMBEDDED and issuer.hostname in ("127.0.0.1", "localhost")
    if settings.STEERHUB_OIDC_ISSUER and issuer.scheme != "https" and not (issuer.scheme == "http" and is_here):
        problems.append(Error("STEERHUB_OIDC_ISSUER must be an https URL.", id="steerhub.E012"))
    wrong = [pair for pair in settings.STEERHUB_OIDC_ROLES if len(pair) != 2 or pair[1] not in Role.values]
    if wrong or bool(settings.STEERHUB_OIDC_ROLES) != bool(settings.STEERHUB_OIDC_ROLES_CLAIM):
        message = "STEERHUB_OIDC_ROLES must be pairs such as ml-approvers=approver, and STEERHUB_OIDC_ROLES_CLAIM their claim; or neither."
        problems.append(Error(message, id="steerhub.E013"))
    return problems


@register(EVERYWHERE)
def check_settings(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """Settings of every process that need no service to be judged."""
    problems: list[CheckMessage] = []
    if urlsplit(settings.STEERHUB_BLOB_URL).scheme not in ("file", "s3"):
        problems.append(Error("STEERHUB_BLOB_URL must be file:///folder or s3://bucket/prefix.", id="steerhub.E003"))
    if not settings.CELERY_BROKER_URL:
        problems.append(Error("CELERY_BROKER_URL is not set; jobs would never reach a worker.", id="steerhub.E004"))
    if not settings.STEERHUB_MODEL_ROOT.is_dir():
        problems.append(Error("STEERHUB_MODEL_ROOT is not a folder.", id="steerhub.E005"))
    if settings.STEERHUB_SNAPSHOT_SECONDS < 60:
        problems.append(Error("STEERHUB_SNAPSHOT_SECONDS is below 60: snapshots would expire before nodes pull them.", id="steerhub.E006"))
    if settings.STEERHUB_LEASE_SECONDS < 5:
        problems.append(Error("STEERHUB_LEASE_SECONDS is below 5: a slow worker would lose jobs it is still running.", id="steerhub.E007"))
    problems += _check_architectures()
    problems += _check_workers()
    if settings.DATABASES["default"].get("ATOMIC_REQUESTS"):
        problems.append(Error("ATOMIC_REQUESTS must stay off: transitions are durable transactions.", id="steerhub.E008"))
    return problems


def _check_architectures() -> list[CheckMessage]:
    if settings.STEERHUB_ARCHITECTURES:
        try:
            learn_architectures(Path(settings.STEERHUB_ARCHITECTURES))
        except ModelError as error:
            return [Error(f"STEERHUB_ARCHITECTURES: {error.message}.", id="steerhub.E018")]
    return []


def _check_workers() -> list[CheckMessage]:
    """Whether the device is there, and another worker's, is for the worker to see: this process may be on another machine."""
    problems: list[CheckMessage] = []
    try:
        parse_devices(settings.STEERHUB_WORKER_DEVICE)
    except ModelError as error:
        problems.append(Error(f"STEERHUB_WORKER_DEVICE: {error.message}.", id="steerhub.E019"))
    try:
        read_queues()
    except ValueError as error:
        problems.append(Error(f"STEERHUB_QUEUES {error}.", id="steerhub.E022"))
    if settings.STEERHUB_WORKER_IDLE_SECONDS < 0:
        problems.append(Error("STEERHUB_WORKER_IDLE_SECONDS is a number of seconds, 0 or more.", id="steerhub.E023"))
    return problems


def _check_keys() -> list[CheckMessage]:
    from registry.snapshots.sign import offline_stop_keys, signing_key, stop_key

    problems: list[CheckMessage] = []
    for name, read, number in (("STEERHUB_SIGNING_KEY", signing_key, "E002"), ("STEERHUB_STOP_KEY", stop_key, "E015")):
        if not getattr(settings, name):
            problems.append(Error(f"{name} is not set; give the Ed25519 private key in PEM.", id=f"steerhub.{number}"))
            continue
        try:
            read()
        except ValueError as error:
            problems.append(Error(f"{name} is not usable: {error}.", id=f"steerhub.{number}"))
    if not problems and settings.STEERHUB_STOP_KEY.strip() == settings.STEERHUB_SIGNING_KEY.strip():
        problems.append(Error("STEERHUB_STOP_KEY must be another key than the one that signs snapshots.", id="steerhub.E015"))
    try:
        offline_stop_keys()
    except ValueError as error:
        problems.append(Error(f"{error}.", id="steerhub.E016"))
    return problems


@register(KEYS)
def check_signing_keys(app_configs: Any, databases: Any = None, **kwargs: Any) -> Sequence[CheckMessage]:
    """Some key signs for each purpose, and one will for some time: for `check --database default`. No process asks it when it starts,
    because a hub whose key has ended must still stop the fleet. Before `migrate` there is nothing to judge.
    """
    from registry.models import SigningKey
    from registry.snapshots.sign import SETTINGS, private_keys
    from steernode.dsse import key_id

    if not databases or find_role() is None or SigningKey._meta.db_table not in connection.introspection.table_names():
        return []
    problems: list[CheckMessage] = []
    now = timezone.now()
    for purpose, setting in SETTINGS.items():
        try:
            held = [key_id(key.public_key()) for key in private_keys(purpose)]
        except ValueError:
            # `check_web_settings` says so; a worker need not have it.
            continue
        rows = SigningKey.objects.filter(purpose=purpose, keyid__in=held)
        # A key that has never signed counts from when it does.
        if len(rows) < len(held):
            continue
        counting = [row for row in rows if row.revoked_at is None and row.not_after > now]
        if not any(row.not_before <= now for row in counting):
            message = f"No key of {setting} is in force: nodes refuse what it signs. Run manage.py rotate_signing_key --purpose {purpose}."
            problems.append(Error(message, id="steerhub.E017"))
            continue
        end = max(row.not_after for row in counting)
        if end - now < KEY_WARNING:
            message = f"The last key of {setting} ends on {end:%F}. Run manage.py rotate_signing_key --purpose {purpose} before."
            problems.append(Warning(message, id="steerhub.W001"))
    return problems


@register(Tags.database)
def check_database(app_configs: Any, databases: Any = None, **kwargs: Any) -> Sequence[CheckMessage]:
    """The server is a PostgreSQL that the migrations are written for, and processes own nothing there.

    A database that does not answer now is not a wrong setting.
    """
    role = find_role() if databases else None
    if role is None:
        return []
    problems: list[CheckMessage] = []
    if role.server_version < 150000:
        problems.append(Error("DATABASE_URL must name a PostgreSQL of version 15 or later.", id="steerhub.E010"))
    # A command that is about to migrate is connected as the owner, and so are tests.
    if connection.settings_dict["USER"] == settings.STEERHUB_APP_ROLE:
        problems += _check_role(role)
    return problems + _check_clock()


def _check_role(role: RoleFound) -> list[CheckMessage]:
    """Whoever owns a table can disable its guards; whoever is a superuser can do anything."""
    is_too_much = "is a superuser" if role.is_superuser else "has BYPASSRLS" if role.bypasses_rows else ""
    is_too_much = is_too_much or (f"owns {role.owns}, or is a member of who does" if role.owns else "")
    hint = "see database roles in docs/operations.md"
    if is_too_much:
        message = f"DATABASE_URL connects as {role.name}, which {is_too_much}; processes connect as a role that owns nothing: {hint}."
        return [Error(message, id="steerhub.E020")]
    if role.may_change:
        message = f"DATABASE_URL connects as {role.name}, which may change what {role.may_change} keeps; run manage.py setup_roles: {hint}."
        return [Error(message, id="steerhub.E021")]
    return []


def _check_clock() -> list[CheckMessage]:
    """A warning: stops do not look at it, but snapshots expire by it, and reviews and freezes end."""
    from registry.reads.clocks import hub_ahead_seconds, say_disagreement

    disagreement = say_disagreement(hub_ahead_seconds())
    return [Warning(disagreement, hint="Set both by one time server.", id="steerhub.W002")] if disagreement else []
