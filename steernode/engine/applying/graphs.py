"""Capture: a step's kernels recorded once and launched as one. The only code here that a machine without a GPU cannot run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# Kernels choose their workspaces and are loaded when they first run, neither of which can be captured.
_WARM_UPS = 2

Act = Callable[[], None]


def capture(step: Act, restore: Act, device: torch.device, pool: Any) -> Act:
    """What replays `step`. It is run a few times before; `restore` puts back what it changed that the next step goes on from."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch says no type of it
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                step()
                restore()
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Only this thread's calls belong to the step; others may work on the device meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            step()
    return graph.replay
