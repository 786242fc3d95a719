"""Teacher forcing: how likely given texts are under many steerings, and how far each steering moves the next-token distribution.

Nothing is generated, so that every token of a text is scored in one pass. What the steerings share is computed once: the keys and
values of each distinct prompt, and the unsteered residual stream at the layer where the lowest component of a steering acts. Only
the blocks above it run again, with one row per (steering, text).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from steernode.engine.access.batches import Progress, batch_by_length, halve_on_oom, in_lanes
from steernode.engine.access.costs import batch_costs
from steernode.engine.access.encoding import EncodedConversation, refuse_long
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import Call, pack_floats, unpack_floats
from steernode.engine.applying.components import Component, check_component, union_components
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.steer import steered
from steernode.engine.measuring.resume import PromptCache, Recording, is_resumable, read_prompts, record_blocks, resume_after
from steernode.errors import EngineError

# Passed tokens per forward pass, keys and values of prompts included, and elements of the logits it may return: on a core, and so many
# times that on a device of a larger scale.
MAX_PASS_TOKENS = 4096
MAX_PASS_LOGITS = 1 << 26

Floats = npt.NDArray[np.float64]
Variant = Sequence[Component]


@dataclass(frozen=True)
class ForcedText:
    """Token ids: what the model is given, and what it is then made to say. Neither is empty.

    `assistant` marks the prompt's tokens that the assistant wrote; only components of the scope `assistant` need it.
    """

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]
    assistant: tuple[bool, ...] = ()


@dataclass(frozen=True, eq=False)
class ForcedScores:
    """What each variant makes of each text.

    `log_likelihood` (variants, texts) is in nats, summed over the continuation. `kl` holds for each text (variants, tokens) the
    divergence KL(unsteered ‖ variant) in nats, at each position that predicts a token of the continuation.
    """

    log_likelihood: Floats
    kl: tuple[Floats, ...]


@torch.inference_mode()
def score_forced(
    loaded: LoadedModel, texts: Sequence[ForcedText], variants: Sequence[Variant], *, on_progress: Progress | None = None
) -> ForcedScores:
    """Scores every text under every variant, which is a whole set of components; () is the unsteered model.

    A variant whose coefficients are all zero is the unsteered model: it runs nothing, and its divergence is exactly 0.
    `on_progress(done, total)` counts texts under variants.

    Raises: EngineError FORCED_EMPTY, CONTEXT_LENGTH, SCOPE_NEEDS_MASK, NON_FINITE naming the text, OUT_OF_MEMORY, and the codes
    of `steered`.
    """
    _check(loaded, texts, variants)
    run = _Run(loaded, texts, variants)

    def score(batch: Sequence[int]) -> Floats:
        halve_on_oom(batch, partial(run.score_prompts, batch_prompts=len(batch)))
        return run.scores(batch)

    call = Call("texts", (texts, variants), list(run.batches()), run.count, run.count_tokens, pack_floats, unpack_floats)
    done = 0
    for batch, scores in loaded.work.run(call, score):
        run.take(batch, scores)
        done += run.count(batch)
        if on_progress is not None:
            on_progress(done, len(texts) * len(variants))
    run.refuse_non_finite()
    return ForcedScores(run.log_likelihood, tuple(run.kl))


def percentile_kl(kl: Sequence[Floats], variant: int) -> float:
    """The 95th percentile of one variant's divergence over all tokens of all texts, in nats; `kl` as `ForcedScores` holds it."""
    return float(np.percentile(np.concatenate([values[variant] for values in kl]), 95))


def _check(loaded: LoadedModel, texts: Sequence[ForcedText], variants: Sequence[Variant]) -> None:
    if not texts or not variants:
        raise EngineError("FORCED_EMPTY", f"there is nothing to score: {len(texts)} texts under {len(variants)} variants")
    scopes = set()
    for variant in variants:
        for component in variant:
            check_component(loaded, component)
            scopes.add(component.scope)
    for index, text in enumerate(texts):
        if not text.prompt or not text.continuation:
            raise EngineError("FORCED_EMPTY", f"text {index} has {len(text.prompt)} + {len(text.continuation)} tokens", f"text {index}")
        refuse_long(loaded, len(text.prompt) + len(text.continuation), f"text {index}")
        if "assistant" in scopes and len(text.assistant) != len(text.prompt):
            raise EngineError(
                "SCOPE_NEEDS_MASK",
                f"text {index} does not say which tokens the assistant wrote; scope 'assistant' needs it",
                f"text {index}",
            )


@dataclass(frozen=True, eq=False)
class _Group:
    """Variants that part from the unsteered model at one place.

    `entry` is the number of blocks that they need not run again; None means that they reach into the prompt.
    """

    entry: int | None
    variants: list[int] = field(default_factory=list)


class _Run:
    """One call of `score_forced`: its results so far."""

    def __init__(self, loaded: LoadedModel, texts: Sequence[ForcedText], variants: Sequence[Variant]) -> None:
        self._loaded, self._texts, self._variants = loaded, texts, variants
        self.log_likelihood: Floats = np.zeros((len(variants), len(texts)))
        self.kl: list[Floats] = [np.zeros((len(variants), len(text.continuation))) for text in texts]
        self._groups, self._unsteered = _group_variants(variants, is_resumable(loaded))
        by_prompt: dict[tuple[int, ...], list[int]] = {}
        for index, text in enumerate(texts):
            by_prompt.setdefault(text.prompt, []).append(index)
        self._by_prompt = list(by_prompt.values())

    def batches(self) -> Iterator[list[int]]:
        """Batches of distinct prompts, with all their texts. A prompt of one token has nothing to cache and is kept apart."""
        for is_short in (False, True):
            chosen = [index for index, texts in enumerate(self._by_prompt) if (len(self._texts[texts[0]].prompt) == 1) == is_short]
            lengths = [
                sum(len(self._texts[text].prompt) + len(self._texts[text].continuation) for text in self._by_prompt[i]) for i in chosen
            ]
            for batch in batch_by_length(lengths, MAX_PASS_TOKENS * batch_costs(self._loaded).scale):
                yield [chosen[index] for index in batch]

    def score_prompts(self, prompts: Sequence[int], batch_prompts: int) -> None:
        """All texts of these prompts under all variants. They may be a part of a batch of `batch_prompts` that did not fit in memory."""
        rows = self._rows(prompts)
        texts = [self._texts[row] for row in rows]
        source = torch.tensor([index for index, prompt in enumerate(prompts) for _ in self._by_prompt[prompt]])
        shared = _Shared(self._loaded, texts, source, [group.entry for group in self._groups if group.entry])
        own_log_likelihood, _ = shared.compare(shared.own)
        for variant in self._unsteered:
            self.log_likelihood[variant, rows] = own_log_likelihood
        jobs = []
        for group in self._groups:
            # The pass shrinks with the batch; more variants would fill what fewer texts leave free.
            size = min(shared.variants_per_pass, len(group.variants)) * len(prompts) // batch_prompts
            jobs += [(group.entry, chunk) for chunk in _chunks(group.variants, max(1, size))]

        def work(job: tuple[int | None, list[int]]) -> None:
            entry, variants = job
            # A single prompt cannot be halved, but its variants can.
            score = partial(self._score_variants, shared, entry, rows)
            halve_on_oom(variants, score) if len(prompts) == 1 else score(variants)

        for _ in in_lanes(work, jobs, self._loaded):
            pass

    def count(self, prompts: Sequence[int]) -> int:
        """Texts of these prompts, each once for every variant."""
        return len(self._rows(prompts)) * len(self._variants)

    def count_tokens(self, prompts: Sequence[int], _scores: Floats) -> int:
        return sum(self.kl[row].size for row in self._rows(prompts))

    def scores(self, prompts: Sequence[int]) -> Floats:
        """What was found for all texts of these prompts, in one row."""
        rows = self._rows(prompts)
        return np.concatenate([self.log_likelihood[:, rows].ravel(), *(self.kl[row].ravel() for row in rows)])

    def take(self, prompts: Sequence[int], scores: Floats) -> None:
        """The other way round."""
        rows = self._rows(prompts)
        sizes = [len(self._variants) * len(rows), *(self.kl[row].size for row in rows)]
        own, *kl = np.split(scores, np.cumsum(sizes[:-1]))
        self.log_likelihood[:, rows] = own.reshape(-1, len(rows))
        for row, values in zip(rows, kl, strict=True):
            self.kl[row][...] = values.reshape(self.kl[row].shape)

    def _rows(self, prompts: Sequence[int]) -> list[int]:
        return [text for prompt in prompts for text in self._by_prompt[prompt]]

    # Inference mode is a thread's own, and this runs in lanes.
    @torch.inference_mode()
    def _score_variants(self, shared: _Shared, entry: int | None, rows: Sequence[int], variants: Sequence[int]) -> None:
        scored = shared.run(entry, [self._variants[index] for index in variants])
        for variant, (log_likelihood, kl) in zip(variants, scored, strict=True):
            self.log_likelihood[variant, rows] = log_likelihood
            for row, values in zip(rows, kl, strict=True):
                self.kl[row][variant] = values[: len(self._texts[row].continuation)]

    def refuse_non_finite(self) -> None:
        for index, kl in enumerate(self.kl):
            if not (np.isfinite(kl).all() and np.isfinite(self.log_likelihood[:, index]).all()):
                raise EngineError(
                    "NON_FINITE",
                    f"text {index} has a likelihood that is not finite under some variant; steer by less or load the model in float32",
                    f"text {index}",
                )


class _Shared:
    """What the variants have in common on one batch of texts: the prompts' cache, the unsteered run, and the shape of a pass."""

    def __init__(self, loaded: LoadedModel, texts: Sequence[ForcedText], source: Tensor, entries: Sequence[int]) -> None:
        """`source` (texts,) is each text's place among the distinct prompts of the batch, which are numbered in order."""
        self._loaded, self._texts = loaded, texts
        prompts = [text.prompt for text, first in zip(texts, _first_of_run(source), strict=True) if first]
        self._tokens = max(len(text.continuation) for text in texts)
        self._columns = max(len(prompt) for prompt in prompts)
        self._source = source
        device = loaded.device
        padded = [[*text.continuation, *[0] * (self._tokens - len(text.continuation))] for text in texts]
        self._targets = torch.tensor(padded, device=device)
        self._in_text = torch.tensor([[column < len(text.continuation) for column in range(self._tokens)] for text in texts], device=device)
        last = torch.tensor([len(text.prompt) - 1 for text in texts], device=device)
        ahead = torch.arange(self._tokens, device=device)
        self._suffix = torch.cat([torch.tensor([[text.prompt[-1]] for text in texts], device=device), self._targets[:, :-1]], dim=1)
        # Columns after a text's end are computed and dropped; their positions must still be ones that the model has.
        self._positions = (last[:, None] + ahead).clamp(max=loaded.manifest.context_length - 1)
        self._cache: PromptCache | None = None
        if self._columns > 1 and is_resumable(loaded):
            self._cache = read_prompts(loaded, prompts)
        self._recording: Recording = (
            record_blocks(loaded, [entry - 1 for entry in sorted(set(entries))]) if entries else Recording(loaded, {})
        )
        rows = torch.arange(len(texts))
        self.own = (
            self._read(self._recording.twin, rows) if self._cache is not None or self._columns == 1 else self._read_whole(loaded, rows)
        )
        self.own = torch.log_softmax(self.own, dim=-1)
        self._own_probabilities = self.own.exp()
        width = self._columns + self._tokens
        scale = batch_costs(loaded).scale
        rows_per_pass = min(scale * MAX_PASS_TOKENS // width, scale * MAX_PASS_LOGITS // (self._tokens * self.own.shape[-1]))
        self.variants_per_pass = max(1, rows_per_pass // len(texts))

    def run(self, entry: int | None, variants: Sequence[Variant]) -> Iterator[tuple[Floats, Floats]]:
        """One pass with the texts once per variant; yields, variant by variant, what `compare` says."""
        rows = torch.arange(len(self._texts)).repeat(len(variants))
        components, coefficients = union_components(variants)
        layout = self._layout(rows)
        loaded = self._loaded
        if entry:
            loaded = resume_after(loaded, entry - 1, self._recording.returned(entry - 1, rows))
        with steered(loaded, components, layout, row_coefficients=coefficients.repeat_interleave(len(self._texts), dim=0)):
            logits = self._read_whole(loaded, rows) if entry is None else self._read(loaded, rows)
        for start in range(0, len(rows), len(self._texts)):
            yield self.compare(torch.log_softmax(logits[start : start + len(self._texts)], dim=-1))

    def compare(self, log_probabilities: Tensor) -> tuple[Floats, Floats]:
        """Log-likelihood of the texts (texts,) and divergence from the unsteered run (texts, tokens), from (texts, tokens, vocabulary)."""
        chosen = log_probabilities.gather(2, self._targets[:, :, None])[:, :, 0].double()
        log_likelihood = chosen.masked_fill(~self._in_text, 0.0).sum(dim=1)
        # What is below zero is rounding, since a divergence is not.
        kl = ((self.own - log_probabilities) * self._own_probabilities).sum(dim=-1).double().clamp(min=0.0)
        return log_likelihood.cpu().numpy(), kl.cpu().numpy()

    def _read(self, loaded: LoadedModel, rows: Tensor) -> Tensor:
        """Logits (rows, tokens, vocabulary) at the last prompt token and after, over the prompts' cache."""
        at = rows.to(loaded.device)
        mask, cache = None, None
        if self._cache is not None:
            cache = self._cache.lend(self._source[rows])
            if not bool(self._cache.real.all()):
                prompt = self._cache.real[self._source[rows].to(loaded.device)]
                mask = torch.cat([prompt, prompt.new_ones(len(rows), self._tokens)], dim=1).long()
        output = loaded.model(
            input_ids=self._suffix[at],
            attention_mask=mask,
            position_ids=self._positions[at],
            past_key_values=cache,
            use_cache=cache is not None,
        )
        logits: Tensor = output.logits.float()
        return logits

    def _read_whole(self, loaded: LoadedModel, rows: Tensor) -> Tensor:
        """The same from one pass over prompt and continuation without a cache."""
        device = loaded.device
        prompts = torch.tensor([[*[0] * (self._columns - len(text.prompt)), *text.prompt] for text in self._texts], device=device)
        offsets = torch.tensor([self._columns - len(text.prompt) for text in self._texts], device=device)
        token_ids = torch.cat([prompts, self._targets[:, :-1]], dim=1)
        columns = torch.arange(token_ids.shape[1], device=device)
        at = rows.to(device)
        output = loaded.model(
            input_ids=token_ids[at],
            attention_mask=None if not bool(offsets.any()) else (columns >= offsets[:, None]).long()[at],
            position_ids=(columns - offsets[:, None]).clamp(min=0, max=loaded.manifest.context_length - 1)[at],
            use_cache=False,
            logits_to_keep=columns[self._columns - 1 :],
        )
        logits: Tensor = output.logits.float()
        return logits

    def _layout(self, rows: Tensor) -> PromptLayout:
        unmarked = [text.assistant or (False,) * len(text.prompt) for text in self._texts]
        prompts = [EncodedConversation(text.prompt, mask) for text, mask in zip(self._texts, unmarked, strict=True)]
        return PromptLayout.of(prompts).select_rows(rows)


def _group_variants(variants: Sequence[Variant], can_resume: bool) -> tuple[list[_Group], list[int]]:
    """The variants that steer, by where they part from the unsteered model, and those that do not."""
    groups: dict[int | None, _Group] = {}
    unsteered = []
    for index, variant in enumerate(variants):
        acting = [component for component in variant if component.coefficient != 0]
        if not acting:
            unsteered.append(index)
            continue
        entry = min(map(_entry, acting)) if can_resume and all(component.scope == "generated" for component in acting) else None
        groups.setdefault(entry, _Group(entry)).variants.append(index)
    return list(groups.values()), unsteered


def _entry(component: Component) -> int:
    """How many blocks from below give the same with and without this component: all up to its layer if it acts on their output."""
    return component.layer + 1 if component.site == "resid_post" else component.layer


def _first_of_run(source: Tensor) -> list[bool]:
    return [index == 0 or bool(source[index] != source[index - 1]) for index in range(len(source))]


def _chunks(values: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
