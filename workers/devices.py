"""The device of this worker: one worker works on a GPU, held by the lock of a file that no second worker of this host gets."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from steernode.errors import ModelError
from steernode.placement import CPU, choose_devices, parse_devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from steernode.placement import Device

logger = logging.getLogger(__name__)
# The open files whose locks this process holds, by the identity of the GPU. They end with the process, however that ends.
_locks: dict[str, int] = {}
_held: tuple[Device, ...] | None = None


def hold_device() -> str:
    """The device that STEERHUB_WORKER_DEVICE means, as `load_model` reads it; this worker's from the first call on.

    Raises: ModelError DEVICE_FORMAT, DEVICE_MISSING, DEVICE_TAKEN, DEVICE_LOCK.
    """
    global _held
    if _held is None:
        from steernode.engine.access.devices import list_devices

        _held = claim_devices(parse_devices(settings.STEERHUB_WORKER_DEVICE), list_devices(), settings.VAR_DIR / "locks")
        logger.info("this worker runs models on %s", ", ".join(f"{device.name} ({device.title})" for device in _held))
    return ",".join(device.name for device in _held)


def claim_devices(wanted: Sequence[str], present: Sequence[Device], folder: Path) -> tuple[Device, ...]:
    """Those of this machine that are meant, with their locks; of `auto` the first that no other worker holds."""
    taken: set[str] = set()
    while True:
        chosen = choose_devices(wanted, present, taken)
        refused = {device.identity for device in chosen if device.name != CPU and not _lock(device.identity, folder)}
        if not refused:
            return chosen
        for device in chosen:
            _unlock(device.identity)
        taken |= refused


def _lock(identity: str, folder: Path) -> bool:
    if identity in _locks:
        return True
    path = folder / f"gpu-{identity.replace('/', '_')}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        # A worker that went on without its lock would not be alone on its GPU.
        raise ModelError("DEVICE_LOCK", f"{path}, which says whose a GPU is, cannot be written: {error.strerror}", str(path)) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    _locks[identity] = file
    return True


def _unlock(identity: str) -> None:
    if identity in _locks:
        os.close(_locks.pop(identity))
