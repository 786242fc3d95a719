"""Long-lived worker processes that take one task at a time over pipes, so that libraries of different environments can alternate.

One line of JSON asks, one line of JSON answers. A worker that waits sleeps in a read and costs nothing to the one that works.
This file runs in every environment that is measured: standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any


class Worker:
    """One process, started in `folder` as `python -m module arguments...`, that answers tasks until it is closed. What it says on stderr
    goes to `log`."""

    def __init__(self, name: str, python: str | Path, module: str, *arguments: str | Path, log: Path, folder: Path | None = None) -> None:
        self.name = name
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [python, "-m", module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
            )

    def ask(self, task: str, /, **arguments: Any) -> Any:
        """The answer to one task. Raises: RuntimeError with the worker's traceback, or the end of its log if it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([task, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            tail = self._log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"worker {self.name} ended with {self._process.wait()} while doing {task}; its log ends:\n{tail}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"worker {self.name} failed at {task}:\n{answer['error']}")
        return answer["result"]

    def processor_seconds(self) -> float:
        """What its threads have worked so far, which grows no faster when others have the cores too. Linux only."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A worker that died has nobody left to read what was last asked.
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After a failure or an interruption the worker may be in the middle of a long task that nobody waits for.
        if kind is not None:
            self._process.kill()
        self.close()


def serve(tasks: Mapping[str, Callable[..., Any]]) -> None:
    """Answers tasks from stdin until it closes. What libraries print goes to stderr, because stdout carries the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        task, arguments = json.loads(line)
        try:
            answer = {"result": tasks[task](**arguments)}
        # Whatever went wrong is the asker's to judge; it gets the whole traceback.
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
