"""What a run has come to, chapter by chapter, so that one that was ended goes on where it stood."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo import story


@dataclass
class Diary:
    """The chapters that are over, with what each found, and how many seconds all starts have taken until the last entry."""

    path: Path
    is_quick: bool
    chapters: dict[str, Any] = field(default_factory=dict)
    seconds_before: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self._started

    def enter(self, name: str, play: Callable[[], Any]) -> Any:
        """What the chapter finds: played, or read where it was over already. Plain values only."""
        if name in self.chapters:
            story.tell(f"{name}: over already")
        else:
            found = play()
            # As it will be read.
            self.chapters[name] = json.loads(json.dumps(found))
            self.write()
        return self.chapters[name]

    def write(self) -> None:
        """Whole or not at all."""
        half = self.path.with_suffix(".half")
        half.write_text(json.dumps({"is_quick": self.is_quick, "seconds": self.seconds, "chapters": self.chapters}, indent=2) + "\n")
        os.replace(half, self.path)


def open_diary(path: Path, *, is_quick: bool) -> Diary:
    """That of an unfinished run, or an empty one. Raises: SystemExit if the unfinished one is of the other length."""
    if not path.exists():
        return Diary(path, is_quick)
    kept = json.loads(path.read_text())
    if kept["is_quick"] != is_quick:
        was, say = ("a shortened", "with") if kept["is_quick"] else ("a whole", "without")
        raise SystemExit(f"{path.parent} holds {was} run that is not over: go on with it {say} --quick, or forget it with --fresh")
    return Diary(path, is_quick, kept["chapters"], kept["seconds"])
