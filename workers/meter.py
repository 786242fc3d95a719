"""What a job takes of its machine: where its model is, the most memory at a time, and how many tokens go through it in a second."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel


class Meter:
    """Counts from `begin` on. Tokens are those that go through the decoder, read and written, padding included."""

    def __init__(self, loaded: LoadedModel) -> None:
        from steernode.engine.access.devices import name_device

        self._loaded = loaded
        names = ", ".join(f"{device}" for device in loaded.devices)
        self._device = f"{names} ({name_device(loaded.device)}), {loaded.dtype_name}"
        loaded.decoder.register_forward_pre_hook(self._count, with_kwargs=True)
        self.begin()

    def begin(self) -> None:
        from steernode.engine.access.devices import begin_peak

        self._tokens, self._began = 0, time.monotonic()
        begin_peak(self._loaded.devices)

    def read(self) -> dict[str, Any]:
        """As columns of a job."""
        from steernode.engine.access.devices import read_peak

        seconds = time.monotonic() - self._began
        rate = Decimal(self._tokens / seconds).quantize(Decimal("0.1")) if self._tokens and seconds > 0 else None
        return {"device": self._device[:200], "peak_memory_bytes": read_peak(self._loaded.devices), "tokens_per_second": rate}

    def _count(self, _module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        token_ids = kwargs.get("input_ids", args[0] if args else None)
        if token_ids is not None:
            self._tokens += token_ids.numel()
        elif (embedded := kwargs.get("inputs_embeds")) is not None:
            self._tokens += embedded.shape[0] * embedded.shape[1]
