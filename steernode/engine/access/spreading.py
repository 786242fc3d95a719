"""Spreading: one model over several GPUs. Blocks in order, each device filled to the same share; all that is not a block on the first one.

Inside a block everything is on the block's device; what goes from one device to the next is moved where it enters. Hooks of sites are
shown the stream on the first device (`visit_site`), so that who reads and steers knows of one device alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steernode.engine.access.architectures import find_module
from steernode.files.blocks import Architecture
from steernode.placement import Device, spread_blocks


def map_blocks(model_class: Any, config: Any, architecture: Architecture, dtype: torch.dtype, placed: Sequence[Device]) -> dict[str, str]:
    """Where `from_pretrained` is to put each part, by the sizes that the class makes of the config; nothing is read for it."""
    with torch.device("meta"):
        empty = model_class(config)
    path = ".".join(part for part in (architecture.decoder, architecture.blocks) if part)
    sizes = [_count_bytes(block, dtype) for block in find_module(empty, path).children()]
    others = _count_bytes(empty, dtype) - sum(sizes)
    positions = spread_blocks(sizes, others, 0, [device.free_bytes or 0 for device in placed])
    return {"": placed[0].name} | {f"{path}.{number}": placed[position].name for number, position in enumerate(positions)}


def _count_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    return sum(parameter.numel() for parameter in module.parameters()) * dtype.itemsize


def forget_dispatch(model: nn.Module) -> None:
    """Takes off what accelerate wraps around every `forward`: a copy of such a module would go on running the original."""
    from accelerate.hooks import remove_hook_from_module

    for module in model.modules():
        remove_hook_from_module(module)
        module.__dict__.pop("forward", None)


def join_blocks(blocks: Sequence[nn.Module]) -> None:
    """What a block is given comes to the block's device, and what the last one returns goes back to the first one's."""
    devices = [next(block.parameters()).device for block in blocks]
    if len(set(devices)) == 1:
        return
    for block, device in zip(blocks, devices, strict=True):

        def bring(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], device: torch.device = device) -> tuple[Any, Any]:
            return move(args, device), move(kwargs, device)

        block.register_forward_pre_hook(bring, with_kwargs=True)
    blocks[-1].register_forward_hook(lambda _module, _args, output: move(output, devices[0]))


def move(value: Any, device: torch.device) -> Any:
    """The same, with every tensor in it on the device. What is neither a tensor nor plain, such as a cache, is left as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(move(item, device) for item in value)
    if type(value) is dict:
        return {key: move(item, device) for key, item in value.items()}
    return value
