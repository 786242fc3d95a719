"""A real hub over a filled database: its own PostgreSQL, uvicorn on a socket, and a client that keeps its connection."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.registry.scale import Scale

FILLED = "filled.json"


@dataclass(frozen=True)
class Answer:
    status: int
    seconds: float
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def fill(scale: Scale, folder: Path) -> dict[str, Any]:
    """The token and the seconds it took; at once if the folder is filled already. A fill that was interrupted begins anew."""
    done = folder / FILLED
    if not done.is_file():
        if folder.exists():
            raise SystemExit(f"{folder} is half filled; delete it first (STEERHUB_VAR={folder} python -m steerhub.embedded stop)")
        print(f"filling {folder} with {scale.vectors:,} vectors, {scale.flags:,} flags and {scale.events:,} audit events", flush=True)
        done.write_text(_run(folder, "-m", "benchmarks.registry.fill", scale.name))
    else:
        _run(folder, "manage.py", "migrate", "--verbosity", "0")
    return json.loads(done.read_text())


def _run(folder: Path, *arguments: str) -> str:
    """What Python prints, run as a process of its own on the records of this folder."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=_environment(folder), check=True, stdout=subprocess.PIPE, text=True).stdout


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "STEERHUB_VAR": str(folder.resolve()), "STEERHUB_LOG": "WARNING", "DJANGO_SETTINGS_MODULE": "steerhub.settings"}


class Hub:
    """`with Hub(scale, folder) as hub:`, then hub.ask("GET", "/api/v1/vectors")."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.filled = fill(scale, folder)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __enter__(self) -> Hub:
        command = [sys.executable, "-m", "uvicorn", "steerhub.asgi:application", "--port", str(self.port), "--log-level", "warning"]
        # The client waits for the other hub between two of its requests.
        command += ["--timeout-keep-alive", "600"]
        self._log = (self._folder / "hub.log").open("wb")
        self._process = subprocess.Popen(command, env=_environment(self._folder), stdout=self._log, stderr=subprocess.STDOUT)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        for _ in range(600):
            try:
                if self.ask("GET", "/api/v1/healthz").status == 200:
                    return self
            except OSError:
                self._connection.close()
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the hub did not start; its log is {self._folder / 'hub.log'}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """From the first byte sent to the last byte read."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.filled['token']}", "Content-Type": "application/json", **headers}
        if not path.startswith("/api/"):
            headers = {"Cookie": f"sessionid={self.filled['session']}"}
        started = time.perf_counter()
        self._connection.request(method, path, body=data, headers=headers)
        response = self._connection.getresponse()
        content = response.read()
        return Answer(response.status, time.perf_counter() - started, content)

    def run(self, module: str, *arguments: str) -> str:
        """What a module of the benchmark prints, run beside the hub on its records."""
        return _run(self._folder, "-m", module, *arguments)

    def stop_database(self) -> None:
        self.run("steerhub.embedded", "stop")
