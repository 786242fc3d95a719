"""Which files of a folder are manifests: every YAML one, but none that is hidden or that an editor left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

_SUFFIXES = (".yaml", ".yml")
# What editors add to the name of a file for its backup, its lock and what was not saved: a.yaml~, #a.yaml#, a.yaml.swp, a.yaml.bak.
_LEFTOVERS = ("~", "#", ".swp", ".swo", ".swx", ".bak", ".orig", ".rej", ".tmp", ".save")


def find_manifest_files(folder: Path, skipped: Callable[[str], None]) -> list[Path]:
    """The YAML files at any depth, whatever case their suffix is written in, in the order of their names.

    `skipped` is told of each that looks like one and is left out, and why.
    """
    found, in_hidden = [], Counter[Path]()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() or not _looks_like_yaml(path.name):
            continue
        hidden = next((Path(*inside.parts[: depth + 1]) for depth, part in enumerate(inside.parts) if part.startswith(".")), None)
        if hidden not in (None, inside):
            in_hidden[hidden] += 1
        elif hidden:
            skipped(f"skipped {inside}: hidden")
        elif path.name.startswith("#") or not path.name.lower().endswith(_SUFFIXES):
            skipped(f"skipped {inside}: left by an editor")
        elif not path.is_file():
            skipped(f"skipped {inside}: not a file")
        else:
            found.append(path)
    for hidden, count in in_hidden.items():
        skipped(f"skipped {hidden}: a hidden folder with {count} such file{'s' * (count > 1)}")
    return found


def _looks_like_yaml(name: str) -> bool:
    bare = name.lower().strip("#")
    bare = next((bare.removesuffix(end) for end in _LEFTOVERS if bare.endswith(end)), bare)
    return bare.endswith(_SUFFIXES)
