"""Hashing the files of a folder, once for as long as they are the same: a model of many gigabytes is hashed by a process one time.

What a file is known by is its stamp: device, inode, size, and when its content and when its record was changed, in nanoseconds. Whoever
writes to a file can set back the first of these times and not the second, which needs the machine's clock, or the disk, to be the writer's.
"""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

from steernode.errors import ModelError

Stamp = tuple[int, int, int, int, int]

_CHUNK_BYTES = 1024 * 1024
# A file system's clock ticks: what was changed this shortly before it was read could be changed again under the same stamp.
_SETTLED_NANOSECONDS = 2 * 10**9
_MOST_REMEMBERED = 10_000
_known: dict[str, tuple[Stamp, str]] = {}
_lock = threading.Lock()


def hash_file(path: Path) -> tuple[str, int]:
    """The sha256 of a file, and its size. Raises: ModelError FOLDER_CHANGED if it is written to meanwhile."""
    key, stamp, begun = str(path.resolve()), read_stamp(path), time.time_ns()
    with _lock:
        known = _known.get(key)
    if known is not None and known[0] == stamp:
        return known[1], stamp[2]
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    if read_stamp(path) != stamp:
        raise ModelError("FOLDER_CHANGED", f"{path.name} was written to while it was read; ask again when nobody writes there", path.name)
    if max(stamp[3:]) < begun - _SETTLED_NANOSECONDS:
        with _lock:
            if len(_known) >= _MOST_REMEMBERED:
                _known.clear()
            _known[key] = stamp, digest.hexdigest()
    return digest.hexdigest(), stamp[2]


def read_stamp(path: Path) -> Stamp:
    """Of the file itself, whatever links lead to it."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
