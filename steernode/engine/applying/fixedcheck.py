"""The self-check of fixed buffers: a model's steps run over them only after they agreed with those over a growing cache, and were seen
to ask nothing of the device that a replay could not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from steernode.engine.access.cache import new_fixed_cache
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import visit_site
from steernode.engine.applying.fixed import FixedStepper, Room
from steernode.engine.applying.stepping import Stepper
from steernode.engine.reading.selfcheck import TOLERANCE

_STEPS = 4
# Beyond this, prompts longer than a sliding window would take longer than what the check is for.
_MAX_COLUMNS = 128
# What comes of these depends on values, so that the device has to be waited for.
_ASKING = ("item", "_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal.default", "repeat_interleave.Tensor")


class _Asked(Exception):
    """A step asked the device for a value."""


class RefuseAsking(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch says no type of its registering
    """While it is on, operations fail whose results have to be waited for, or that copy from one device to another."""

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(operation).removeprefix("aten.")
        indices = args[1] if name.startswith(("index.Tensor", "index_put")) else ()
        if name.startswith(_ASKING) or any(index is not None and index.dtype == torch.bool for index in indices):
            raise _Asked(name)
        result = operation(*args, **(kwargs or {}))
        if name.startswith(("to.", "_to_copy", "copy_")):
            devices = {value.device.type for value in (*args, result) if isinstance(value, Tensor)}
            if len(devices) > 1:
                raise _Asked(f"{name} from one device to another")
        return result


@torch.inference_mode()
def refuse_fixed(loaded: LoadedModel) -> str:
    """Why this model's steps run over a growing cache wherever it is; empty if they need not."""
    if len(loaded.devices) > 1:
        return "it lies on several devices"
    cache = new_fixed_cache(loaded.model, loaded.device)
    if cache is None:
        return "it remembers something else than keys and values"
    window = getattr(loaded.decoder.config, "sliding_window", None)
    longest = 24 if window is None or window > _MAX_COLUMNS else window + 8
    rows = _make_rows(loaded, min(longest, loaded.manifest.context_length - _STEPS))
    growing = _write(loaded, Stepper(loaded, rows, _STEPS, None, 0))
    # A model that cannot take such a cache may raise whatever it likes.
    try:
        room = Room(cache, loaded.device, _refusing)
        fixed = _write(loaded, FixedStepper(loaded, rows, _STEPS, None, 0, room))
    except _Asked as error:
        return f"its steps ask the device for values: {error}"
    except Exception as error:
        return f"it refused fixed buffers: {type(error).__name__}: {error}"
    tolerance = TOLERANCE if loaded.dtype == torch.float32 else 8 * torch.finfo(loaded.dtype).eps
    for (state, tokens), (other, others) in zip(growing, fixed, strict=True):
        found = float((other - state).norm() / state.norm())
        # Written so that a value that is not a number fails.
        if not found <= tolerance:
            return f"fixed and growing caches differ by {found:.2g}, at most {tolerance:.2g} is accepted"
        if tokens != others:
            # Two tokens were as likely; what follows is of different replies.
            break
    return ""


def _write(loaded: LoadedModel, stepper: Stepper) -> list[tuple[Tensor, list[int]]]:
    """The last column of the stream that leaves the last block, and the tokens that were chosen, step by step."""
    states: list[Tensor] = []
    handle = visit_site(loaded, loaded.n_layers - 1, "resid_post", lambda stream: states.append(stream[:, -1].double()))
    try:
        with stepper:
            written = []
            for _ in range(_STEPS):
                tokens = stepper.step()
                written.append((states[-1][: len(tokens)], tokens))
            return written
    finally:
        handle.remove()


def _make_rows(loaded: LoadedModel, longest: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(21)
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    rows: list[list[int]] = torch.randint(0, vocabulary, (3, longest), generator=generator).tolist()
    return [rows[0], rows[1][: longest // 2], rows[2][:1]]


def _refusing(step: Callable[[], None], restore: Callable[[], None]) -> Callable[[], None]:
    # The first time, tables are made that stay.
    step()
    restore()

    def refuse() -> None:
        with RefuseAsking():  # type: ignore[no-untyped-call]
            step()

    return refuse
