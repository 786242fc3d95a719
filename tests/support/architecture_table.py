"""The table of architectures in docs/engine.md, from what the suite finds: `python -m tests.support.architecture_table` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from steernode.engine.access.models import load_model
from tests.support.architecture_suite import Row, examine
from tests.support.tiny_models import NAMES, save_model

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/engine.md"
HEAD = "| class | model type | sites between | packed | resumed |\n| --- | --- | --- | --- | --- |\n"


def write_table(page: str, rows: Iterable[Row]) -> str:
    """The page with one line for each class, or for each form of its blocks that its config can choose."""
    before, _, after = page.partition(HEAD)
    lines = sorted({row.to_line() for row in rows}, key=str.lower)
    return before + HEAD + "".join(f"{line}\n" for line in lines) + "\n" + after.partition("\n\n" if after.startswith("|") else "\n")[2]


def read_lines(page: str) -> list[str]:
    return page.partition(HEAD)[2].partition("\n\n")[0].splitlines()


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name in NAMES:
        with TemporaryDirectory() as folder:
            rows.append(examine(load_model(save_model(Path(folder), name))))
    PAGE.write_text(write_table(PAGE.read_text(), rows))
    print(f"Wrote {PAGE.relative_to(ROOT)}: {len(rows)} models.")


if __name__ == "__main__":
    main()
