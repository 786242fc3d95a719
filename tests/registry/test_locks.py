"""Every lock that has no row is named in one file."""

from pathlib import Path

import pytest
from django.db import transaction

from registry.locks import Lock, hold, is_free
from tests.support.racing import at_once

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


@pytest.mark.django_db(transaction=True)
def test_a_lock_is_seen_to_be_held_until_the_transaction_ends():
    def look():
        return is_free(Lock.KILL)

    with transaction.atomic():
        hold(Lock.KILL)
        assert at_once(look, look) == [False, False]
    assert at_once(look, look) == [True, True]
