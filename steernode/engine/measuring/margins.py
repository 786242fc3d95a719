"""Contrast margins: how much more likely the model finds what a contrast set wants than what it does not, from a neutral prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from steernode.engine.access.batches import Progress, count_lanes
from steernode.engine.access.encoding import encode_dialogues, encode_prompts, encode_unanswered
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.generate import MAX_BATCH_ROWS, Reply, generate
from steernode.engine.measuring.forced import Floats, ForcedText, Variant, score_forced
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message, prompt_key

MAX_NEW_TOKENS = 32
_TAG = re.compile(r"[<\[]\|?(/?)([A-Za-z]\w*)\|?[>\]]")


@dataclass(frozen=True)
class MarginItem:
    """A neutral prompt and the two ways to go on from it, as token ids. Items with one `cluster` ask the same.

    `assistant` marks the prompt's tokens that the assistant wrote; only components of the scope `assistant` need it. `opened` is how
    many tokens at the end of the generation prompt the prompt leaves out, because they open a block in which no answer is given.
    """

    id: str
    prompt: tuple[int, ...]
    positive: tuple[int, ...]
    negative: tuple[int, ...]
    locale: str
    product: str
    cluster: str
    assistant: tuple[bool, ...] = ()
    opened: int = 0

    def asked_by(self, prompt: tuple[int, ...]) -> MarginItem:
        """The same two completions after another prompt, which is whole."""
        return replace(self, prompt=prompt[: len(prompt) - self.opened])


def write_sides(
    loaded: LoadedModel, pairs: Sequence[ContrastPair], *, max_new_tokens: int = MAX_NEW_TOKENS
) -> dict[str, tuple[Reply, Reply]]:
    """The model's own greedy replies to the positive and the negative side of each pair that does not end with an answer, by its id.

    Raises: EngineError CONVERSATION_ROLE naming a pair of which one side alone is answered, and the codes of `generate`.
    """
    open_pairs = [pair for pair in pairs if not _is_answered(pair)]
    asked = [side for pair in open_pairs for side in (pair.positive, pair.negative)]
    # A batch for each lane, where one large batch would leave all but one waiting.
    rows = min(MAX_BATCH_ROWS, ceil(len(asked) / count_lanes(loaded)) or 1)
    replies = generate(loaded, asked, max_new_tokens=max_new_tokens, max_batch_rows=rows)
    return {pair.id: (positive, negative) for pair, positive, negative in zip(open_pairs, replies[0::2], replies[1::2], strict=True)}


def margin_items(
    loaded: LoadedModel,
    pairs: Sequence[ContrastPair],
    *,
    sides: Mapping[str, tuple[Reply, Reply]] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    mark_assistant: bool = False,
) -> tuple[MarginItem, ...]:
    """One item per pair, in order; a pair whose two completions are the same contrasts nothing and is left out.

    The neutral prompt is the conversation without what differs, and the completions are what the two sides say:
    the two answers, where both sides end with one; else the model's own greedy replies to the two sides, asked without the system
    message, and where the questions themselves differ, asked the negative side's question. `sides` are those replies, where whoever
    asks has had them written already.

    A generation prompt may say more than an answered conversation says before its answer. A block that it closes, such as an empty
    `<think></think>`, belongs to the prompt; one that it leaves open does not, since what would follow is no answer.

    Raises: EngineError MARGIN_EMPTY if no pair is left, CONVERSATION_ROLE naming a pair of which one side alone is answered,
    TEMPLATE_PREFIX, and the codes of encoding and `generate`.
    """
    answered = [_is_answered(pair) for pair in pairs]
    neutral = [_neutral_prompt(pair, is_answered) for pair, is_answered in zip(pairs, answered, strict=True)]
    prompts = encode_prompts(loaded, neutral, names=[pair.id for pair in pairs], mark_assistant=mark_assistant)
    replies = write_sides(loaded, pairs, max_new_tokens=max_new_tokens) if sides is None else sides
    items = []
    for pair, is_answered, conversation, encoded in zip(pairs, answered, neutral, prompts, strict=True):
        prompt, opened = encoded.token_ids, 0
        if is_answered:
            said = [side[-1] for side in (pair.positive, pair.negative)]
            opened, answers = _encode_answers(loaded, conversation, said, prompt, pair.id)
            positive, negative = (answer[:max_new_tokens] for answer in answers)
            prompt = prompt[: len(prompt) - opened]
        else:
            positive, negative = (reply.scored_token_ids for reply in replies[pair.id])
        if positive != negative:
            cluster, mask = prompt_key(pair.positive), encoded.assistant_mask[: len(prompt)] if mark_assistant else ()
            items.append(MarginItem(pair.id, prompt, positive, negative, pair.locale, pair.product, cluster, mask, opened))
    if not items:
        raise EngineError(
            "MARGIN_EMPTY", f"none of {len(pairs)} pairs has two different completions; check that the model follows the two sides at all"
        )
    return tuple(items)


def measure_margins(
    loaded: LoadedModel, items: Sequence[MarginItem], variants: Sequence[Variant], *, on_progress: Progress | None = None
) -> Floats:
    """log p(positive) - log p(negative) in nats, each summed over its tokens: (variants, items).

    Raises: EngineError MARGIN_EMPTY, and the codes of `score_forced`.
    """
    if not items:
        raise EngineError("MARGIN_EMPTY", "there are no items to measure a margin on")
    return margins_of(score_forced(loaded, margin_texts(items), variants, on_progress=on_progress).log_likelihood)


def margin_texts(items: Sequence[MarginItem]) -> list[ForcedText]:
    """Both texts of each item, side by side, so that they share the work on their prompt."""
    return [ForcedText(item.prompt, completion, item.assistant) for item in items for completion in (item.positive, item.negative)]


def margins_of(log_likelihood: Floats) -> Floats:
    """(variants, items) from the log-likelihood (variants, 2 · items) of `margin_texts`."""
    margins: Floats = log_likelihood[:, 0::2] - log_likelihood[:, 1::2]
    return margins


def margin_slopes(alphas: Sequence[float], margins: Floats) -> Floats:
    """Each item's margin per unit of α: the least-squares slope of `margins` (alphas, items). Returns (items,).

    Source: steerability as the slope of the propensity curve, arXiv:2407.12404.
    """
    centred = np.asarray(alphas, dtype=np.float64) - np.mean(alphas)
    if not centred.any():
        raise EngineError("ALPHA_GRID", "a slope needs at least two different α", "alphas")
    slopes: Floats = centred @ (margins - margins.mean(axis=0)) / (centred @ centred)
    return slopes


def _is_answered(pair: ContrastPair) -> bool:
    ends = {side[-1].role for side in (pair.positive, pair.negative)}
    if len(ends) > 1:
        raise EngineError("CONVERSATION_ROLE", f"pair {pair.id!r} ends with an answer on one side only; end both alike", pair.id)
    return ends == {"assistant"}


def _neutral_prompt(pair: ContrastPair, is_answered: bool) -> tuple[Message, ...]:
    positive, negative = (side[:-1] if is_answered else side for side in (pair.positive, pair.negative))
    if positive == negative:
        return positive
    return tuple(message for message in negative if message.role != "system")


def _encode_answers(
    loaded: LoadedModel, conversation: Sequence[Message], answers: Sequence[Message], prompt: tuple[int, ...], name: str
) -> tuple[int, list[tuple[int, ...]]]:
    """How many tokens of the prompt open what no answer closes; and each answer's tokens as they follow it, with those that end it, so
    that to stop counts as a choice."""
    whole = [
        encoded.token_ids
        for encoded in encode_dialogues(
            loaded, [(*conversation, answer) for answer in answers], names=[name] * len(answers), mark_assistant=False
        )
    ]
    shared = min(_common_length(prompt, each) for each in whole)
    # What is in front of the generation prompt has to be in front of the answers too.
    if shared < len(prompt) and shared < _common_length(prompt, encode_unanswered(loaded, conversation, name).token_ids):
        raise EngineError(
            "TEMPLATE_PREFIX", f"pair {name!r}: the chat template writes an answered conversation unlike the prompt before its answer", name
        )
    opened = len(prompt) - shared if _is_left_open(loaded.tokenizer.decode(prompt[shared:])) else 0
    return opened, [each[shared:] for each in whole]


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    shorter = min(len(one), len(other))
    return next((index for index in range(shorter) if one[index] != other[index]), shorter)


def _is_left_open(text: str) -> bool:
    """Whether a tag is opened in it and not closed: `<think>`, `[THINK]`, `<|begin_of_thought|>`."""
    depth = 0
    for closing, tag in _TAG.findall(text):
        depth += -1 if closing or tag.lower().startswith("end") else 1
    return depth > 0
