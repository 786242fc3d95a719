"""Workers over pipes: answers, failures and deaths all reach the one who asked."""

import sys
from pathlib import Path

import pytest

from benchmarks.processes import Worker

CHILD = """
import os
from benchmarks.processes import serve

def add(one, other):
    print("libraries print what they like")
    return one + other

def fail():
    raise ValueError("no such batch size")

serve({"add": add, "fail": fail, "die": lambda: os._exit(3)})
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "adding_worker.py").write_text(CHILD)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    with Worker("adder", sys.executable, "adding_worker", log=tmp_path / "logs" / "adder.log") as started:
        yield started


def test_answers_come_back_whatever_the_task_prints(worker):
    assert worker.ask("add", one=1, other=2) == 3
    assert worker.ask("add", one="é", other="\n") == "é\n"


def test_failure_names_worker_task_and_cause_and_the_worker_lives_on(worker):
    with pytest.raises(RuntimeError, match=r"(?s)adder failed at fail.*no such batch size"):
        worker.ask("fail")
    assert worker.ask("add", one=2, other=2) == 4


def test_death_is_reported_with_the_exit_status_and_not_waited_for(worker):
    with pytest.raises(RuntimeError, match="adder ended with 3 while doing die"):
        worker.ask("die")
