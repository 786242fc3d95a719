"""Work: what whoever asks the engine keeps of it and hears of it. A call is done in batches, each of them whole or not at all.

A batch that is kept must give the same bits as one that is measured, and a batch's bits depend on its shape. So the batches of a call
belong to what its results depend on, and a call of which some batches are kept already is run in the same lanes as one of which none is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

T = TypeVar("T")
R = TypeVar("R")
# Runs the function on every element, in whatever order, and yields what it returned.
Lanes = Callable[[Callable[[T], R], Sequence[T]], Iterable[R]]
_PLAIN = (type(None), bool, int, float, str, Decimal)


@dataclass(frozen=True, eq=False)
class Call(Generic[T, R]):
    """One call of the engine. `inputs` are all that its results depend on beside the model: what is left out there is not told apart.

    `name` says what it makes, in the plural; `size` is how many of them a batch makes, `tokens` how many tokens were written or read
    for its result. `unpack` gives back, bit for bit, what `pack` was given.
    """

    name: str
    inputs: Sequence[Any]
    batches: Sequence[T]
    size: Callable[[T], int]
    tokens: Callable[[T, R], int]
    pack: Callable[[R], bytes]
    unpack: Callable[[bytes], R]

    @property
    def total(self) -> int:
        return sum(map(self.size, self.batches))

    def digest(self) -> str:
        return digest_inputs(self.name, self.inputs, self.batches)


@dataclass(frozen=True)
class Planned:
    """So many replies, texts or whatever else a call makes, within one stage of a job; foreseen, so that it may be less or more."""

    stage: str
    name: str
    count: int


class Work:
    """What becomes of a loaded model's work. Of this one nothing: no batch is kept, and nobody hears of it."""

    def enter(self, stage: str) -> None:
        """What is done from here on belongs to this stage, and the stages before it are over."""

    def run(self, call: Call[T, R], do: Callable[[T], R], lanes: Lanes[Any, Any] = map) -> Iterator[tuple[T, R]]:
        """Every batch with what it gave, as they come."""
        yield from lanes(lambda batch: (batch, do(batch)), call.batches)

    def check(self) -> None:
        """Asked at every step of a batch that takes long. Whoever has no more use for the rest raises here."""

    def passed(self, name: str, count: int, tokens: int, seconds: float) -> None:
        """So many were made outside of any call, and took so long."""


NO_WORK = Work()


def digest_inputs(*values: Any) -> str:
    """The sha256 of values as they are, types, names and bits included. Raises: TypeError for what it cannot tell apart."""
    digest = sha256()
    for part in _describe(values):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _describe(value: Any) -> Iterator[bytes]:
    if isinstance(value, _PLAIN):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        yield b"bytes " + value
    elif isinstance(value, torch.Tensor):
        whole = value.detach().cpu().contiguous()
        yield f"tensor {whole.dtype} {tuple(whole.shape)}".encode()
        yield whole.view(torch.uint8).numpy().tobytes() if whole.ndim else whole.reshape(1).view(torch.uint8).numpy().tobytes()
    elif is_dataclass(value) and not isinstance(value, type):
        yield f"{type(value).__name__} {len(fields(value))}".encode()
        for each in fields(value):
            yield each.name.encode()
            yield from _describe(getattr(value, each.name))
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for name, item in value.items():
            yield from _describe(name)
            yield from _describe(item)
    elif isinstance(value, Sequence):
        yield f"sequence {len(value)}".encode()
        if all(type(item) in (int, bool) for item in value):
            # Token ids and masks: most of what there is.
            yield repr(list(value)).encode()
        else:
            for item in value:
                yield from _describe(item)
    else:
        raise TypeError(f"a {type(value).__name__} among the inputs of a call: say how two of them are told apart")


def pack_floats(values: npt.NDArray[np.float64]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()


def unpack_floats(data: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(data, dtype="<f8").copy()
