"""What waits on a database that never answers does not keep a process from ending."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from registry.fleet.threads import DaemonThreads

HANGING = """
import threading
from registry.fleet.threads import DaemonThreads

threads, begun = DaemonThreads(2, name="chores"), threading.Event()
threads.submit(lambda: begun.set() or threading.Event().wait())
begun.wait()
threads.shutdown()
"""


def test_a_thread_that_hangs_does_not_delay_the_end_of_its_process():
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", HANGING], check=True, timeout=20, cwd=Path(__file__).parents[3])
    assert time.monotonic() - started < 15


def test_no_more_run_at_once_than_was_said_and_one_that_hangs_holds_up_no_other():
    threads, free, running = DaemonThreads(3, name="test"), threading.Event(), threading.Semaphore(0)

    def hang() -> bool:
        running.release()
        return free.wait(10)

    hanging = [threads.submit(hang) for _ in range(2)]
    assert all(running.acquire(timeout=5) for _ in range(2))
    assert [threads.submit(lambda number=number: number).result(5) for number in range(20)] == list(range(20))
    hanging += [threads.submit(hang) for _ in range(2)]
    assert running.acquire(timeout=5)
    assert not running.acquire(timeout=0.2)
    free.set()
    assert all(future.result(5) for future in hanging)
    threads.shutdown()


def test_what_fails_is_told_to_whoever_waits_and_the_thread_goes_on():
    threads = DaemonThreads(1, name="test")
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(5)
    assert threads.submit(lambda: "next").result(5) == "next"
    threads.shutdown()
