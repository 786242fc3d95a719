"""How the tests are built: what two of them share is under support/, and a test module is nobody's library."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = sorted(TESTS.rglob("*.py"))
MIRRORED = ("steernode", "registry")


def imported(path: Path) -> list[str]:
    tree = ast.parse(path.read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return names + [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]


def is_a_test(module: str) -> bool:
    return module.startswith("test_") or module == "conftest"


def test_no_module_of_the_tests_imports_from_a_test_or_a_conftest():
    wrong = {str(path.relative_to(TESTS)): name for path in MODULES for name in imported(path) if is_a_test(name.split(".")[-1])}
    assert wrong == {}


@pytest.mark.parametrize("package", MIRRORED)
def test_every_folder_of_tests_mirrors_a_room_of_its_package(package):
    folders = [path for path in (TESTS / package).iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert [
        folder.name
        for folder in folders
        if not (TESTS.parent / package / folder.name).exists() and not (TESTS.parent / package / f"{folder.name}.py").exists()
    ] == []
