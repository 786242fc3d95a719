"""What a change costs on this CPU: the engine of this checkout beside that of another commit, in turns, in one run.

    python -m benchmarks.parent [--commit HEAD~1] [--repeats 9] [--strict]

Each side is a process of its own that keeps the reference model loaded. Prints times, and the ratio of this checkout's to the other's
with the quartiles of the ratios round by round; the same of the work of all its threads, which says something beside others' work too;
and whether both made the same bits. Writes var/bench/parent.json. Exit 0 when it ran;
with --strict, 1 if something takes over 3 % longer.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine.workloads import REFERENCE_MODEL, Texts
from benchmarks.machine import describe_commit, describe_machine, machine_line
from benchmarks.peers import BENCH
from benchmarks.processes import Worker
from benchmarks.timing import alternate, ratio, summarize

WANTED = 1.03
KINDS = ("system_contrast", "shared_prefix", "nothing_shared")
PAIRS, NEW_TOKENS, THREADS = 64, 24, 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default="HEAD~1")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--strict", action="store_true", help="exit 1 if something takes over 3 %% longer")
    arguments = parser.parse_args()
    machine = describe_machine()
    print(machine_line(machine), flush=True)
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as vectors,
        checked_out(arguments.commit) as other,
        start("this", Path.cwd(), arguments.threads) as this,
        start("parent", other, arguments.threads) as parent,
    ):
        for row in measure(this, parent, Path(vectors), arguments.repeats, arguments.pairs):
            rows.append(row)
            same = {True: ", same bits", False: ", OTHER BITS", None: ""}[row["same_bits"]]
            print(f"{row['task']}: {show(row['ratio'])}; of its threads' work {show(row['ratio_of_work'])}{same}", flush=True)
    report: dict[str, Any] = {
        "schema": "steerhub.bench-parent/1",
        "commit": describe_commit(),
        "against": arguments.commit,
        "machine": machine,
        "rows": rows,
    }
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "parent.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return 1 if arguments.strict and any(row["ratio"]["value"] > WANTED for row in rows) else 0


def show(found: dict[str, float]) -> str:
    return f"{found['value']:.3f} ({found['q1']:.3f} to {found['q3']:.3f})"


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The tree of another commit of this repository."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)


def start(name: str, tree: Path, threads: int) -> Worker:
    model = REFERENCE_MODEL.resolve()
    return Worker(name, sys.executable, "benchmarks.engine.ours", model, str(threads), log=BENCH / "logs" / f"{name}.log", folder=tree)


def measure(this: Worker, parent: Worker, vectors: Path, repeats: int, count: int) -> Iterator[dict[str, Any]]:
    texts, sides = Texts(), {"this": this, "parent": parent}
    for kind in KINDS:
        pairs = [list(pair) for pair in getattr(texts, kind)(count)]
        for name, worker in sides.items():
            worker.ask("extract", pairs=pairs, layers=None, keep=str(vectors / f"{name}.npz"))
        same = all(np.array_equal(one, other) for one, other in zip(*(_read(vectors / f"{name}.npz") for name in sides), strict=True))
        yield _compare(
            f"extract, {kind}", sides, repeats, lambda worker, pairs=pairs: worker.ask("extract", pairs=pairs, layers=None), same
        )
    steering = {"layer": 4, "alpha": 0.3, "vectors": str(vectors / "this.npz")}
    for rows in (1, 16):
        prompts = texts.prompts(rows)
        for name, how in (("unsteered", None), ("one layer", steering)):

            def ask(worker: Worker, prompts: list[str] = prompts, how: Any = how) -> Any:
                return worker.ask("generate", texts=prompts, new_tokens=NEW_TOKENS, steering=how)

            yield _compare(f"generate, batch {rows}, {name}", sides, repeats, ask, None)


def _compare(
    task: str, sides: dict[str, Worker], repeats: int, ask: Callable[[Worker], dict[str, float]], same: bool | None
) -> dict[str, Any]:
    worked: dict[str, list[float]] = {name: [] for name in sides}

    def time(name: str, worker: Worker) -> float:
        before = worker.processor_seconds()
        seconds = float(ask(worker)["seconds"])
        worked[name].append(worker.processor_seconds() - before)
        return seconds

    times = alternate({name: partial(time, name, worker) for name, worker in sides.items()}, repeats=repeats, warmups=1)
    return {
        "task": task,
        "sides": {name: summarize(seconds) for name, seconds in times.items()},
        "ratio": ratio(times["this"], times["parent"]),
        "ratio_of_work": ratio(worked["this"][1:], worked["parent"][1:]),
        "same_bits": same,
    }


def _read(path: Path) -> list[Any]:
    found = np.load(path)
    return [found[name] for name in sorted(found)]


if __name__ == "__main__":
    sys.exit(main())
