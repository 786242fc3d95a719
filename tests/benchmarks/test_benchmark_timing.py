"""The pure parts of the benchmarks: what they conclude from times that are known."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.timing import alternate, quartiles, ratio, summarize


def test_sides_take_turns_after_the_warm_ups():
    order = []

    def side(name):
        return lambda: order.append(name) or float(len(order))

    times = alternate({"a": side("a"), "b": side("b")}, repeats=2, warmups=1)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert times == {"a": [3.0, 5.0], "b": [4.0, 6.0]}


def test_median_and_quartiles_of_known_times():
    assert summarize([5.0, 1.0, 3.0, 2.0, 4.0]) == {"median_s": 3.0, "q1_s": 2.0, "q3_s": 4.0, "repeats": 5}
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_ratio_is_of_medians_with_quartiles_round_by_round():
    assert ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == {"value": 2.0, "q1": 2.0, "q3": 2.5}


#: Run in a process of its own: in one that has run other tests, freed memory may serve the next block, and threads free theirs meanwhile.
PEAK = """
from benchmarks.timing import current_memory, peak_memory, reset_peak_memory

def touch():
    block = bytearray(64 * 1024**2)
    block[::4096] = b"x" * len(block[::4096])

touch()
reset_peak_memory()
before = peak_memory()
print(before - current_memory(), end=" ")
touch()
print(peak_memory() - before)
"""


def test_peak_memory_is_of_what_follows_the_reset():
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    left, rise = map(int, done.stdout.split())
    assert left < 16 * 1024**2
    assert rise > 48 * 1024**2
