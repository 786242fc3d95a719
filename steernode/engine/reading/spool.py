"""The spool: activations of all pairs on disk, for methods that need them all, and read back layer by layer."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from steernode.errors import EngineError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _open_nameless() -> BinaryIO:
    """A file that no folder lists: the system removes it when it is closed, even by a crash."""
    return tempfile.TemporaryFile(prefix="steernode-spool-")


class ActivationSpool:
    """One temporary file per layer, of float32 rows positive₀ negative₀ positive₁ … (2·pairs, d_model). Use in a `with` block.

    `pairs` is the expected number, if it is known: the space is then asked for before anything is computed.

    Raises: EngineError SPOOL_FULL, naming the bytes needed, at the start or when the disk fills up.
    """

    def __init__(
        self, layers: Sequence[int], d_model: int, pairs: int | None, *, open_file: Callable[[], BinaryIO] = _open_nameless
    ) -> None:
        self._layers, self._d_model, self._expected, self._open = tuple(layers), d_model, pairs, open_file
        self._files: list[BinaryIO] = []
        self.pairs = 0

    def __enter__(self) -> ActivationSpool:
        if self._expected is not None:
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if free < self._bytes(self._expected):
                raise self._full(self._expected, f"{free} are free")
        try:
            for _ in self._layers:
                self._files.append(self._open())
        except OSError as error:
            self._close()
            raise EngineError("SPOOL_FULL", f"no spool file could be made in {tempfile.gettempdir()}: {error}") from error
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._close()

    def append(self, positive: Tensor, negative: Tensor) -> None:
        """Both (pairs, layers, d_model)."""
        rows = torch.stack([positive, negative], dim=1).float().cpu().numpy()
        try:
            for place, file in enumerate(self._files):
                file.write(np.ascontiguousarray(rows[:, :, place]).data)
                file.flush()
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            needed = max(self._expected or 0, self.pairs + len(positive))
            raise self._full(needed, "the disk is full") from error
        self.pairs += len(positive)

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """The two sides of all pairs at one layer, (pairs, d_model) each, in the order in which they were appended."""
        file = self._files[self._layers.index(layer)]
        file.seek(0)
        rows = np.fromfile(file, dtype=np.float32).reshape(self.pairs, 2, self._d_model)
        return torch.from_numpy(rows[:, 0]), torch.from_numpy(rows[:, 1])

    def _bytes(self, pairs: int) -> int:
        return pairs * 2 * len(self._layers) * self._d_model * 4

    def _full(self, pairs: int, why: str) -> EngineError:
        needed = self._bytes(pairs)
        return EngineError(
            "SPOOL_FULL",
            f"the activations of {pairs} pairs need {needed} bytes in {tempfile.gettempdir()}: {why}; free space, set TMPDIR to a "
            "larger disk, read fewer layers, or use mean_difference, which keeps sums only",
            str(needed),
        )

    def _close(self) -> None:
        while self._files:
            try:
                self._files.pop().close()
            except OSError:
                # What could not be flushed to a full disk is what is being thrown away.
                continue
