"""The engine on one card, against what the card can do: the bare pass for reading, bytes over bandwidth for decoding.

    python -m benchmarks.gpu [--device cuda] [--minutes 10] [--tiny] [--strict]

Makes its own models with random weights and downloads nothing. Prints the machine and a line for every figure as it comes, and writes
var/bench/gpu.json after each section, so that a card that is taken away leaves what it measured. A section that its time does not
suffice for is left out and named. `--tiny --device cpu` shows in a minute that everything runs; its targets mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from benchmarks.engine.workloads import Texts
from benchmarks.gpu.models import SHAPES, TINY, Shape, write_model
from benchmarks.gpu.report import judge, lines_of
from benchmarks.gpu.sections import (
    describe_way,
    measure_bandwidth,
    measure_building,
    measure_decoding,
    measure_loading,
    measure_memory_running_out,
    measure_reading,
)
from benchmarks.machine import describe_commit, describe_machine, machine_line
from benchmarks.peers import BENCH


class Clock:
    """How much of the run's time is left."""

    def __init__(self, minutes: float) -> None:
        self._started, self._seconds = time.monotonic(), 60 * minutes

    @property
    def spent(self) -> float:
        return time.monotonic() - self._started

    @property
    def left(self) -> float:
        return self._seconds - self.spent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="no section is begun that would end later")
    parser.add_argument("--tiny", action="store_true", help="a model and work of a minute, to see that everything runs")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target was missed")
    arguments = parser.parse_args()
    device, timer = torch.device(arguments.device), Clock(arguments.minutes)
    report: dict[str, Any] = {
        "schema": "steerhub.bench-gpu/1",
        "tiny": arguments.tiny,
        "commit": describe_commit(),
        "machine": describe_machine() | describe_card(device),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "bandwidth_bytes_per_s": measure_bandwidth(device, 64 if arguments.tiny else 4096),
        "models": [],
    }
    print(machine_line(report["machine"]), report["machine"]["card"], sep="\n", flush=True)
    print(f"copying within its memory: {report['bandwidth_bytes_per_s'] / 1e12:.2f} TB/s", flush=True)
    path = BENCH / ("gpu-tiny.json" if arguments.tiny else "gpu.json")
    texts = Texts()
    for shape in TINY if arguments.tiny else SHAPES:
        measure_model(shape, texts, report, timer, device, lambda: keep(report, path, timer))
    report["targets"] = judge(report)
    keep(report, path, timer)
    for target in report["targets"]:
        print(f"{'met   ' if target['met'] else 'MISSED'} {target['claim']}: {target['value']:.2f} (wanted {target['wanted']})")
    print(f"{report['minutes']} minutes; {path}")
    return 1 if arguments.strict and not all(target["met"] for target in report["targets"]) else 0


def measure_model(shape: Shape, texts: Texts, report: dict[str, Any], timer: Clock, device: torch.device, save: Callable[[], None]) -> None:
    tiny = report["tiny"]
    found: dict[str, Any] = {"name": shape.name, "dtype": shape.dtype, "left_out": []}
    report["models"].append(found)
    # Writing and loading twice take the longest: 14 GB in a minute and a half.
    if timer.left < (0 if tiny else 40 + 5 * shape.layers):
        found["left_out"].append("everything")
        return
    folder = write_model(shape, str(device))
    free(device)
    try:
        found["loading"], loaded = measure_loading(folder, shape.dtype, str(device))
        free(device)
        show(found, "loading", save)
        found["way"] = describe_way(loaded)
        show(found, "way", save)
        pairs, new_tokens, repeats = (16, 16, 2) if tiny else (256, 128, 5)
        sections: dict[str, Callable[[], Any]] = {
            "reading": lambda: list(measure_reading(loaded, texts, pairs, repeats)),
            "decoding": lambda: list(measure_decoding(loaded, texts, new_tokens, max(1, repeats - 2), report["bandwidth_bytes_per_s"])),
            "building": lambda: measure_building(loaded, texts),
            "memory": lambda: measure_memory_running_out(loaded, texts, pairs, 2 * 2**30),
        }
        for name, measure in sections.items():
            if timer.left < (0 if tiny else 20 + 2 * shape.layers):
                found["left_out"].append(name)
                continue
            # What one section cannot do is no reason to lose the next.
            try:
                found[name] = measure()
            except Exception as error:
                found[name] = {"failed": f"{type(error).__name__}: {error}"}
            found["peak_memory_gib"] = peak_gib(device)
            show(found, name, save)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        free(device)


def describe_card(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"card": f"no card: {device}"}
    card = torch.cuda.get_device_properties(device)
    return {"card": f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"}


def peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def show(found: dict[str, Any], section: str, save: Callable[[], None]) -> None:
    for line in lines_of(section, found[section]):
        print(f"{found['name']}: {line}", flush=True)
    save()


def keep(report: dict[str, Any], path: Any, timer: Clock) -> None:
    report["minutes"] = round(timer.spent / 60, 1)
    BENCH.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
