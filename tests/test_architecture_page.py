"""docs/architecture.md names what is there: a path that is gone, or a floor that lint does not hold, is a fault of the page."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/architecture.md").read_text()


def test_every_path_of_the_page_is_there():
    named = {name for name in re.findall(r"`([\w/.]+)`", PAGE) if name.endswith((".py", "/"))}
    assert len(named) > 40
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("package", ["registry", "steernode"])
def test_the_page_gives_the_floors_that_lint_holds(package):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (floors,) = (contract["layers"] for contract in contracts if contract["name"] == f"inside {package}")
    (said,) = re.findall(rf"nside `{package}`:\n`([^`]+)`", PAGE)
    # What is on the page is in that order; floors of plumbing, such as management commands, may be left out.
    order = {module: height for height, floor in enumerate(floors) for module in floor.split(" | ")}
    heights = [{order[module] for module in floor.split(" | ")} for floor in said.split(" → ")]
    assert all(len(height) == 1 for height in heights)
    assert sorted(heights, key=min) == heights
