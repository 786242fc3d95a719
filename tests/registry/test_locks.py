"""Every lock that has no row is named in one file."""

from pathlib import Path

from registry.locks import Lock

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "steernode", "steerhub", "workers", "demo", "benchmarks")


def test_no_other_file_takes_an_advisory_lock():
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in sources if "advisory" in path.read_text()}
    # The pool lets go of whatever a connection still holds.
    assert found == {"registry/locks.py", "steerhub/connections.py"}


def test_no_two_names_are_one_lock():
    numbers = [lock.value for lock in Lock.__members__.values()]
    assert len(set(numbers)) == len(numbers)
