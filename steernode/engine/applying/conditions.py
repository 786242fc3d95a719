"""Probe conditions: whether a component fires, decided from the unsteered activations of the prompt, each row for itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from steernode.engine.access.encoding import EncodedConversation
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.probes import Probe, read_prompts


def decide(loaded: LoadedModel, probes: Sequence[Probe], prompts: Sequence[EncodedConversation]) -> Tensor:
    """Which probes fire on which prompts: (prompts, probes) booleans. The model must not be steered meanwhile.

    Raises: EngineError NON_FINITE naming the prompt by its place.
    """
    fires = torch.zeros(len(prompts), len(probes), dtype=torch.bool)
    places = sorted(range(len(probes)), key=lambda index: _place_of(probes[index]))
    for (site, read_position, layer), group in groupby(places, key=lambda index: _place_of(probes[index])):
        states = torch.from_numpy(read_prompts(loaded, prompts, layer, site, read_position))
        for index in group:
            fires[:, index] = probes[index].score(states) >= probes[index].threshold
    return fires


def gate_rows(row_coefficients: Tensor, holds: Tensor) -> Tensor:
    """Coefficients (rows, components) with zero wherever the component's condition does not hold in that row."""
    return torch.where(holds, row_coefficients, torch.zeros_like(row_coefficients))


def _place_of(probe: Probe) -> tuple[str, str, int]:
    return probe.site, probe.read_position, probe.layer
