"""The inventories of texts that the corpus is drawn from, as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def load_inventory(name: str) -> Any:
    """The parsed inventory of that name, its entries in the order of the file: the seeded draws depend on it."""
    return yaml.safe_load((Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8"))
