"""A node process runs its model where it is told to and in the dtype that it is told, and says so."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from demo.processes import free_port
from tests.support.hub_simulator import ENROLMENT_TOKEN, HubSimulator
from tests.support.serving import served

ROOT = Path(__file__).resolve().parents[3]
ASKED = {"messages": [{"role": "user", "content": "Where is my refund?"}], "max_tokens": 4}


@pytest.fixture
def start_node(tmp_path):
    """Starts `steer node serve` on the reference model and gives its URL once it answers."""
    started = []

    def start(hub_url, *arguments):
        (tmp_path / "once.token").write_text(ENROLMENT_TOKEN)
        port, program = free_port(), "from steernode.cli import main; main()"
        node = ["node", "serve", "--hub", hub_url, "--name", "node-1", "--enrolment-token-file", str(tmp_path / "once.token")]
        node += ["--store", str(tmp_path / "store"), "--model", str(ROOT / "demo/model"), "--port", str(port), *arguments]
        with (tmp_path / "node.log").open("wb") as log:
            started.append(subprocess.Popen([sys.executable, "-c", program, *node], cwd=ROOT, stdout=log, stderr=log))
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
        while time.monotonic() < deadline and started[-1].poll() is None:
            try:
                httpx.get(f"{url}/healthz")
            except httpx.HTTPError:
                time.sleep(0.2)
            else:
                return url
        pytest.fail((tmp_path / "node.log").read_text()[-3000:])

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize(("arguments", "dtype"), [([], "float32"), (["--dtype", "bfloat16"], "bfloat16")])
def test_a_node_says_where_its_model_is_and_in_which_dtype(start_node, arguments, dtype):
    with served(HubSimulator().app) as hub_url:
        url = start_node(hub_url, "--device", "cpu", *arguments)
        placement = httpx.get(f"{url}/status", timeout=10).json()["placement"]
        assert (placement["device"], placement["model_dtype"]) == ("cpu", dtype)
        assert placement["device_name"]
        assert placement["kernels"].startswith("CPU ")
        assert placement["peak_memory_bytes"] > 0
        answer = httpx.post(f"{url}/v1/chat/completions", json=ASKED, timeout=60)
        assert (answer.status_code, answer.json()["steering"]) == (200, None)
