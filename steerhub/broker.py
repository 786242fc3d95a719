"""The broker of embedded mode: kombu's queue in a folder, in which a message that nobody can read is set aside.

Of itself kombu raises in the worker that met it, which ends that worker and, under a supervisor, every other process.
"""

import logging
import os
import stat
import uuid
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

logger = logging.getLogger(__name__)
# Beside the messages.
UNREADABLE = "unreadable"
# What comes of a message that is not what it must be. An error of the connection is none of these.
UNREADABLE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Channel(filesystem.Channel):
    """A queue in a folder, in which a message appears whole, and one that nobody can read is moved out of the way."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]  # its two base classes name it differently
        folder, name = Path(self.data_folder_out), f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        (folder / f".{name}").write_bytes(dumps(payload).encode())
        (folder / f".{name}").rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] == f"{queue}.msg" and (message := self._take(Path(self.data_folder_in), name)) is not None:
                return message
        raise Empty

    def _take(self, folder: Path, name: str) -> Any:
        """The message, or None if another worker was faster, or nobody can read it."""
        taken = folder / f".{name}.{uuid.uuid4().hex}"
        try:
            # Of several workers one succeeds.
            (folder / name).rename(taken)
        except OSError:
            return None
        try:
            message = _read_message(taken)
            self.Message(message, channel=self)  # type: ignore[no-untyped-call]
        except (*UNREADABLE_ERRORS, OSError) as error:
            (folder.parent / UNREADABLE).mkdir(exist_ok=True)
            taken.rename(folder.parent / UNREADABLE / name)
            logger.error("set aside a message that cannot be read, %s/%s: %s: %s", UNREADABLE, name, type(error).__name__, error)
            return None
        taken.unlink()
        return message


def _read_message(path: Path) -> Any:
    """Raises: OSError, ValueError."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a file")
    return loads(path.read_bytes().decode())


class Transport(filesystem.Transport):
    Channel = Channel
