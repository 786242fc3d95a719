"""Times that can be compared: alternating sides, medians with inter-quartile ranges, and the peak memory of one piece of work.

This file runs in every environment that is measured: standard library only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What a process generates, untimed, before it is timed: the first steps after others had the caches are slower than all the rest.
WAKING_TOKENS = 4

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def alternate(sides: Mapping[str, Callable[[], float]], *, repeats: int, warmups: int) -> dict[str, list[float]]:
    """Seconds of each side, from rounds A B C A B C: a machine that slows down for a while slows all sides down."""
    for _ in range(warmups):
        for work in sides.values():
            work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            times[name].append(work())
    return times


def summarize(times: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and number of the times, in seconds."""
    low, middle, high = quartiles(times)
    return {"median_s": middle, "q1_s": low, "q3_s": high, "repeats": len(times)}


def ratio(these: Sequence[float], those: Sequence[float]) -> dict[str, float]:
    """These times over those: the ratio of the medians, with the quartiles of the ratios round by round."""
    low, _, high = quartiles([one / other for one, other in zip(these, those, strict=True)])
    return {"value": statistics.median(these) / statistics.median(those), "q1": low, "q3": high}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of one value, the value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many percent of them do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of wall time, and what the work returned."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def reset_peak_memory() -> None:
    """From here on `peak_memory` is of what follows. Linux only."""
    _CLEAR_REFS.write_text("5")


def peak_memory() -> int:
    """Bytes: the most physical memory that this process held at one time since the last reset."""
    return _read_status("VmHWM")


def current_memory() -> int:
    """Bytes of physical memory that this process holds now."""
    return _read_status("VmRSS")


def _read_status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024
