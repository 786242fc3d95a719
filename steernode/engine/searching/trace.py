"""Causal tracing: at which layer and which token a behaviour is decided, by patching activations of a clean run into a corrupt one.

    recovered = (patched - corrupt) / (clean - corrupt)

of a metric, here the log-likelihood of the clean run's answer less that of the corrupt run's. 0 is a patch that does nothing, 1 one
that brings the clean behaviour back. Source: arXiv:2202.05262; arXiv:2309.16042 for the choice of metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steernode.canonical import parse_layer
from steernode.engine.access.batches import Progress
from steernode.engine.access.encoding import EncodedConversation, encode_prompts, refuse_long
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import Visit, visit_site
from steernode.engine.applying.generate import generate
from steernode.engine.measuring.forced import MAX_PASS_LOGITS, MAX_PASS_TOKENS, Floats
from steernode.engine.measuring.resume import is_resumable, record_blocks, resume_after
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair

GROUPS = ("system", "user", "assistant", "template", "last")
# Nats of log-odds below which two runs are the same for any purpose, however quiet the arithmetic is.
SMALLEST_EFFECT = 1e-3
_MAX_NEW_TOKENS = 8


@dataclass(frozen=True)
class TracePair:
    """Token ids of a clean and a corrupt prompt and of what the model says after each; `groups` names each corrupt prompt token's."""

    id: str
    clean: tuple[int, ...]
    corrupt: tuple[int, ...]
    clean_answer: tuple[int, ...]
    corrupt_answer: tuple[int, ...]
    groups: tuple[str, ...]

    def aligned(self) -> tuple[tuple[int, int], ...]:
        """(corrupt position, clean position) that stand for each other: the common beginning, the common end, and the middle
        between them if it has the same length on both sides; a middle of another length is skipped."""
        shorter = min(len(self.clean), len(self.corrupt))
        start = next((index for index in range(shorter) if self.clean[index] != self.corrupt[index]), shorter)
        end = next((index for index in range(shorter - start) if self.clean[-1 - index] != self.corrupt[-1 - index]), shorter - start)
        if len(self.clean) == len(self.corrupt):
            return tuple((index, index) for index in range(shorter))
        ahead = [(index, index) for index in range(start)]
        behind = [(len(self.corrupt) - index, len(self.clean) - index) for index in range(end, 0, -1)]
        return tuple(ahead + behind)


@dataclass(frozen=True, eq=False)
class PairTrace:
    """One pair's metric in nats, clean and corrupt, and what was recovered: by layer and group, and by layer and position.

    `groups` (layers, len(GROUPS)) patches all aligned positions of a group at once; NaN where a group has none. `positions`
    (layers, corrupt prompt tokens) patches one at a time, NaN where a position is not aligned; None if that was not asked for.
    `noise_floor` is how far the corrupt metric moves between a pass of its own and a batch, in nats. A patch that changes nothing may
    move it a little more, because its states come from a pass of another shape.
    """

    pair: TracePair
    clean: float
    corrupt: float
    noise_floor: float
    groups: Floats
    positions: Floats | None


def trace_pairs(loaded: LoadedModel, pairs: Sequence[ContrastPair], *, max_new_tokens: int = _MAX_NEW_TOKENS) -> tuple[TracePair, ...]:
    """The two sides of contrast pairs as clean and corrupt, each with the beginning of the model's own greedy reply to it.

    Pairs to which the model gives one reply are left out, because there is nothing to recover.

    Raises: EngineError TRACE_EQUAL naming a pair whose sides are the same prompt, TRACE_NO_EFFECT if no pair is left,
    TRACE_TEMPLATE, and the codes of encoding and `generate`.
    """
    sides = [side for pair in pairs for side in (pair.positive, pair.negative)]
    encoded = encode_prompts(loaded, sides, names=[pair.id for pair in pairs for _ in range(2)], with_text=True)
    for pair, clean, corrupt in zip(pairs, encoded[0::2], encoded[1::2], strict=True):
        _refuse_equal(pair.id, clean.token_ids, corrupt.token_ids)
    replies = [reply.scored_token_ids for reply in generate(loaded, sides, max_new_tokens=max_new_tokens)]
    found = []
    for index, pair in enumerate(pairs):
        clean, corrupt, answers = encoded[2 * index], encoded[2 * index + 1], (replies[2 * index], replies[2 * index + 1])
        if answers[0] != answers[1]:
            groups = _name_groups(pair, corrupt)
            found.append(TracePair(pair.id, clean.token_ids, corrupt.token_ids, *answers, groups))
    if not found:
        raise EngineError(
            "TRACE_NO_EFFECT", f"the model gives both sides of all {len(pairs)} pairs the same reply; there is nothing to trace"
        )
    return tuple(found)


def trace_pair(
    loaded: LoadedModel,
    pair: TracePair,
    *,
    layers: Sequence[int] | None = None,
    with_positions: bool = True,
    weight: float = 1.0,
    on_progress: Progress | None = None,
) -> PairTrace:
    """Patches the stream entering each layer, h' = (1 - weight) · h + weight · s, where s is the clean run's; at weight 1 a copy.

    Rows are patches, and only the blocks above the patched layer run. `on_progress(done, total)` counts layers.

    Raises: EngineError TRACE_EQUAL, TRACE_NO_EFFECT if clean and corrupt differ by less than the noise, CONTEXT_LENGTH naming
    the pair, RESUME_UNSUPPORTED; LayerError.
    """
    patching = Patching(loaded, pair)
    wanted = range(loaded.n_layers) if layers is None else layers
    aligned = {position for position, _ in pair.aligned()}
    of_group = [[position for position in sorted(aligned) if pair.groups[position] == group] for group in GROUPS]
    sets = [each for each in of_group if each]
    if with_positions:
        sets += [[position] for position in sorted(aligned)]
    groups = np.full((len(wanted), len(GROUPS)), np.nan)
    positions = np.full((len(wanted), len(pair.corrupt)), np.nan)
    for row, layer in enumerate(wanted):
        recovered = iter(patching.recover(layer, sets, weight))
        groups[row] = [next(recovered) if each else np.nan for each in of_group]
        for position in sorted(aligned) if with_positions else ():
            positions[row, position] = next(recovered)
        if on_progress is not None:
            on_progress(row + 1, len(wanted))
    return PairTrace(pair, patching.clean, patching.corrupt, patching.noise_floor, groups, positions if with_positions else None)


class Patching:
    """The runs that patches are made between: the clean one's streams, the corrupt one's, and the metric of both."""

    @torch.inference_mode()
    def __init__(self, loaded: LoadedModel, pair: TracePair) -> None:
        _refuse_equal(pair.id, pair.clean, pair.corrupt)
        longest = max(len(pair.clean), len(pair.corrupt)) + max(len(pair.clean_answer), len(pair.corrupt_answer))
        refuse_long(loaded, longest, f"pair {pair.id!r}")
        if not is_resumable(loaded):
            raise EngineError("RESUME_UNSUPPORTED", f"{type(loaded.model).__name__} cannot be run from the middle, which tracing needs")
        self._loaded, self._pair = loaded, pair
        self._aligned = dict(pair.aligned())
        self._token_ids = self._rows(pair.corrupt)
        self._recording = record_blocks(loaded, range(loaded.n_layers - 1))
        self._clean_streams = _read_entering(loaded, torch.tensor([pair.clean], device=loaded.device))
        self.clean = float(self._score(loaded, self._rows(pair.clean), len(pair.clean))[0])
        self.corrupt = float(self._score(self._recording.twin, self._token_ids, len(pair.corrupt))[0])
        self.noise_floor = abs(float(self._score(loaded, self._token_ids.repeat(4, 1), len(pair.corrupt))[-1]) - self.corrupt)
        if abs(self.clean - self.corrupt) <= max(SMALLEST_EFFECT, self.noise_floor):
            raise EngineError(
                "TRACE_NO_EFFECT",
                f"pair {pair.id!r}: the clean run scores {self.clean:.6g} nats and the corrupt one {self.corrupt:.6g}; that is noise",
                pair.id,
            )

    def recover(self, layer: int, sets: Sequence[Sequence[int]], weight: float = 1.0) -> Floats:
        """What patching each set of corrupt positions at the stream entering `layer` recovers; (sets,)."""
        scored = self.measure(layer, [(), *sets], weight)
        # Against the unpatched row of the same batch, so that what the shape of the batch does to rounding mostly cancels.
        recovered: Floats = (scored[1:] - scored[0]) / (self.clean - scored[0])
        return recovered

    @torch.inference_mode()
    def measure(self, layer: int, sets: Sequence[Sequence[int]], weight: float = 1.0) -> Floats:
        """The metric in nats after patching each set of corrupt positions; the empty set is the corrupt run. (sets,).

        Raises: EngineError TRACE_ALIGNMENT for a position with no clean one beside it; LayerError.
        """
        parse_layer(layer, self._loaded.n_layers)
        strangers = [position for each in sets for position in each if position not in self._aligned]
        if strangers:
            raise EngineError(
                "TRACE_ALIGNMENT", f"position {strangers[0]} of the corrupt prompt has no clean counterpart", str(strangers[0])
            )
        scores: list[Floats] = []
        for chunk in self._chunks(sets):
            rows = torch.tensor([0, 1]).repeat(len(chunk))
            loaded = self._loaded
            if layer > 0:
                loaded = resume_after(loaded, layer - 1, self._recording.returned(layer - 1, rows))
            with ExitStack() as hooks:
                handle = visit_site(loaded, layer, "resid_pre", self._patch(layer, chunk, weight))
                hooks.callback(handle.remove)
                scores.append(self._score(loaded, self._token_ids[rows.to(self._loaded.device)], len(self._pair.corrupt)))
        return np.concatenate(scores)

    def _patch(self, layer: int, sets: Sequence[Sequence[int]], weight: float) -> Visit:
        rows = torch.tensor([2 * index + answer for index, each in enumerate(sets) for position in each for answer in (0, 1)])
        positions = torch.tensor([position for each in sets for position in each for _ in range(2)])
        source = torch.tensor([self._aligned[int(position)] for position in positions], dtype=torch.long)

        def visit(stream: Tensor) -> None:
            clean = self._clean_streams[layer][0, source.to(stream.device)]
            if weight != 1.0:
                clean = (1 - weight) * stream[rows, positions] + weight * clean
            stream[rows, positions] = clean

        return visit if len(rows) else lambda _stream: None

    def _chunks(self, sets: Sequence[Sequence[int]]) -> Iterator[Sequence[Sequence[int]]]:
        columns = self._token_ids.shape[1]
        vocabulary = self._loaded.model.config.get_text_config().vocab_size
        answers = columns - len(self._pair.corrupt) + 1
        size = max(2, min(MAX_PASS_TOKENS // columns, MAX_PASS_LOGITS // (answers * vocabulary)) // 2)
        for start in range(0, len(sets), size):
            yield sets[start : start + size]

    def _rows(self, prompt: tuple[int, ...]) -> Tensor:
        """The prompt with either answer, (2, columns); the last token of an answer predicts nothing and stays out."""
        answers = (self._pair.clean_answer, self._pair.corrupt_answer)
        longest = max(map(len, answers))
        return torch.tensor([[*prompt, *answer, *[0] * (longest - len(answer))][:-1] for answer in answers], device=self._loaded.device)

    def _score(self, loaded: LoadedModel, token_ids: Tensor, prompt_tokens: int) -> Floats:
        """log p(clean answer) - log p(corrupt answer), from rows that alternate between the two answers; (rows / 2,)."""
        columns = torch.arange(prompt_tokens - 1, token_ids.shape[1], device=token_ids.device)
        logits = loaded.model(input_ids=token_ids, use_cache=False, logits_to_keep=columns).logits.float()
        scores = torch.zeros(len(token_ids), dtype=torch.float64)
        for side, answer in enumerate((self._pair.clean_answer, self._pair.corrupt_answer)):
            own = torch.log_softmax(logits[side::2, : len(answer)], dim=-1)
            chosen = torch.tensor(answer, device=own.device)[None, :, None].expand(len(own), -1, 1)
            scores[side::2] = own.gather(2, chosen)[:, :, 0].double().sum(dim=1).cpu()
        metric: Floats = (scores[0::2] - scores[1::2]).numpy()
        return metric


def _read_entering(loaded: LoadedModel, token_ids: Tensor) -> list[Tensor]:
    """The stream entering every layer, (rows, columns, d_model) each."""
    streams: list[Tensor] = []
    with ExitStack() as hooks:
        for layer in range(loaded.n_layers):
            handle = visit_site(loaded, layer, "resid_pre", lambda stream: streams.append(stream.clone()))
            hooks.callback(handle.remove)
        loaded.decoder(input_ids=token_ids, use_cache=False)
    return streams


def _refuse_equal(name: str, clean: Sequence[int], corrupt: Sequence[int]) -> None:
    if tuple(clean) == tuple(corrupt):
        raise EngineError("TRACE_EQUAL", f"pair {name!r}: the clean and the corrupt conversation are the same prompt", name)


def _name_groups(pair: ContrastPair, encoded: EncodedConversation) -> tuple[str, ...]:
    """Whose words each token is: those of a message's role, or the template's; the last prompt token is a group of its own."""
    groups = ["template"] * len(encoded.token_ids)
    start = 0
    for message in pair.negative:
        text = message.content.strip()
        found = encoded.text.find(text, start)
        if found < 0:
            raise EngineError("TRACE_TEMPLATE", f"pair {pair.id!r}: the chat template rewrites what the {message.role} says", pair.id)
        for index, (first, end) in enumerate(encoded.offsets):
            if first < found + len(text) and end > found:
                groups[index] = message.role
        start = found + len(text)
    groups[-1] = "last"
    return tuple(groups)
