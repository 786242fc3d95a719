"""A tape: what a CUDA graph is, on a CPU. The operations of a step with the very tensors they were given, done again in their order.

A number of Python's that went into the step is on the tape as it was, and so is a tensor that was made for it: only what is read from
memory that stays can change under it. What the step would have asked the device for is refused while the tape is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steernode.engine.applying.fixedcheck import RefuseAsking

Act = Callable[[], None]


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        # Some results are changed in place by whoever called, such as a sum that a layer adds to: the tape keeps the tensor, not the value.
        self._operations.append((operation, args, kwargs or {}, result))
        return result

    def play(self) -> None:
        for operation, args, kwargs, result in self._operations:
            again = operation(*args, **kwargs)
            for kept, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(kept, Tensor) and kept.data_ptr() != value.data_ptr():
                    kept.copy_(value)


def record(step: Act, restore: Act) -> Act:
    """In the place of `steernode.engine.applying.graphs.capture`: warms up, and then records a step that changes nothing."""
    step()
    restore()
    tape = Tape()
    with RefuseAsking(), tape:
        step()
    restore()
    return tape.play
