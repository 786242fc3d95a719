"""What a job takes of its machine: where its model is, and the most memory at a time. How fast it is, its progress says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel


class Meter:
    """Counts from `begin` on."""

    def __init__(self, loaded: LoadedModel) -> None:
        from steernode.engine.access.devices import name_device

        self._loaded = loaded
        names = ", ".join(f"{device}" for device in loaded.devices)
        self._device = f"{names} ({name_device(loaded.device)}), {loaded.dtype_name}"
        self.begin()

    def begin(self) -> None:
        from steernode.engine.access.devices import begin_peak

        begin_peak(self._loaded.devices)

    def read(self) -> dict[str, Any]:
        """As columns of a job."""
        from steernode.engine.access.devices import read_peak

        return {"device": self._device[:200], "peak_memory_bytes": read_peak(self._loaded.devices)}
