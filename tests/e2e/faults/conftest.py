"""A rig for each fault, from one record that is made once, and the table of what every fault came to."""

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.processes import ROOT, stop_postgres
from tests.e2e.faults.rig import Rig

# A line for each of thousands of questions would hide what failed.
logging.getLogger("httpx").setLevel(logging.WARNING)

VAR = ROOT / "var/faults"
TABLE = VAR / "table.json"


@pytest.fixture(scope="session")
def template() -> Iterator[Path]:
    """The record, closed: copied for each fault."""
    folder = VAR / "template"
    rig = Rig.make(folder)
    rig.close()
    yield folder
    stop_postgres(folder)


@pytest.fixture
def rig(template: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    folder = VAR / "played"
    stop_postgres(folder)
    shutil.rmtree(folder, ignore_errors=True)
    # Owners are kept: the server runs as somebody else than root.
    subprocess.run(["cp", "-a", str(template), str(folder)], check=True)
    rig = Rig(folder)
    yield rig
    rig.close()
    outcome = getattr(request.node, "outcome_of_call", None)
    if outcome is not None and outcome.failed:
        shutil.copytree(folder / "log", VAR / "failed" / request.node.name, dirs_exist_ok=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    if call.when == "call":
        item.outcome_of_call = outcome.get_result()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def table() -> Iterator[list[dict[str, object]]]:
    """Rows of `report`: written and printed at the end, as docs/operations.md shows them."""
    rows: list[dict[str, object]] = []
    yield rows
    VAR.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps(rows, indent=2))
    print("\n\n| fault | road | seconds to neutral | bound | steered past it |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['fault']} | {row['road']} | {row['seconds']:.2f} | {row['bound']:.1f} | nobody |")


@pytest.fixture
def report(table: list[dict[str, object]]):
    """report(fault, road=…, seconds=…, bound=…): holds the seconds to the bound, and notes them down."""

    def note(fault: str, *, road: str, seconds: float, bound: float = 1.0) -> None:
        table.append({"fault": fault, "road": road, "seconds": round(seconds, 3), "bound": bound})
        assert seconds <= bound, f"{fault}: neutral after {seconds:.2f} s, wanted {bound} s"

    return note
