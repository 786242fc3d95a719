"""What people get from the built wheel: `steer` alone, a serving node, the engine; each in a fresh venv of its own.

Minutes, and packages from an index, so only with `-m package`. Every venv prints its size.
"""

import json
import os
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from steernode.canonical import sha256_hex
from steernode.files.basemodels import inspect_model
from tests.support.exports import EVENTS, jsonl
from tests.support.files import vector_file
from tests.support.hub_simulator import ENROLMENT_TOKEN, HubSimulator, make_component, make_content, make_profile
from tests.support.serving import served, wait_until

pytestmark = pytest.mark.package

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "demo/model"
# Torch without a pin is a build for CUDA on most machines, gigabytes of it: the venvs get what the tests themselves run on.
PINNED = ("torch", "transformers", "safetensors", "numpy", "scipy", "scikit-learn", "pytest", "pytest-socket", "hypothesis")
HUB = {"django", "rest_framework", "celery", "psycopg"}
RESEARCH = {"sklearn", "scipy", "matplotlib", "jsonschema"}
SERVING = {"torch", "transformers", "starlette", "uvicorn"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("steernode-*.whl")
    return built


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The bin folder of a fresh venv with the wheel, its extras, and what else is named: install("engine,serve", "pytest")."""
    pins = tmp_path_factory.mktemp("pins") / "constraints.txt"
    pins.write_text("".join(f"{name}=={version(name)}\n" for name in PINNED))

    def run(extras: str = "", *others: str) -> Path:
        folder = tmp_path_factory.mktemp("venv")
        venv.create(folder, with_pip=True)
        wanted = f"{wheel}[{extras}]" if extras else str(wheel)
        pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", pins]
        subprocess.run([*pip, wanted], check=True)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
        print(f"\nsteernode[{extras}]: {megabytes:.0f} MB, the venv itself included")
        if others:
            subprocess.run([*pip, *others], check=True)
        return folder / "bin"

    return run


def found(programs: Path, names: set[str]) -> set[str]:
    """Which of these packages are there."""
    program = f"from importlib.util import find_spec; print(*[name for name in {sorted(names)} if find_spec(name)])"
    answer = subprocess.run([programs / "python", "-c", program], capture_output=True, text=True, check=True, cwd="/")
    return set(answer.stdout.split())


def test_steer_alone_verifies_an_export_and_needs_neither_torch_nor_a_server(install, tmp_path):
    programs = install()
    assert found(programs, HUB | RESEARCH | SERVING) == set()
    export = tmp_path / "export.jsonl"
    export.write_bytes(jsonl(EVENTS))
    answer = subprocess.run([programs / "steer", "verify", export, "--json"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(answer.stdout)["head"] == EVENTS[-1]["digest"]
    export.write_bytes(jsonl(EVENTS).replace(b"0.5", b"0.6", 1))
    answer = subprocess.run([programs / "steer", "verify", export], capture_output=True, text=True, cwd=tmp_path)
    assert (answer.returncode, answer.stderr.split(":")[0]) == (1, "error E_DIGEST")


def test_a_serving_node_steers_with_the_serve_extra_and_gets_no_more_than_it_needs(install, tmp_path):
    programs = install("serve")
    assert found(programs, HUB | RESEARCH | SERVING) == SERVING
    fingerprint = inspect_model(MODEL).fingerprint
    hub = publish_for(fingerprint, vector_file(fingerprint, "cd" * 32, size=192))
    with served(hub.app) as hub_url, serving(programs, hub, hub_url, tmp_path) as url:
        question = {"messages": [{"role": "user", "content": "Where is my refund?"}], "max_tokens": 4}
        answer = httpx.post(f"{url}/v1/chat/completions", json=question, headers={"X-SteerHub-Tenant": "harbor"}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["steering"]["profile"] == "harbor-empathy"


def test_the_node_packages_own_tests_pass_where_there_is_no_django_and_matrix_kernels_are_others(install):
    """The engine extra serves too, once the serve extra is there; with what converts they are what the tests ask for.

    All are imported. Those of the engine are run, under other kernels too because either takes all of them: `make test-kernels` tells the
    two apart.
    """
    programs = install("engine,serve,convert", "pytest", "pytest-socket", "hypothesis")
    assert found(programs, HUB | RESEARCH | SERVING) == RESEARCH | SERVING
    # From the checkout, for the tests stand there; its configuration names Django's settings, so they have one of their own.
    where = ["-c", "tests/package/node.ini", "--rootdir", ".", "--confcutdir", "."]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    collect = [programs / "python", "-m", "pytest", "--collect-only", "-q", *where, "tests/steernode"]
    subprocess.run(collect, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    command = [programs / "python", "-m", "tests.support.kernels", "-q", *where, "tests/steernode/engine", "tests/steernode/integrations"]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    print(answer.stdout.partition("\n")[0], answer.stdout[-2000:], sep="\n")
    assert answer.returncode == 0, answer.stdout[-5000:] + answer.stderr[-2000:]


def publish_for(fingerprint: str, vector: bytes) -> HubSimulator:
    """A hub whose first snapshot steers harbor by this vector."""
    hub = HubSimulator()
    hub.blobs = {sha256_hex(vector): vector}
    component = make_component(vector, layer=2)
    component["vector"]["shape"] = [192]
    profile = make_profile(base_model=fingerprint, components=[component])
    hub.publish(content=make_content(base_models=[{"name": "harbor-support", "fingerprint": fingerprint}], profiles=[profile]))
    return hub


@contextmanager
def serving(programs: Path, hub: HubSimulator, hub_url: str, folder: Path) -> Iterator[str]:
    """`steer node serve` of that venv, until it is ready; yields its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "token").write_text(ENROLMENT_TOKEN)
    (folder / "trust").write_text(json.dumps({"schema": "steerhub.trust/1", "keys": [hub.signer.key_document()]}))
    command = [programs / "steer", "node", "serve", "--hub", hub_url, "--name", "node-1"]
    command += ["--enrolment-token-file", folder / "token", "--trust", folder / "trust", "--model", MODEL]
    command += ["--store", folder / "store", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, "the node ended"
        try:
            return httpx.get(f"{url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    process = subprocess.Popen(command, cwd=folder)
    try:
        wait_until(is_ready, seconds=60)
        yield url
    finally:
        process.terminate()
        process.wait(15)
