"""Placement: on which device a model is run, in which dtype, and whether it fits. Arithmetic: nothing here looks at a machine."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from steernode.errors import ModelError

AUTO, CPU = "auto", "cpu"
# What a model can be run in, and the bytes that one number of each takes.
DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
GIB = 1024**3
# Beside its weights a model needs room for what it reads and writes: this share of them at least.
WORKING_SHARE = 0.1
_GPU = re.compile(r"cuda:(0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True)
class Device:
    """A place for a model: `cpu` or `cuda:N`, what it is called, and its memory in bytes. `identity` is one on this host, whatever number
    a process knows it by. `dtypes` are what it can compute in. `free_bytes` is None of a GPU that was not asked, which takes memory."""

    name: str
    title: str
    identity: str
    total_bytes: int
    free_bytes: int | None
    dtypes: frozenset[str] = frozenset(DTYPE_BYTES)


@dataclass(frozen=True, slots=True)
class Weights:
    """How much a model's weights are: numbers that take the dtype it is loaded in, and bytes that stay as they are."""

    numbers: int
    other_bytes: int = 0

    def bytes_in(self, dtype: str) -> int:
        return self.numbers * DTYPE_BYTES[dtype] + self.other_bytes

    def needed_in(self, dtype: str) -> int:
        """With the least room to work in."""
        return int(self.bytes_in(dtype) * (1 + WORKING_SHARE))


def parse_devices(text: str) -> tuple[str, ...]:
    """`auto`, `cpu`, `cuda:N`, or several GPUs with commas between them. Raises: ModelError DEVICE_FORMAT."""
    names = tuple(name.strip() for name in text.split(","))
    is_known = names in ((AUTO,), (CPU,)) or all(_GPU.fullmatch(name) for name in names)
    if not is_known or len(set(names)) < len(names):
        raise ModelError("DEVICE_FORMAT", f"a device is auto, cpu, cuda:N, or several such as cuda:0,cuda:1; got {text!r}", text[:80])
    return names


def choose_devices(wanted: Sequence[str], present: Sequence[Device], taken: Collection[str] = ()) -> tuple[Device, ...]:
    """The devices that are meant, of those of this machine: `auto` is the first GPU that nobody has taken, or the CPU where there is none.

    `present` are the CPU and every GPU; `taken` holds the identities of GPUs that other processes have.
    Raises: ModelError DEVICE_MISSING, DEVICE_TAKEN.
    """
    gpus = [device for device in present if device.name != CPU]
    if tuple(wanted) == (AUTO,):
        if not gpus:
            return tuple(present[:1])
        free = [device for device in gpus if device.identity not in taken]
        if not free:
            raise ModelError("DEVICE_TAKEN", f"each of the {len(gpus)} GPUs here has a worker already; one works on a GPU", AUTO)
        return (free[0],)
    by_name = {device.name: device for device in present}
    for name in wanted:
        if name not in by_name:
            raise ModelError("DEVICE_MISSING", f"there is no {name} here; there are {', '.join(by_name)}", name)
        if by_name[name].identity in taken:
            raise ModelError("DEVICE_TAKEN", f"{name} ({by_name[name].title}) has a worker already; one works on a GPU", name)
    return tuple(by_name[name] for name in wanted)


def choose_dtype(wanted: str, own: str) -> str:
    """The dtype that is meant: `auto` is the model's own if that is bfloat16, else float32, which holds what float16 does, exactly.

    float16 is run only where it is asked for: the streams of many models leave its range.
    Raises: ModelError MODEL_DTYPE.
    """
    if wanted == AUTO:
        return own if own == "bfloat16" else "float32"
    if wanted not in DTYPE_BYTES:
        raise ModelError("MODEL_DTYPE", f"dtype {wanted!r} is not known; known are {AUTO}, {', '.join(DTYPE_BYTES)}", wanted[:80])
    return wanted


def check_fit(weights: Weights, dtype: str, devices: Sequence[Device], present: Sequence[Device]) -> None:
    """Before anything is loaded. Raises: ModelError DTYPE_UNSUPPORTED; MODEL_TOO_LARGE, which says what would fit."""
    for device in devices:
        if dtype not in device.dtypes:
            known = ", ".join(sorted(device.dtypes))
            raise ModelError("DTYPE_UNSUPPORTED", f"{device.name} ({device.title}) does not compute in {dtype}; it does in {known}", dtype)
    needed, free = weights.needed_in(dtype), sum(device.free_bytes or 0 for device in devices)
    if needed > free:
        names = " and ".join(device.name for device in devices)
        problem = f"in {dtype} the model takes {format_gib(needed)}; free on {names}: {format_gib(free)}"
        raise ModelError("MODEL_TOO_LARGE", f"{problem}. {describe_fits(weights, present)}", names)


def describe_fits(weights: Weights, present: Sequence[Device]) -> str:
    """What it would take in each dtype, and what each device has."""
    sizes = ", ".join(f"{format_gib(weights.needed_in(dtype))} in {dtype}" for dtype in DTYPE_BYTES)
    rooms = ", ".join(f"{device.name} has {_describe_room(device)}" for device in present)
    return f"It takes {sizes}; {rooms}"


def _describe_room(device: Device) -> str:
    total = format_gib(device.total_bytes)
    return f"{total} in all" if device.free_bytes is None else f"{format_gib(device.free_bytes)} free of {total}"


def format_gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 1024**2:.1f} MiB"


def spread_blocks(block_bytes: Sequence[int], first_bytes: int, last_bytes: int, rooms: Sequence[int]) -> list[int]:
    """Which of several devices each decoder block goes to, as positions in `rooms`, rising, each device filled to the same share.

    `first_bytes` (the embedding) lie with the first block and `last_bytes` (the final norm and the head) with the last; `rooms` are the
    free bytes of each device.
    """
    sizes = list(block_bytes)
    sizes[0] += first_bytes
    sizes[-1] += last_bytes
    total, room = sum(sizes), sum(rooms)
    ends = [sum(rooms[: position + 1]) / room for position in range(len(rooms))]
    placed, before = [], 0
    for size in sizes:
        middle = (before + size / 2) / total
        placed.append(next(position for position, end in enumerate(ends) if middle <= end or position == len(ends) - 1))
        before += size
    return placed


def estimate_weights(manifest: Mapping[str, object]) -> Weights:
    """Of a base model by its record alone: the sizes of its weight files and the dtype that its config names."""
    files = manifest.get("files")
    sizes = [file["bytes"] for file in files if str(file["name"]).endswith(".safetensors")] if isinstance(files, list) else []
    return Weights(sum(sizes) // DTYPE_BYTES.get(str(manifest.get("dtype")), 4))


def choose_queue(needed_bytes: int, queues: Sequence[tuple[str, int]], default: str) -> str:
    """The smallest of the queues, each a name and how many GiB its workers have, that a job fits; the largest, whose workers say what is
    missing, if it fits none. Without queues all work is in the default one."""
    if not queues:
        return default
    by_size = sorted(queues, key=lambda queue: queue[1])
    return next((name for name, gib in by_size if needed_bytes <= gib * GIB), by_size[-1][0])
