"""The manifests of a run, and what they name: as they are committed, or for a shortened run a copy with fewer rows, layers and tokens."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs

REAL = Path(__file__).parent
Row = dict[str, Any]
# Of a shortened run: how many rows of each split and kind stay, the first ones; the empty word is every other kind. As few as the gates
# of `tone` can be shown with, which a test holds.
SHORT: dict[str, dict[str, dict[str, int]]] = {
    "tickets": {"select": {"billing": 24, "": 1}, "test": {"billing": 32, "": 2}},
    "facts": {"select": {"billing": 48, "general": 8, "": 1}, "test": {"billing": 84, "general": 12, "": 2}},
    "capability": {"select": {"": 4}, "test": {"": 4}},
    "refusals": {"select": {"": 6}, "test": {"harmful": 60, "": 38}},
    "conversations": {"test": {"billing": 4, "": 0}},
    "intents": {"train": {"billing": 220, "": 60}, "select": {"billing": 60, "": 20}, "test": {"billing": 40, "": 10}},
}
SHORT_PAIRS = {"extract": 120, "select": 20, "test": 26}
# The layer that another search found, so that a shortened run finds an α and no layer.
SHORT_RECIPE = {"layers": [16], "alphas": ["0", "0.75", "1"], "maxNewTokens": 40, "finalists": 1}


@dataclass(frozen=True)
class Material:
    """The folder of manifests, and what was left out of it; nothing of a whole run."""

    manifests: Path
    shortened: dict[str, Any] | None
    var: Path

    @property
    def data(self) -> Path:
        return self.manifests.parent / "data"

    def path(self, name: str) -> str:
        return str(self.manifests / f"{name}.yaml")

    def read_rows(self, name: str) -> list[Row]:
        return read_rows(self.data / f"{name}.jsonl")

    def write_revision(self, alpha: str, unit: str) -> str:
        """The manifest of what is to be approved, at this α. Its path."""
        document = yaml.safe_load((self.manifests / "revision.yaml").read_text(encoding="utf-8"))
        (component,) = document["spec"]["revision"]["components"]
        component |= {"alpha": alpha, "alphaMin": "0", "alphaMax": alpha, "unit": unit}
        target = self.var / "revision.yaml"
        target.write_text(_write_yaml(document), encoding="utf-8")
        return str(target)


def read_material(var: Path, *, is_quick: bool) -> Material:
    """Of a whole run what is committed; of a shortened one a copy below `var`, written anew at every start, to the same bytes."""
    if not is_quick:
        return Material(REAL / "manifests", None, var)
    return Material(var / "material/manifests", shorten(var / "material"), var)


def shorten(target: Path) -> dict[str, Any]:
    """Write the short copy. What it leaves out: by file, rows kept and rows there are, and the recipe."""
    shutil.rmtree(target, ignore_errors=True)
    data, manifests = target / "data", target / "manifests"
    for folder in (data, manifests):
        folder.mkdir(parents=True)
    counts = {}
    for source in sorted((REAL / "data").glob("*.jsonl")):
        rows = read_rows(source)
        name = source.stem
        kept = rows
        if name in SHORT:
            kept = take_first(rows, SHORT[name])
        elif name.endswith(".pairs"):
            kept = take_pairs(source)
        (data / source.name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        if len(kept) < len(rows):
            counts[name] = [len(kept), len(rows)]
    for source in sorted((REAL / "manifests").glob("*.yaml")):
        documents = [_shorten_recipe(document) for document in yaml.safe_load_all(source.read_text(encoding="utf-8"))]
        (manifests / source.name).write_text("---\n".join(map(_write_yaml, documents)), encoding="utf-8")
    return {"rows": counts, "recipe": SHORT_RECIPE}


def take_first(rows: list[Row], limits: dict[str, dict[str, int]]) -> list[Row]:
    """Of each split and kind the first rows, in the order of the file."""
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for row in rows:
        split, kind = row["split"], kind_of(row)
        of_split = limits.get(split, {})
        taken[split, kind] += 1
        if taken[split, kind] <= of_split.get(kind, of_split.get("", 0)):
            kept.append(row)
    return kept


def take_pairs(source: Path) -> list[Row]:
    """The first pairs of each part."""
    parts = split_pairs(parse_pairs(source.read_bytes()).pairs)
    ids = {pair.id for name, part in parts.items() for pair in part[: SHORT_PAIRS[name]]}
    return [row for row in read_rows(source) if row["id"] in ids]


def kind_of(row: Row) -> str:
    """What a labelled prompt is of, whether a request is harmful, or else the intent."""
    if "kind" in row:
        return str(row["kind"])
    if "refuse" in row.get("expect", {}):
        return "harmful" if row["expect"]["refuse"] else "harmless"
    return str(row["intent"])


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _shorten_recipe(document: dict[str, Any]) -> dict[str, Any]:
    if document["kind"] == "SteeringVector":
        document["spec"]["recipe"] |= SHORT_RECIPE
    return document


def _write_yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
