"""Celery as it is: a broker of a test's own, and worker processes on it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from celery import current_app
from django.db import connection
from kombu import pools

ROOT = Path(__file__).resolve().parent.parent.parent


@contextmanager
def celery_over_files(folder: Path) -> Iterator[str]:
    """The URL of a broker over the filesystem, which this process's Celery application uses until the block ends."""
    messages, control = folder / "broker/messages", folder / "broker/control"
    for each in (messages, control):
        each.mkdir(parents=True)
    with celery_over("filesystem://", {"data_folder_in": str(messages), "data_folder_out": str(messages), "control_folder": str(control)}):
        yield "filesystem://"


@contextmanager
def celery_over(url: str, options: dict[str, str]) -> Iterator[None]:
    """This process's Celery application on another broker."""
    before = current_app.conf.broker_url, current_app.conf.broker_transport_options
    current_app.conf.broker_url, current_app.conf.broker_transport_options = url, options
    forget_connections()
    try:
        yield
    finally:
        current_app.conf.broker_url, current_app.conf.broker_transport_options = before
        forget_connections()


def forget_connections() -> None:
    """Celery keeps its pools for the life of a process; a broker that changes within one is this test's own idea."""
    pools.reset()
    current_app._pool = current_app.amqp._producer_pool = None


def start_worker(broker: str, settings, tmp_path: Path, *arguments: str, **said: str) -> subprocess.Popen:
    database = connection.settings_dict
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "steerhub.settings",
        "DATABASE_URL": f"postgresql://{settings.STEERHUB_APP_ROLE}@/{database['NAME']}?host={quote(database['HOST'], safe='')}",
        "CELERY_BROKER_URL": broker,
        "STEERHUB_VAR": str(tmp_path),
        "STEERHUB_BLOB_URL": settings.STEERHUB_BLOB_URL,
        "STEERHUB_MODEL_ROOT": str(ROOT),
        "STEERHUB_SECRET_KEY": "tests",
        "STEERHUB_SIGNING_KEY": settings.STEERHUB_SIGNING_KEY,
        **said,
    }
    with (tmp_path / "worker.log").open("wb") as log:
        command = [sys.executable, "-m", "celery", "-A", "steerhub", "worker", "--loglevel", "INFO", *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)


def wait_for(condition, worker: subprocess.Popen, tmp_path: Path, *, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if worker.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the worker's log ends:\n{(tmp_path / 'worker.log').read_text()[-5000:]}")
        time.sleep(0.05)
