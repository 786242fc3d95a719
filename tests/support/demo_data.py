"""The first rows of the demo's data files."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo/data"


def take(name: str, count: int) -> bytes:
    """The first rows of each split of a data file."""
    rows = (DATA / name).read_bytes().splitlines(keepends=True)
    of_split: dict[str, list[bytes]] = {}
    for row in rows:
        of_split.setdefault(json.loads(row).get("split", ""), []).append(row)
    return b"".join(row for rows in of_split.values() for row in rows[:count])
