"""What a run keeps on disk: batches by a digest of all that they depend on, and the result of every vector that was judged to its end.

A reply without steering, or under the prompt, does not depend on the vector, so it is written once for each model and read from then on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from steernode.canonical import canonical_json, sha256_hex
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Call, Lanes, Work
from steernode.engine.judging.evidence import describe_engine

T = TypeVar("T")
R = TypeVar("R")
ROOT = Path(__file__).resolve().parents[2]
# What decides a reply and its likelihood, and what decides a verdict.
MEASURING = ("access", "applying", "measuring", "reading")


class KeptWork(Work):
    """Batches in files below a folder, and the stage that a vector is in for whoever waits."""

    def __init__(self, folder: Path, on_stage: Callable[[str], None] = lambda _stage: None) -> None:
        self._folder, self._on_stage = folder, on_stage

    def enter(self, stage: str) -> None:
        self._on_stage(stage)

    def run(self, call: Call[T, R], do: Callable[[T], R], lanes: Lanes[Any, Any] = map) -> Iterator[tuple[T, R]]:
        folder = self._folder / call.digest()

        def take(number: int) -> tuple[int, bool, R]:
            kept = folder / str(number)
            if kept.exists():
                return number, True, call.unpack(kept.read_bytes())
            return number, False, do(call.batches[number])

        for number, is_kept, result in lanes(take, range(len(call.batches))):
            if not is_kept:
                write_whole(folder / str(number), call.pack(result))
            yield call.batches[number], result


def keep_work(loaded: LoadedModel, root: Path) -> Path:
    """Where the batches of this model are kept, as long as model, engine, libraries and machine stay what they are."""
    conditions = {"model": loaded.fingerprint, "engine": describe_engine(loaded), "code": digest_code(MEASURING)}
    return root / sha256_hex(canonical_json(conditions))[:16]


def digest_code(rooms: tuple[str, ...] = ()) -> str:
    """Of the sources of these rooms of the engine, or of all that a verdict depends on."""
    roots = [ROOT / "steernode/engine" / room for room in rooms] or [ROOT / "steernode", ROOT / "benchmarks/evidence"]
    files = sorted(path for root in roots for path in root.rglob("*") if path.suffix in (".py", ".json", ".yaml"))
    return sha256_hex("".join(f"{path.relative_to(ROOT)} {sha256_hex(path.read_bytes())}\n" for path in files).encode())


class Results:
    """One file for each vector that was judged, named by what its verdict depends on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, digest: str) -> dict[str, Any] | None:
        path = self._folder / f"{digest}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def keep(self, digest: str, result: dict[str, Any]) -> None:
        write_whole(self._folder / f"{digest}.json", json.dumps(result, indent=2, ensure_ascii=False).encode())


def write_whole(path: Path, data: bytes) -> None:
    """The file is there whole or not at all, whenever a run is ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
