"""Comparing: whether the weights of one folder are those of another in another form, tensor by tensor. Read in pieces, without torch.

What may differ is what the number formats make of the same weights: half of a last place of the narrower dtype, or what rounding to so many
bits in a block leaves. A difference smaller than that cannot be seen: weights that were changed by less pass for the same.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from steernode.comparison import DIFFERENT, DTYPE, EQUAL, QUANTISED, Comparison
from steernode.errors import ModelError
from steernode.files.basemodels import ModelFiles, inspect_model
from steernode.files.weights import StoredTensor, list_loaded, list_weights, read_tensors

Floats = npt.NDArray[np.float64]
# By safetensors' name: how it is read, the distance from 1 to the next number, and the smallest number above 0.
_FORMATS: dict[str, tuple[Any, float, float]] = {
    "F64": (np.dtype("<f8"), 2.0**-52, 2.0**-1074),
    "F32": (np.dtype("<f4"), 2.0**-23, 2.0**-149),
    "F16": (np.dtype("<f2"), 2.0**-10, 2.0**-24),
    "BF16": (np.dtype("<u2"), 2.0**-7, 2.0**-133),
}
# Of GGUF: as many bits are left of a weight, in blocks of 32, or of 256 for types in two levels.
_BITS = re.compile(r"(?:IQ|TQ|Q|MXFP|NVFP)(\d)")
_ONE_LEVEL = re.compile(r"Q\d_[01]|MXFP4")
_BLOCK, _SUPERBLOCK = 32, 256
# Rounding to a step is off by the step over the root of 12, in the root of the mean square. Types that are not even, or choose their step
# to be right where it matters, are off by up to twice that.
_UNEVEN = 2.0
_PIECE = _SUPERBLOCK * 16_384
_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True)
class TensorComparison:
    """`worst` is the largest difference over the largest weight, `mean` the root of the mean square of differences over that of weights."""

    name: str
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    worst: float
    mean: float
    verdict: str


def compare_folders(
    base: Path, other: Path, *, on_progress: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Comparison, list[TensorComparison]]:
    """What `other` is to `base`. Raises: ModelError FORM_NOT_COMPARED for weights that are packed, and the codes of `inspect_model`."""
    files = inspect_model(base), inspect_model(other)
    weights = _Weights(base, files[0]), _Weights(other, files[1])
    names = [set(each.tensors) for each in weights]
    only = sorted(names[0] ^ names[1])
    shared = sorted(names[0] & names[1])
    rounding = _Rounding(*files)
    found = []
    for done, name in enumerate(shared):
        on_progress(done, len(shared))
        found.append(_compare(name, weights[0], weights[1], rounding))
    on_progress(len(shared), len(shared))
    verdicts = {each.verdict for each in found}
    is_other = bool(only) or DIFFERENT in verdicts or not found
    verdict = DIFFERENT if is_other else next(each for each in (QUANTISED, DTYPE, EQUAL) if each in verdicts)
    wrong = only[0] if only else next((each.name for each in found if each.verdict == DIFFERENT), "")
    worst = max(found, key=lambda each: each.mean, default=None)
    comparison = Comparison(
        base=files[0].fingerprint,
        derived=files[1].fingerprint,
        verdict=verdict,
        tensors=len(found),
        by_verdict=dict(sorted(Counter(each.verdict for each in found).items())),
        worst=_decimal(max((each.worst for each in found), default=0.0)),
        mean=_decimal(worst.mean if worst else 0.0),
        worst_tensor=worst.name if worst else "",
        wrong=wrong[:200],
    )
    return comparison, found


class _Weights:
    def __init__(self, folder: Path, files: ModelFiles) -> None:
        self.folder = folder
        # What lies beside the weights that are loaded says nothing of them.
        loaded = list_loaded(folder, list_weights(folder))
        self.tensors = {tensor.name: tensor for tensor in read_tensors(folder, loaded)}
        packed = next((f"{tensor.name} as {tensor.dtype}" for tensor in self.tensors.values() if tensor.dtype not in _FORMATS), "")
        if what := files.quantization or packed:
            raise ModelError("FORM_NOT_COMPARED", f"weights in {folder} are packed ({what}); plain numbers alone are compared", str(folder))
        self._leave_out_tied_head()

    def _leave_out_tied_head(self) -> None:
        """Some write a head that is the embedding a second time, and some do not."""
        embedding = next((tensor for name, tensor in self.tensors.items() if name.endswith(_EMBEDDING)), None)
        head = self.tensors.get(_HEAD)
        if head is None or embedding is None or (head.shape, head.dtype) != (embedding.shape, embedding.dtype):
            return
        if all(np.array_equal(one, other) for one, other in zip(self.read(head), self.read(embedding), strict=True)):
            del self.tensors[_HEAD]

    def read(self, tensor: StoredTensor) -> Iterator[Floats]:
        """Its numbers in pieces, each of whole blocks."""
        dtype = _FORMATS[tensor.dtype][0]
        left = math.prod(tensor.shape)
        with (self.folder / tensor.file).open("rb") as stream:
            stream.seek(tensor.begin)
            while left:
                taken = min(left, _PIECE)
                raw = np.frombuffer(stream.read(taken * dtype.itemsize), dtype)
                values = (raw.astype(np.uint32) << 16).view(np.float32) if tensor.dtype == "BF16" else raw
                left -= taken
                yield values.astype(np.float64)


class _Rounding:
    """What may have happened to weights on the way: `step` is of the coarsest type of a GGUF file that one of them was made from, as a part
    of what a block spans, with the size of the block."""

    def __init__(self, *files: ModelFiles) -> None:
        types = {name for each in files if each.made_from is not None for name in each.made_from.tensor_types}
        self._dtypes = types & _FORMATS.keys()
        coarse = [(1 / (2 ** int(bits[1]) - 1), name) for name in types if (bits := _BITS.match(name))]
        steps = [(part, _BLOCK if _ONE_LEVEL.fullmatch(name) else _SUPERBLOCK) for part, name in coarse]
        self.step = max(steps, default=None)

    def last_place(self, *dtypes: str) -> tuple[float, float]:
        """The widest distance from 1 to the next number, and the smallest above 0, of these dtypes and those on the way."""
        formats = [_FORMATS[dtype] for dtype in (*dtypes, *self._dtypes)]
        return max(eps for _, eps, _ in formats), max(tiny for _, _, tiny in formats)


def _compare(name: str, base: _Weights, derived: _Weights, rounding: _Rounding) -> TensorComparison:
    one, other = base.tensors[name], derived.tensors[name]
    dtypes = one.dtype, other.dtype
    if one.shape != other.shape:
        return TensorComparison(name, other.shape, dtypes, math.inf, math.inf, DIFFERENT)
    (eps, tiny), step = rounding.last_place(*dtypes), rounding.step
    largest = worst = squares = off = allowed = 0.0
    is_equal = is_rounded = True
    for before, after in zip(base.read(one), derived.read(other), strict=True):
        difference = np.abs(before - after)
        if not np.isfinite(difference).all():
            return TensorComparison(name, other.shape, dtypes, math.inf, math.inf, DIFFERENT)
        is_equal &= not difference.any()
        is_rounded &= bool((difference <= eps / 2 * np.abs(before) * (1 + eps) + tiny / 2).all())
        largest, worst = max(largest, float(np.abs(before).max())), max(worst, float(difference.max()))
        squares, off = squares + float((before**2).sum()), off + float((difference**2).sum())
        if step is not None:
            allowed += _allow(before, *step)
    scale = math.sqrt(squares)
    mean = math.sqrt(off) / scale if scale else (0.0 if is_equal else math.inf)
    if is_equal:
        verdict = EQUAL
    elif is_rounded:
        verdict = DTYPE
    else:
        # A tensor whose length is not one of blocks is rounded in other ones, or not at all.
        is_within = step is not None and math.sqrt(off) <= _UNEVEN * math.sqrt(allowed) + eps * scale
        verdict = QUANTISED if is_within else DIFFERENT
    return TensorComparison(name, other.shape, dtypes, worst / largest if largest else worst, mean, verdict)


def _allow(values: Floats, part: float, block: int) -> float:
    """The sum of squares that rounding leaves: a twelfth of the step of each block, squared, for each of its weights."""
    padded = np.pad(values, (0, -len(values) % block)).reshape(-1, block)
    # Every type has 0 among its numbers, or spans no more than one that has.
    spans = padded.max(axis=1).clip(min=0) - padded.min(axis=1).clip(max=0)
    return float(((spans * part) ** 2).sum()) * block / 12


def _decimal(value: float) -> Decimal:
    return Decimal(f"{value:.9f}") if math.isfinite(value) else Decimal(999_999_999)
