"""A hub and its nodes as real processes on this machine, and what may go wrong with them: clocks, descriptors, the database, backups."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.processes import BIN, ROOT, forget, free_port
from steerhub.embedded import APP_ROLE
from steernode.node.identity import read_identity
from tests.e2e.faults.record import NIGHT_SHIFT

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass
class Process:
    """One process with a log of its own. `clock` is the file that its wall clock is set by, if it has one."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    url: str
    clock: Path | None = None
    descriptors: int | None = None
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        def limit() -> None:
            if self.descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))

        with self.log.open("ab") as log:
            self.running = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=limit,
            )

    @property
    def is_running(self) -> bool:
        return self.running is not None and self.running.poll() is None

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.running is None:
            return
        self.running.send_signal(number)
        try:
            self.running.wait(10)
        except subprocess.TimeoutExpired:
            self.running.kill()
            self.running.wait()
        self.running = None

    def set_clock(self, offset: str) -> None:
        """How far its wall clock is off from now on, such as `+25h` or `-25h`; its monotonic clock stays true."""
        assert self.clock is not None
        self.clock.write_text(offset)

    def wait_for(self, path: str, *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_running:
            try:
                if httpx.get(f"{self.url}{path}", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not answer at {path}; the end of its log:\n{self.log.read_text(errors='replace')[-3000:]}")


def environment_of(var: Path) -> dict[str, str]:
    settings = var / "offline-stop-keys"
    return {
        **os.environ,
        "STEERHUB_OFFLINE_STOP_KEYS": settings.read_text() if settings.exists() else "",
        "STEERHUB_VAR": str(var),
        "DJANGO_SETTINGS_MODULE": "steerhub.settings",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }


def run_at(var: Path, *arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**environment_of(var), **environment}, check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"{arguments}: {ran.stdout[-2000:]}{ran.stderr[-3000:]}"
    return ran.stdout


def steer(*arguments: str) -> str:
    """What it printed."""
    ran = subprocess.run([str(BIN / "steer"), *arguments], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, f"steer {arguments}: {ran.stdout}{ran.stderr}"
    return ran.stdout


class Rig:
    """The record under `var`, and the processes of a hub and its fleet."""

    def __init__(self, var: Path) -> None:
        self.var = var
        self._processes: list[Process] = []
        tokens = json.loads((var / "tokens.json").read_text())
        self.people, self.node_tokens = tokens["people"], tokens["nodes"]
        # Starts the embedded database, too.
        self.run("manage.py", "migrate", "--check")

    @classmethod
    def make(cls, var: Path) -> "Rig":
        """A new record."""
        forget(var)
        (var / "log").mkdir()
        made = steer("stop-key", "--issuer", NIGHT_SHIFT, "-o", str(var / "night-shift.pem"))
        (var / "offline-stop-keys").write_text(shlex.split(made.splitlines()[0])[0].removeprefix("STEERHUB_OFFLINE_STOP_KEYS="))
        run_at(var, "-m", "tests.e2e.faults.record")
        return cls(var)

    def close(self) -> None:
        for process in self._processes:
            process.end()
        self.run("-m", "steerhub.embedded", "stop")

    def run(self, *arguments: str, **environment: str) -> str:
        """A command of the hub, to its end; what it printed."""
        return run_at(self.var, *arguments, **environment)

    # -- Processes --------------------------------------------------------------------------------------------------------------

    def web(self, name: str = "web", *, has_clock: bool = False, descriptors: int | None = None, **environment: str) -> Process:
        """A web process, answering."""
        port = free_port()
        command = [str(BIN / "uvicorn"), "steerhub.asgi:application", "--http", "steerhub.protocol:RoomyProtocol", "--no-access-log"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--timeout-graceful-shutdown", "1"]
        process = self._make(name, command, port, has_clock=has_clock, descriptors=descriptors, **environment)
        process.start()
        process.wait_for("/api/v1/healthz")
        return process

    def node(
        self, hub: Process, name: str = "node-1", *, has_clock: bool = False, module: tuple[str, ...] = (), **environment: str
    ) -> Process:
        """A node of production that follows this web process, ready to serve; by `steer`, or by a module that takes its arguments."""
        port = free_port()
        token = self.var / f"{name}.enrolment"
        token.write_text(self.node_tokens[name])
        program = [sys.executable, "-m", *module] if module else [str(BIN / "steer")]
        command = [
            *(*program, "node", "serve", "--hub", hub.url, "--name", name, "--enrolment-token-file", str(token)),
            *("--trust", str(self.var / "trust.json"), "--model", "demo/model"),
            *("--store", str(self.store(name)), "--port", str(port)),
        ]
        process = self._make(name, command, port, has_clock=has_clock, **environment)
        process.start()
        process.wait_for("/readyz")
        return process

    def enroll(self, name: str, *, hub: Process) -> str:
        """A node that only asks; its token."""
        token = self.var / f"{name}.enrolment"
        token.write_text(self.node_tokens[name])
        where = ("--hub", hub.url, "--name", name, "--enrolment-token-file", str(token), "--trust", str(self.var / "trust.json"))
        steer("node", "enroll", *where, "--store", str(self.store(name)))
        identity = read_identity(self.store(name))
        assert identity is not None
        return identity.token

    def store(self, name: str) -> Path:
        return self.var / f"store-{name}"

    def _make(
        self, name: str, command: list[str], port: int, *, has_clock: bool = False, descriptors: int | None = None, **environment: str
    ) -> Process:
        clock = self.var / f"{name}.clock" if has_clock else None
        if clock is not None:
            clock.write_text("+0s")
            environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        log = self.var / "log" / f"{name}.log"
        process = Process(name, command, {**environment_of(self.var), **environment}, log, f"http://127.0.0.1:{port}", clock, descriptors)
        self._processes.append(process)
        return process

    def start_beside(self, name: str, *arguments: str) -> Process:
        process = self._make(name, [sys.executable, *arguments], 0)
        process.start()
        return process

    # -- People -----------------------------------------------------------------------------------------------------------------

    def ask(self, who: str, method: str, path: str, body: Any = None, *, hub: Process, seconds: float = 30.0) -> Any:
        """A request of the REST API. Raises: AssertionError for anything but a 2xx."""
        headers = {"Authorization": f"Bearer {self.people[who]}", "Idempotency-Key": os.urandom(12).hex()}
        answer = httpx.request(method, f"{hub.url}/api/v1{path}", json=body, headers=headers, timeout=seconds)
        assert answer.is_success, (path, answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def kill(self, kind: str = "everything", target: str = "", *, hub: Process) -> float:
        """Pressed now; the moment before it was pressed (seconds, monotonic)."""
        pressed = time.monotonic()
        self.ask("oscar", "POST", "/kills", {"kind": kind, "target": target, "reason": "stop"}, hub=hub)
        return pressed

    def set_flag(self, tenant: str, *, hub: Process, **changes: Any) -> None:
        """A change of one tenant's flag that lowers, so that nobody has to confirm it."""
        path = f"/environments/production/flags/{tenant}"
        flag = self.ask("oscar", "GET", path, hub=hub)
        stated = {name: flag[name] for name in ("enabled", "profile", "revision", "alpha_scale")}
        self.ask("oscar", "PUT", path, {**stated, **changes, "reason": "fault"}, hub=hub)

    def convergence(self, node: str, *, hub: Process) -> str:
        rows = self.ask("oscar", "GET", "/nodes", hub=hub)["results"]
        return str(next(row["convergence"] for row in rows if row["name"] == node))

    def kills(self, *, hub: Process) -> list[dict[str, Any]]:
        return list(self.ask("oscar", "GET", "/kills?is_engaged=true", hub=hub)["results"])

    # -- A stop without the hub -------------------------------------------------------------------------------------------------

    def write_offline_stop(self) -> Path:
        """A stop of everything, signed by the night shift."""
        stop = self.var / "stop.dsse"
        how = ("--key", str(self.var / "night-shift.pem"), "--issuer", NIGHT_SHIFT, "-o", str(stop))
        steer("kill", "--offline", "--kind", "everything", "--reason", "The hub is down.", *how)
        return stop

    def drop_stop(self, stop: Path, node: str) -> None:
        steer("node", "stop", "--file", str(stop), "--store", str(self.store(node)))

    # -- The database -----------------------------------------------------------------------------------------------------------

    @property
    def socket(self) -> Path:
        return self.var / "postgres"

    def back_up(self) -> None:
        """The database as it is, with every process of the hub stopped."""
        self._replace(self.var / "backup", by=self.socket)

    def restore(self) -> None:
        """As docs/operations.md says, with every process of the hub stopped."""
        self._replace(self.socket, by=self.var / "backup")

    def _replace(self, folder: Path, *, by: Path) -> None:
        self.run("-m", "steerhub.embedded", "stop")
        shutil.rmtree(folder, ignore_errors=True)
        # Owners are kept: the server runs as somebody else than root.
        subprocess.run(["cp", "-a", str(by), str(folder)], check=True)
        self.run("manage.py", "migrate", "--check")

    def cut_web(self, name: str = "web-2") -> Process:
        """A web process whose road to the database can be cut: see `cut` and `mend`."""
        folder = self.var / "severed"
        folder.mkdir()
        self.mend()
        listen = folder / ".s.PGSQL.5432"
        road = self.start_beside(
            "severed", "-m", "tests.e2e.faults.severed", str(listen), str(self.socket / ".s.PGSQL.5432"), str(folder / "open")
        )
        deadline = time.monotonic() + 10
        while not listen.exists():
            assert road.is_running, road.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self.web(name, **self._production, DATABASE_URL=f"postgresql://{APP_ROLE}@/steerhub?host={folder}")

    def cut(self) -> None:
        (self.var / "severed/open").unlink()

    def mend(self) -> None:
        (self.var / "severed/open").touch()

    @property
    def _production(self) -> dict[str, str]:
        """What embedded mode finds under `var` by itself."""
        keys = self.var / "keys"
        return {
            "STEERHUB_DEBUG": "1",
            "CELERY_BROKER_URL": "memory://",
            "STEERHUB_BLOB_URL": (self.var / "blobs").as_uri(),
            "STEERHUB_SIGNING_KEY": (keys / "signing.pem").read_text(),
            "STEERHUB_STOP_KEY": (keys / "stop.pem").read_text(),
            "STEERHUB_SECRET_KEY": (keys / "secret_key").read_text(),
        }
