"""What a batch costs on a device whatever is in it, in tokens of work: nothing on a core beside its work; on a GPU, measured once for each
model that is read there, because launching a pass may take longer than computing it.

The measure is rounded to a power of two, since batches are cut by it and the shape of a batch shows in last bits: clocks that differ
by a little cut alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from steernode.engine.access.devices import free_memory, is_out_of_memory
from steernode.engine.access.learned import Learned
from steernode.engine.access.models import LoadedModel

# Tokens of a pass that is all launching, and of those that are made until one is not.
_FEW, _FIRST_MANY, _LAST_MANY = 16, 2048, 16384
_ROW = 64
_REPEATS, _KINDS = 3, 97
# A pass this much longer than one of few tokens is bound by its work.
_IS_WORK = 3.0
# A batch holds so many times what it costs by itself, if memory for that much is usual at all.
_WORTH, _CORE_TOKENS, _MAX_SCALE = 8, 4096, 8


@dataclass(frozen=True)
class BatchCosts:
    """`overhead_tokens`: what each batch costs beside its work, in tokens that would be computed meanwhile. `scale`: how many times a
    core's batches those of this device may be."""

    overhead_tokens: int = 0
    scale: int = 1

    @classmethod
    def of_overhead(cls, tokens: float) -> BatchCosts:
        overhead = 1 << max(0, round(tokens) - 1).bit_length()
        return cls(overhead, max(1, min(_MAX_SCALE, _WORTH * overhead // _CORE_TOKENS)))


CORE = BatchCosts()


_known: Learned[BatchCosts] = Learned()


def batch_costs(loaded: LoadedModel) -> BatchCosts:
    """Measured when it is first asked for, and the same from then on."""
    if loaded.device.type == "cpu":
        return CORE
    return _known.of(loaded, lambda: measure_costs(lambda tokens: _time_pass(loaded, tokens)))


def measure_costs(time_pass: Callable[[int], float]) -> BatchCosts:
    """From the seconds that passes of so many tokens take; the shortest of a few, because nothing makes a pass too short.

    Where memory runs out over it, by the passes that there was room for.
    """

    def shortest(tokens: int) -> float:
        return min(time_pass(tokens) for _ in range(_REPEATS))

    time_pass(_FEW)
    few, many, overhead = shortest(_FEW), _FIRST_MANY, 0.0
    while many <= _LAST_MANY:
        try:
            took = shortest(many)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            break
        overhead = few * many / took
        if took >= _IS_WORK * few:
            break
        many *= 2
    # Outside the handler, because the error's traceback keeps the tensors of the failed pass alive.
    free_memory()
    return BatchCosts.of_overhead(overhead) if overhead else CORE


@torch.inference_mode()
def _time_pass(loaded: LoadedModel, tokens: int) -> float:
    columns = min(tokens, _ROW, loaded.manifest.context_length)
    # Of several kinds, because a mixture of experts sends one kind to few.
    kinds = min(_KINDS, loaded.manifest.vocab_size)
    token_ids = (torch.arange(tokens // columns * columns, device=loaded.device) % kinds).view(-1, columns)
    _wait(loaded.device)
    started = time.perf_counter()
    loaded.decoder(input_ids=token_ids, use_cache=False)
    _wait(loaded.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
