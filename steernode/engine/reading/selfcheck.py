"""The self-check of packing: a model is packed only after packed and plain passes agreed on random prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steernode.engine.access.learned import Learned
from steernode.engine.access.models import LoadedModel
from steernode.engine.reading.packing import PackedBlock, PassCost, pack_prompts
from steernode.engine.reading.passes import Columns, Read, read_packed, read_plain

# Relative, in the norm of all that is read, in float32; a coarser dtype rounds more.
TOLERANCE = 1e-4
# Beyond this, prompts longer than a sliding window would make the check as dear as what it saves.
_MAX_CHECKED_COLUMNS = 128
# Together, as if tokens were for ever dearer than attention.
_PACK_ALL = PassCost(token=1e12, seen=1.0, masked=1.0)


@dataclass(frozen=True)
class Packability:
    """Whether a loaded model may be packed. `reason` says why not; `max_columns` is the longest prompt it was shown to hold for."""

    is_packable: bool
    reason: str = ""
    window: int | None = None
    max_columns: int | None = None


_known: Learned[Packability] = Learned()


def check_packable(loaded: LoadedModel) -> Packability:
    """Compares packed with plain passes on a few random prompts, once per loaded model."""
    return _known.of(loaded, lambda: _try_packing(loaded))


def _try_packing(loaded: LoadedModel) -> Packability:
    config: Any = loaded.decoder.config
    kinds = set(getattr(config, "layer_types", None) or ())
    strange = sorted(kinds - {"full_attention", "sliding_attention"})
    if strange:
        return Packability(False, f"it has layers of {', '.join(strange)}")
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ("sdpa", "eager"):
        return Packability(False, f"its attention is {attention!r}, which takes no mask of our own")
    slides = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None) is not None)
    return _compare_packed_with_plain(loaded, int(config.sliding_window) if slides else None)


def _compare_packed_with_plain(loaded: LoadedModel, window: int | None) -> Packability:
    """Both ways of packing, in one block and below a root, against each prompt alone; and a wrong mask, which must show."""
    longest = min(24 if window is None else max(24, window + 8), loaded.manifest.context_length)
    reaches_window = window is not None and window < longest <= _MAX_CHECKED_COLUMNS
    if window is not None and not reaches_window:
        longest = 24
    prompts = _make_prompts(loaded, longest)
    read = Read("resid_post", (loaded.n_layers - 1,))
    plain = torch.cat([read_plain(loaded, [prompt], [Columns(0, (len(prompt) - 1,))], read) for prompt in prompts])
    tolerance = TOLERANCE if loaded.dtype == torch.float32 else 8 * torch.finfo(loaded.dtype).eps
    try:
        whole = _read_below(loaded, prompts, 0, read, window)
        rooted = _read_below(loaded, prompts, longest // 2, read, window)
        blind = _read_below(loaded, prompts, 0, read, window, is_wrong=True)
    # A model that cannot take such a mask may raise whatever it likes; it is then read plain.
    except Exception as error:
        return Packability(False, f"it refused a packed pass: {type(error).__name__}: {error}")
    found = max(_distance(whole, plain), _distance(rooted, plain))
    # Written so that a value that is not a number fails.
    if not found <= tolerance:
        return Packability(False, f"packed and plain passes differ by {found:.2g}, at most {tolerance:.2g} is accepted")
    if not _distance(blind, plain) > 10 * found:
        return Packability(False, "a wrong mask made no difference, so its masks cannot be relied on")
    return Packability(True, window=window, max_columns=window if window is not None and not reaches_window else None)


def _make_prompts(loaded: LoadedModel, longest: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(20)
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    tokens = torch.randint(0, vocabulary, (4, longest), generator=generator).tolist()
    trunk, branch, twig, other = (tuple(row) for row in tokens)
    half = longest // 2
    return [trunk, trunk[: half + 2] + branch[: longest - half - 3], trunk[: half + 2] + twig[:1], trunk[: half + 1] + other[:3]]


def _read_below(
    loaded: LoadedModel, prompts: list[tuple[int, ...]], root: int, read: Read, window: int | None, *, is_wrong: bool = False
) -> Tensor:
    suffixes = [prompt[root:] for prompt in prompts]
    [group] = pack_prompts(suffixes, [0] * len(suffixes), _PACK_ALL)
    blocks = [_Blind.of(block) for block in group.blocks] if is_wrong else list(group.blocks)
    owners = [row for block in blocks for row in block.rows]
    wanted = [Columns(place, (int(path[-1]),)) for place, block in enumerate(blocks) for path in block.paths]
    reads = read_packed(loaded, prompts[0][:root], blocks, wanted, read, window)
    return reads[torch.tensor(owners).argsort().to(reads.device)]


class _Blind(PackedBlock):
    """A block whose nodes see every node before them, ancestor or not."""

    @classmethod
    def of(cls, block: PackedBlock) -> _Blind:
        return cls(block.token_ids, block.rows, block.paths)

    def visible(self) -> NDArray[np.bool_]:
        return np.tri(len(self.token_ids), dtype=np.bool_)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).double().norm() / other.double().norm())
