"""Threads for what waits on the database or the disk. They end with the process, even where what they wait for never answers.

Those of `concurrent.futures` are joined at the interpreter's end: one that hangs would keep a web process from ending.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

from django.db import connections

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class DaemonThreads(Executor):
    """At most so many at once, each started when it is first needed. What is still running or waiting when the process ends is cut off.

    Each piece of work closes the database connections that it opened: it belongs to no request whose end would.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most, self._name = most, name
        self._work = SimpleQueue[Callable[[], None] | None]()
        self._idle = threading.Semaphore(0)
        self._starting = threading.Lock()
        self._started = 0

    def submit(self, fn: Callable[Given, Answer], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Answer]:
        future: Future[Answer] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(_call_and_close(fn, *args, **kwargs))
            except BaseException as error:  # Whoever waits for it is told, and the thread goes on.
                future.set_exception(error)

        self._work.put(work)
        if not self._idle.acquire(blocking=False):
            self._start_one()
        return future

    def _start_one(self) -> None:
        with self._starting:
            if self._started >= self._most:
                return
            self._started += 1
            name = f"{self._name}_{self._started}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (work := self._take()) is not None:
            work()

    def _take(self) -> Callable[[], None] | None:
        with suppress(Empty):
            return self._work.get_nowait()
        self._idle.release()
        return self._work.get()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let every thread end once it is done; nobody waits for that."""
        with self._starting:
            for _ in range(self._started):
                self._work.put(None)


def _call_and_close(fn: Callable[Given, Answer], *args: Given.args, **kwargs: Given.kwargs) -> Answer:
    try:
        return fn(*args, **kwargs)
    finally:
        connections.close_all()
