"""The engine against steering-vectors, repeng and bare transformers, side by side on this machine.

    python -m benchmarks.engine [--quick] [--strict] [--only extraction,search,serving,memory] [--models reference,llama-1024x16]

Prints the machine, the tables and every target with its value and whether it is met; writes var/bench/engine.json, or with
--quick var/bench/engine-quick.json. Exit 0 when it ran; with --strict, 1 if a target was missed. The peers run in a virtual
environment of their own, made on the first run. Give it a machine that does nothing else, and about 25 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.engine.effort import LARGE, QUICK, SMALL, Effort
from benchmarks.engine.extraction import BESIDE_PEERS, PEERS, Sides, measure_extraction
from benchmarks.engine.memory import measure_memory
from benchmarks.engine.report import judge, render
from benchmarks.engine.search import ALPHAS, NEW_TOKENS, PROMPTS, measure_search
from benchmarks.engine.serving import measure_serving
from benchmarks.engine.workloads import BenchModel, Texts, large_model, reference_model
from benchmarks.machine import describe_commit, describe_machine, machine_line
from benchmarks.peers import BENCH, make_peer_venv
from benchmarks.processes import Worker

SECTIONS = ("extraction", "search", "serving", "memory")
MODELS = {SMALL: reference_model, LARGE: large_model}
NOTES = (
    "Sides alternate in one run, each in a process of its own that keeps its model loaded; one works while the others sleep.",
    "Everybody has all cores, float32, the same strings, the same layers (those below four fifths of the depth) and the last token.",
    "At their defaults the peers read every layer, and we the candidate layers; what every layer takes us stands beside it.",
    "Our extraction is timed from texts to directions, as the peers' is; against the bare pass, from token ids, where that one starts.",
    "A peer's batch size and padding side are the fastest found on a part of the pairs; the slower peer is left at that.",
    "Replies of a fixed length: the end token is unset on all sides. In the search replies end as the model ends them.",
    "steering-vectors steers the last column of every chunk, which is our scope `generated`; repeng steers every position.",
    "Seconds of the exhaustive grids include scoring, which is done by the same code for both.",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 repeats of little work, to see that everything runs")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target was missed")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections to run, with commas between")
    parser.add_argument("--models", default=",".join(MODELS), help="models to run them on, with commas between")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every side; all cores unless told otherwise")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else Effort()
    sections, models = arguments.only.split(","), arguments.models.split(",")
    if unknown := [name for name in sections if name not in SECTIONS] + [name for name in models if name not in MODELS]:
        parser.error(f"{unknown[0]!r} is neither a section ({', '.join(SECTIONS)}) nor a model ({', '.join(MODELS)})")
    started, machine = time.monotonic(), describe_machine()
    print(machine_line(machine), flush=True)
    report = run(effort, sections, [MODELS[name]() for name in models], make_peer_venv(), arguments.threads)
    report = {
        "schema": "steerhub.bench-engine/1",
        "quick": effort.quick,
        "machine": machine,
        "threads": arguments.threads,
        **report,
        "notes": list(NOTES),
    }
    report["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    report["targets"] = judge(report)
    BENCH.mkdir(parents=True, exist_ok=True)
    # A quick run never takes the place of figures that stand.
    path = BENCH / ("engine-quick.json" if effort.quick else "engine.json")
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(render(report))
    print(f"\n{report['minutes']} minutes; {path}")
    return 1 if arguments.strict and not all(target["met"] for target in report["targets"]) else 0


def run(effort: Effort, sections: list[str], models: list[BenchModel], peer_python: Path, threads: int) -> dict[str, Any]:
    versions: dict[str, dict[str, str]] = {}
    report: dict[str, Any] = {"commit": describe_commit(), "versions": versions}
    texts = Texts()

    def note_versions(*workers: Worker | None) -> None:
        versions.update({worker.name: worker.ask("versions") for worker in workers if worker is not None})

    for model in models if {"extraction", "serving"} & set(sections) else ():
        with ExitStack() as workers:
            sides = start_sides(workers, model, peer_python, threads)
            note_versions(sides.ours, *sides.peers.values(), sides.ours_beside_peers)
            if "extraction" in sections:
                report.setdefault("extraction", []).extend(measure_extraction(sides, model, texts, effort))
            if "serving" in sections:
                report.setdefault("serving", []).extend(measure_serving(sides, model, texts, effort))
    if "search" in sections:
        model = reference_model()
        with ExitStack() as workers:
            peer = _start_peer(workers, "steering-vectors", model, peer_python, threads)
            settings = (str(effort.contrast_pairs), ",".join(map(str, PROMPTS)), ",".join(ALPHAS), str(NEW_TOKENS))
            grid = _start_ours(workers, "ours, grid", sys.executable, "grid", model.folder, threads, *settings)
            note_versions(peer, grid)
            report["search"] = measure_search(grid, peer, texts, effort)
    if "memory" in sections:
        report["memory"] = measure_memory(reference_model(), effort)
    return report


def start_sides(workers: ExitStack, model: BenchModel, peer_python: Path, threads: int) -> Sides:
    """One process per side, each with the model in memory."""
    ours = _start_ours(workers, "ours", sys.executable, "ours", model.folder, threads)
    bare = _start_ours(workers, "bare", sys.executable, "bare", model.folder, threads)
    peers = {peer: _start_peer(workers, peer, model, peer_python, threads) for peer in PEERS}
    # Where passes are long, the version of transformers around them does not show, and a fifth model would not fit everywhere.
    beside = _start_ours(workers, BESIDE_PEERS, peer_python, "ours", model.folder_for_peers, threads) if model.name == SMALL else None
    return Sides(ours, bare, peers, beside)


def _start_ours(workers: ExitStack, name: str, python: str | Path, module: str, folder: Path, threads: int, *settings: str) -> Worker:
    return workers.enter_context(Worker(name, python, f"benchmarks.engine.{module}", folder, str(threads), *settings, log=_log(name)))


def _start_peer(workers: ExitStack, peer: str, model: BenchModel, peer_python: Path, threads: int) -> Worker:
    module = "benchmarks.engine.theirs"
    return workers.enter_context(Worker(peer, peer_python, module, peer, model.folder_for_peers, str(threads), log=_log(peer)))


def _log(name: str) -> Path:
    return BENCH / "logs" / f"{name}.log"


if __name__ == "__main__":
    sys.exit(main())
