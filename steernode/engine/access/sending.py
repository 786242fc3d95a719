"""Between this side and a device without waiting for what it was given to do before. On a CPU nothing is copied."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; what follows there comes after it."""
    return tensor.to(device, non_blocking=True)


def fetch(tensor: Tensor) -> Callable[[], Tensor]:
    """Asks for the tensor's values on the CPU at once, and gives what waits for them: until then the device may be given more to do."""
    if tensor.device.type == "cpu":
        return lambda: tensor
    # Only into pinned memory does a copy go on by itself.
    values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    values.copy_(tensor, non_blocking=True)
    copied = torch.Event(tensor.device.type)
    copied.record()

    def wait() -> Tensor:
        copied.synchronize()
        return values

    return wait
