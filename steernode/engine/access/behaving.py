"""Behaving: what a loaded model says after eight fixed prompts, measured when it is registered and proved when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steernode.behaviour import FIXED, LIKELIEST, PROMPTS, Behaviour, PromptBehaviour, hash_tokens
from steernode.engine.access.encoding import encode_prompts, pad_right
from steernode.errors import ModelError
from steernode.files.conversations import Message
from steernode.words import CLOCK_ARGUMENT

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel

_DIGITS = Decimal("0.000001")
# What a template that writes the date sees, so that the prompts are the same every day.
_CLOCK = "2000-01-01"


@dataclass(frozen=True, slots=True)
class Proof:
    """How far a loaded model is off at most, in nats, and how far it may be in its dtype."""

    dtype: str
    off: Decimal
    tolerance: Decimal


def measure_behaviour(loaded: LoadedModel, others: Iterable[LoadedModel] = ()) -> Behaviour:
    """What the model says, and by how much rounding moves it: in its own dtype, and in those of `others`, the same files in other dtypes.

    Moved is the largest difference of one log-probability between a batch of all prompts in its dtype and each prompt alone, or all in
    another order, in each dtype; and never less than the last bit of the largest.
    """
    rows = _encode(loaded)
    reference = _read(loaded, rows)
    chosen = [_choose(values) for values in reference]
    picked = [values[tokens] for values, tokens in zip(reference, chosen, strict=True)]
    prompts = tuple(
        PromptBehaviour(
            hash_tokens(row),
            tuple((int(token), _decimal(float(value))) for token, value in zip(tokens, values, strict=True)),
        )
        for row, tokens, values in zip(rows, chosen, picked, strict=True)
    )
    moved = {}
    for model in chain((loaded,), others):
        found = [[values[tokens] for values, tokens in zip(layout, chosen, strict=True)] for layout in _layouts(model, rows)]
        farthest = max(float((one - other).abs().max()) for layout in found for one, other in zip(layout, picked, strict=True))
        last_bit = torch.finfo(model.dtype).eps * max(float(values.abs().max()) for values in picked)
        moved[_name(model)] = _decimal(max(farthest, last_bit)) + _DIGITS
    return Behaviour(_name(loaded), prompts, moved)


def prove_behaviour(loaded: LoadedModel, behaviour: Behaviour) -> Proof | None:
    """Eight short prompts in one batch. None if nobody measured the model in this dtype, so that nothing is proved.

    Raises: ModelError MODEL_BEHAVES_OTHERWISE, whose item is the prompt that differs most.
    """
    dtype = _name(loaded)
    tolerance = behaviour.tolerance(dtype)
    rows = _encode(loaded)
    for prompt, row, known in zip(PROMPTS, rows, behaviour.prompts, strict=True):
        if hash_tokens(row) != known.tokens:
            raise _otherwise(loaded, prompt, "is written as other tokens: the chat template, its arguments or the tokenizer differ")
    if tolerance is None:
        return None
    worst, where = Decimal(0), PROMPTS[0]
    for prompt, values, known in zip(PROMPTS, _read(loaded, rows), behaviour.prompts, strict=True):
        tokens = [token for token, _ in known.log_probabilities]
        if max(tokens) >= len(values):
            raise _otherwise(loaded, prompt, f"is answered from a vocabulary of {len(values)} tokens, too few")
        for (_, wanted), found in zip(known.log_probabilities, values[tokens].tolist(), strict=True):
            off = abs(_decimal(found) - wanted) if found == found and abs(found) != float("inf") else Decimal("Infinity")
            if off > worst:
                worst, where = off, prompt
    if worst > tolerance:
        raise _otherwise(
            loaded, where, f"is answered otherwise: a log-probability is {worst} nats off, at most {tolerance} is rounding in {dtype}"
        )
    return Proof(dtype, worst, tolerance)


def _otherwise(loaded: LoadedModel, prompt: str, what: str) -> ModelError:
    return ModelError(
        "MODEL_BEHAVES_OTHERWISE",
        f"the model that was loaded ({loaded.fingerprint[:12]}) does not behave as it did when it was registered: {prompt!r} {what}",
        prompt,
    )


def _encode(loaded: LoadedModel) -> list[tuple[int, ...]]:
    loaded = replace(loaded, template_arguments={CLOCK_ARGUMENT: _CLOCK})
    return [encoded.token_ids for encoded in encode_prompts(loaded, [[Message("user", prompt)] for prompt in PROMPTS])]


def _layouts(loaded: LoadedModel, rows: Sequence[tuple[int, ...]]) -> list[list[Tensor]]:
    """The same prompts in several shapes and places of a batch, each in the order of the prompts."""
    backwards = _read(loaded, rows[::-1])[::-1]
    return [_read(loaded, rows), backwards, [_read(loaded, [row])[0] for row in rows]]


@torch.inference_mode()
def _read(loaded: LoadedModel, rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Of each row, the log-probabilities of all tokens after its last one, in float32 on the CPU."""
    lengths = [len(row) for row in rows]
    columns = sorted(set(lengths))
    kept = torch.tensor([length - 1 for length in columns], device=loaded.device)
    logits = loaded.model(input_ids=pad_right(rows, loaded), use_cache=False, logits_to_keep=kept).logits.float().cpu()
    return [torch.log_softmax(logits[row, columns.index(length)], dim=0) for row, length in enumerate(lengths)]


def _choose(values: Tensor) -> Tensor:
    """The likeliest tokens, and some that are spread over the vocabulary, without those that are impossible."""
    likeliest = values.topk(min(LIKELIEST, len(values))).indices.tolist()
    spread = [(number + 1) * len(values) // (FIXED + 1) for number in range(FIXED)]
    return torch.tensor([token for token in dict.fromkeys([*likeliest, *spread]) if bool(values[token].isfinite())])


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(_DIGITS)


def _name(loaded: LoadedModel) -> str:
    return str(loaded.dtype).removeprefix("torch.")
