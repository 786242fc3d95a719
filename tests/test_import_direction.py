"""What each process loads, seen from a fresh interpreter: static analysis cannot see a lazy import."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

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


PACKAGES = ("registry", "steernode", "workers", "steerhub")
# The faces of two packages, and of the record: what they hand on is theirs to give.
FACES = {"registry.models", "registry.audit", "registry.snapshots"}


def defined_in(tree: ast.Module) -> set[str]:
    """The names that a module makes itself, at its top."""
    made = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
    return made | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def test_every_name_is_imported_from_the_module_that_makes_it():
    root = Path(__file__).parent.parent
    paths = [path for package in PACKAGES for path in (root / package).rglob("*.py")]
    names = {str(path.relative_to(root).with_suffix("")).replace("/", ".").removesuffix(".__init__"): path for path in paths}
    trees = {name: ast.parse(path.read_text()) for name, path in names.items()}
    passed_on = [
        f"{name} has {alias.name} from {node.module}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in trees and node.module not in FACES
        for alias in node.names
        if alias.name not in defined_in(trees[node.module]) and f"{node.module}.{alias.name}" not in trees
    ]
    assert passed_on == []
