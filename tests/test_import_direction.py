"""What each process loads, seen from a fresh interpreter: static analysis cannot see a lazy import."""

import json
import os
import subprocess
import sys

import pytest


def modules_after(statement: str) -> set[str]:
    """The top-level packages in memory after a statement, in an interpreter of its own."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "steerhub.settings"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_web_process_never_loads_torch():
    loaded = modules_after(
        "import steerhub.asgi; from django.urls import get_resolver; get_resolver().url_patterns; import registry.api.urls"
    )
    assert not loaded & {"torch", "transformers", "sklearn"}


def test_worker_loads_its_tasks_without_torch():
    # Torch comes with the first job, in the process that runs it.
    loaded = modules_after(
        "from steerhub.celery import app; app.loader.import_default_modules(); assert 'workers.extraction.run' in app.tasks"
    )
    assert not loaded & {"torch", "transformers"}


@pytest.mark.parametrize("module", ["steernode.cli", "steernode.node.follower", "steernode.proof.verify", "steernode.snapshot.trust"])
def test_node_side_loads_neither_django_nor_celery_nor_torch(module):
    assert not modules_after(f"import {module}") & {"django", "celery", "torch", "registry"}


def test_every_task_the_registry_sends_is_registered_by_a_worker():
    code = "from registry.dispatch import TASKS; from steerhub.celery import app; app.loader.import_default_modules()"
    modules_after(f"import django; django.setup(); {code}; assert set(TASKS.values()) <= set(app.tasks), app.tasks")
