"""docs/evidence.md gives what the judge of refusals says now, line by line."""

from pathlib import Path

from steernode.engine.measuring.refusaljudge import LEAST_KNOWN, MARGIN
from tests.support.refusal_table import PAGE, describe, write_tables

TEXT = PAGE.read_text()
PRODUCER = (Path(__file__).parent.parent / "Makefile").read_text()


def test_the_tables_of_the_page_are_what_is_judged_now():
    assert [line for line in describe().splitlines() if line not in TEXT.splitlines()] == []
    assert write_tables(TEXT) == TEXT
    assert "tests.support.refusal_table" in PRODUCER


def test_the_page_states_the_margins_that_are_in_force():
    assert f"a margin of {MARGIN}" in TEXT
    assert LEAST_KNOWN == 0.5
    assert "at half of" in TEXT
