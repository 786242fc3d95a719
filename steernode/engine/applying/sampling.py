"""Sampling: tokens drawn with noise that depends on the row's seed, the place in its reply and the token, and on nothing else.

Adding Gumbel noise to the logits and taking the largest draws from their softmax. The noise is a hash and no generator's state, so a row
draws the same in any batch, on any device and after it was started over; and two runs of one seed, with and without steering, differ
where the model's mind does and not where a stream of random numbers got out of step.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from steernode.errors import EngineError
from steernode.records.decoding import Sampling

# The finalizer of SplitMix64 (Steele, Lea and Flood 2014), as signed numbers, and its steps between streams.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
# As many as float32 tells apart below 1.
_BITS = 23


def check_sampling(sampling: Sequence[Sampling]) -> None:
    """Raises: EngineError SAMPLING naming what is out of its range."""
    for each in sampling:
        if problem := each.find_problem():
            raise EngineError("SAMPLING", f"{problem[0]} {problem[1]}, got {getattr(each, problem[0])}", problem[0])


class Sampler:
    """How each row of a batch chooses its next token."""

    def __init__(self, rows: Sequence[Sampling], device: torch.device) -> None:
        self._temperature = torch.tensor([float(row.temperature) for row in rows], device=device)[:, None]
        self._top_p = torch.tensor([float(row.top_p) for row in rows], device=device)[:, None]
        self._seeds = torch.tensor([_signed(row.seed) for row in rows], dtype=torch.int64, device=device)[:, None]
        self.cuts = any(row.top_p < 1 and not row.is_greedy for row in rows)

    def select_rows(self, rows: Tensor | slice) -> Sampler:
        """The same of these rows; of a slice, as views."""
        selected = copy(self)
        selected._temperature, selected._top_p, selected._seeds = self._temperature[rows], self._top_p[rows], self._seeds[rows]
        return selected

    def copy_from(self, other: Sampler) -> None:
        """Takes over the rows of another, whose tails are cut or not as here."""
        self._temperature.copy_(other._temperature)
        self._top_p.copy_(other._top_p)
        self._seeds.copy_(other._seeds)

    def choose(self, logits: Tensor, step: int | Tensor) -> Tensor:
        """The next token of each row (rows,), from its logits (rows, vocabulary) after `step` tokens of its reply."""
        is_drawn = self._temperature > 0
        scores = logits.float()
        drawn = scores / torch.where(is_drawn, self._temperature, 1.0)
        if self.cuts:
            drawn = _cut_tail(drawn, self._top_p)
        drawn = drawn + _gumbel(self._seeds, step, logits.shape[-1])
        return torch.where(is_drawn, drawn, scores).argmax(dim=-1)


def _cut_tail(logits: Tensor, top_p: Tensor) -> Tensor:
    """Without the tokens in front of which others already have a probability of `top_p`: the nucleus of arXiv:1904.09751."""
    ranked, tokens = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ranked.softmax(dim=-1).double()
    before = probabilities.cumsum(dim=-1) - probabilities
    is_behind = before >= top_p
    # Nothing is in front of the first, which therefore stays, also where a share is too small to be told from none.
    is_behind[..., 0] = False
    is_cut = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, tokens, is_behind)
    return logits.masked_fill(is_cut, -torch.inf)


def _gumbel(seeds: Tensor, step: int | Tensor, tokens: int) -> Tensor:
    """Gumbel noise (rows, tokens) of seeds (rows, 1)."""
    # A product of tensors wraps around as the one of numbers is made to.
    place = (step + 1) * _GOLDEN if isinstance(step, Tensor) else _signed((step + 1) * _GOLDEN)
    stream = _hash(_hash(seeds) + place)
    mixed = _hash(stream + torch.arange(1, tokens + 1, device=seeds.device)[None, :] * _GOLDEN)
    uniform: Tensor = ((mixed & (2**_BITS - 1)).float() + 0.5) / 2**_BITS
    return -(-uniform.log()).log()


def _hash(values: Tensor) -> Tensor:
    values = (values ^ _shifted(values, 30)) * _FIRST
    values = (values ^ _shifted(values, 27)) * _SECOND
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in, whatever the sign."""
    shifted: Tensor = (values >> bits) & (2 ** (64 - bits) - 1)
    return shifted


def _signed(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63
