"""Peak memory of an extraction, in a fresh process that holds nothing but the model: many pairs against few.

    python -m benchmarks.engine.memory MODEL PAIRS      prints one line of JSON

The pairs come from a generator, so that what grows is the engine's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.engine.effort import Effort
from benchmarks.engine.workloads import BenchModel

WORDS = ("bill", "late", "fee", "refund", "card", "plan", "order", "gift", "code", "login")


def measure_memory(model: BenchModel, effort: Effort) -> dict[str, Any]:
    """Bytes and seconds for few pairs and many, each in a process of its own, and how many times the one is of the other."""
    runs = []
    for count in effort.memory_pairs:
        print(f"memory, {model.name}: {count} pairs", flush=True)
        command = [sys.executable, "-m", "benchmarks.engine.memory", str(model.folder), str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return {"model": model.name, "runs": runs, "ratio": runs[-1]["memory_peak_bytes"] / runs[0]["memory_peak_bytes"]}


def make_texts(count: int) -> Iterator[tuple[str, str]]:
    """Short pairs, no two alike."""
    for index in range(count):
        number = " ".join(WORDS[int(digit)] for digit in str(index))
        yield f"good {number}", f"bad {number}"


def main() -> None:
    import steernode.engine  # noqa: F401  before torch, because it tells OpenMP how to wait
    from benchmarks.timing import clock, peak_memory, reset_peak_memory
    from steernode.engine.access.encoding import encode_texts
    from steernode.engine.access.models import load_model
    from steernode.engine.reading.directions import extract_encoded

    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    loaded = load_model(folder)

    def encoded() -> Iterator[Any]:
        for positive, negative in make_texts(count):
            yield tuple(encode_texts(loaded, [positive, negative]))

    # Loading reads the file beside the weights it becomes, which is no part of an extraction.
    reset_peak_memory()
    seconds, directions = clock(lambda: extract_encoded(loaded, encoded()))
    print(json.dumps({"pairs": count, "read": directions[0].pairs, "seconds": seconds, "memory_peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main()
