"""What a figure was measured on. A number without its machine is a rumour."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# With more than this already running, the medians are of somebody else's work.
QUIET_LOAD = 0.5


def describe_machine() -> dict[str, Any]:
    """CPU model, cores, memory, load average over one minute, system, Python and date."""
    cpu = next(line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    load = os.getloadavg()[0]
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split()[1]) / 1024**2, 1),
        "load_average": round(load, 2),
        "quiet": load <= QUIET_LOAD,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def machine_line(machine: dict[str, Any]) -> str:
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, load average {machine['load_average']}, "
        f"{machine['system']}, Python {machine['python']}, {machine['date']}"
    )


def describe_commit() -> str | None:
    """What of this repository was measured, "-dirty" if the files differ from the commit. None outside a git checkout."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or None
