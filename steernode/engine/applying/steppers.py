"""Which way a model's batches are decoded: in fixed buffers on a GPU, where launching a step costs more than computing it, if the model
was shown to take them; over a growing cache everywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from steernode.engine.access.batches import release_on_oom
from steernode.engine.access.cache import new_fixed_cache
from steernode.engine.access.learned import Learned
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.fixed import FixedStepper, Room
from steernode.engine.applying.fixedcheck import refuse_fixed
from steernode.engine.applying.graphs import capture
from steernode.engine.applying.stepping import Stepper
from steernode.records.decoding import Sampling

_known: Learned[Room | None] = Learned()


@contextmanager
def open_stepper(
    loaded: LoadedModel, rows: Sequence[Sequence[int]], steps: int, sampling: Sequence[Sampling] | None, before: int
) -> Iterator[Stepper]:
    """The arguments are those of `Stepper`. Whoever comes second to a room waits, since another way would have other last bits."""
    room = find_room(loaded)
    if room is None:
        with Stepper(loaded, rows, steps, sampling, before) as stepper:
            yield stepper
    else:
        with room.lock, FixedStepper(loaded, rows, steps, sampling, before, room) as stepper:
            yield stepper


def find_room(loaded: LoadedModel) -> Room | None:
    """None where the cache grows."""
    if loaded.device.type != "cuda":
        return None
    return _known.of(loaded, lambda: None if refuse_fixed(loaded) else _make_room(loaded))


def _make_room(loaded: LoadedModel) -> Room | None:
    cache = new_fixed_cache(loaded.model, loaded.device)
    if cache is None:
        return None
    room = Room(cache, loaded.device, partial(capture, device=loaded.device, pool=torch.cuda.graph_pool_handle()))
    release_on_oom(room)
    return room
