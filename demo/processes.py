"""The hub's processes as the demo and the kill loop run them: really separate, each with its own log under var/log/."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# That the node loads.
MODEL = Path("demo/model")


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Processes:
    """web, worker, scheduler and node. Any of them may be killed and started again."""

    def __init__(self, var: Path, *, environment: dict[str, str] | None = None, model: Path = MODEL) -> None:
        self.var, self._model = var, model
        self.hub = f"http://127.0.0.1:{free_port()}"
        self.node = f"http://127.0.0.1:{free_port()}"
        self._environment = {
            **os.environ,
            "STEERHUB_VAR": str(var),
            "DJANGO_SETTINGS_MODULE": "steerhub.settings",
            "PYTHONUNBUFFERED": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            **(environment or {}),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        log = var / "log"
        log.mkdir(parents=True, exist_ok=True)
        self._log = log

    def command(self, name: str) -> list[str]:
        port = self.node.rsplit(":", 1)[1]
        served = ["steerhub.asgi:application", "--http", "steerhub.protocol:RoomyProtocol"]
        uvicorn = [str(BIN / "uvicorn"), *served, "--host", "127.0.0.1", "--port", self.hub.rsplit(":", 1)[1]]
        return {
            "web": [*uvicorn, "--no-access-log", "--timeout-graceful-shutdown", "3"],
            "worker": [str(BIN / "celery"), "-A", "steerhub", "worker", "--loglevel", "INFO"],
            "scheduler": [
                *(str(BIN / "celery"), "-A", "steerhub", "beat", "--loglevel", "WARNING"),
                *("--schedule", str(self.var / "broker/beat-schedule"), "--pidfile="),
            ],
            "node": [
                *(str(BIN / "steer"), "node", "serve", "--hub", self.hub, "--name", "node-1"),
                *("--enrolment-token-file", str(self.var / "node.enrolment"), "--trust", str(self.var / "trust.json")),
                *("--model", str(self._model), "--store", str(self.var / "node"), "--port", port),
            ],
        }[name]

    def start(self, name: str) -> None:
        with (self._log / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.command(name), cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def run(self, *arguments: str) -> None:
        """A short command of the hub, to its end. Raises: CalledProcessError."""
        subprocess.run([sys.executable, *arguments], cwd=ROOT, env=self._environment, check=True)

    def kill(self, name: str) -> None:
        """As if the power went: no signal handler runs."""
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def is_running(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def wait_for(self, url: str, name: str, *, seconds: float = 60) -> None:
        """Until the URL answers 200. Raises: RuntimeError with the end of the log if the process ended or time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_running(name):
            try:
                if httpx.get(url, timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        log = (self._log / f"{name}.log").read_text(errors="replace")
        raise RuntimeError(f"{name} did not answer at {url}; the end of its log:\n{log[-3000:]}")

    def applied_revision(self) -> int | None:
        """The snapshot revision that the node serves with, as it says itself."""
        applied = httpx.get(f"{self.node}/status", timeout=5).json()["applied"]
        return applied["revision"] if applied else None

    def stop(self) -> None:
        """Ask every process to end, and make the slow ones."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


def stop_postgres(var: Path) -> None:
    """End the embedded server under `var`; its data stays."""
    environment = {**os.environ, "STEERHUB_VAR": str(var)}
    subprocess.run([sys.executable, "-m", "steerhub.embedded", "stop"], cwd=ROOT, env=environment, check=True)


def forget(var: Path, *, keep: str = "") -> None:
    """Make `var` an empty folder, but for what is to `keep` in it, so that the next hub there begins with an empty record."""
    stop_postgres(var)
    var.mkdir(parents=True, exist_ok=True)
    for entry in var.iterdir():
        if entry.name == keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()


@contextmanager
def running(
    var: Path, *names: str, environment: dict[str, str] | None = None, model: Path = MODEL, cast: str = "demo.cast"
) -> Iterator[Processes]:
    """Start the named processes once the cast is there, and stop them at the end, however it comes: also when this one is asked to end."""
    processes = Processes(var, environment=environment, model=model)
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        processes.run("-m", cast)
        for name in names:
            processes.start(name)
        yield processes
    finally:
        processes.stop()
        signal.signal(signal.SIGTERM, before)
