"""Generation, lean enough to sweep with: batches under a key-value cache, logits for one position, finished rows dropped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial

import torch
from torch import Tensor

from steernode.engine.access.batches import Progress, batch_by_length, halve_on_oom, in_lanes
from steernode.engine.access.encoding import EncodedConversation, encode_prompts, refuse_long
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.work import NO_WORK, Call
from steernode.engine.applying.components import Component
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.sampling import check_sampling
from steernode.engine.applying.steppers import open_stepper
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.records.decoding import Sampling
from steernode.snapshot.resolve import Stopped

MAX_BATCH_ROWS = 128


@dataclass(frozen=True)
class Reply:
    """What the model wrote. `token_ids` leave out the token that ended it; `end_token_id` is None if the limit cut it off.

    `milliseconds_per_token` is the time of the batch it was in over all tokens of that batch. `stopped` says from which of its tokens on
    it was no longer steered; None if that never changed.
    """

    text: str
    token_ids: tuple[int, ...]
    end_token_id: int | None
    prompt_tokens: int
    milliseconds_per_token: float
    stopped: Stopped | None = None

    @property
    def scored_token_ids(self) -> tuple[int, ...]:
        """All that the model chose: its tokens and its decision to end."""
        return self.token_ids if self.end_token_id is None else (*self.token_ids, self.end_token_id)


def generate(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    components: Sequence[Component] = (),
    row_coefficients: Tensor | None = None,
    max_new_tokens: int,
    max_batch_rows: int = MAX_BATCH_ROWS,
    sampling: Sequence[Sampling] | None = None,
    on_progress: Progress | None = None,
    stop_reason: Callable[[], str] | None = None,
) -> list[Reply]:
    """The most likely reply to each conversation, in the given order; or, with `sampling`, one drawn for each as its own entry says.
    `on_progress(done, total)` counts replies.

    `row_coefficients` (conversations, components) steers each row by its own amount; conversations that repeat, as in an α
    grid, share the work on their prompt.

    `stop_reason` is asked before every token. Once it has a reason, nothing is steered any more: the cache is computed anew from the
    prompt and the tokens that are there, so that the rest is what the unsteered model says after them.

    Raises: EngineError MAX_NEW_TOKENS, SAMPLING, CONTEXT_LENGTH, LAYOUT_MISMATCH, NO_ASSISTANT_TOKENS, OUT_OF_MEMORY, and the
    codes of `encode_prompt` and `steered`.
    """
    if max_new_tokens < 1:
        raise EngineError("MAX_NEW_TOKENS", f"max_new_tokens must be at least 1, got {max_new_tokens}", str(max_new_tokens))
    if row_coefficients is not None and row_coefficients.shape != (len(conversations), len(components)):
        shape = tuple(row_coefficients.shape)
        raise EngineError("LAYOUT_MISMATCH", f"row_coefficients are {shape}, want {(len(conversations), len(components))}", str(shape))
    if sampling is not None:
        check_sampling(sampling)
        if len(sampling) != len(conversations):
            wanted = f"{len(sampling)} ways to sample for {len(conversations)} conversations"
            raise EngineError("LAYOUT_MISMATCH", f"there are {wanted}; each has its own", str(len(sampling)))
    prompts = _encode(loaded, conversations, components)
    for prompt in prompts:
        refuse_long(loaded, len(prompt.token_ids) + max_new_tokens, "the conversation with its reply")
    lengths = [len(prompt.token_ids) for prompt in prompts]
    replies: dict[int, Reply] = {}
    batches = batch_by_length(lengths, max_batch_rows * max(lengths, default=1), max_batch_rows)

    def answer(batch: Sequence[int]) -> list[Reply]:
        rows = None if row_coefficients is None else row_coefficients[list(batch)]
        drawn = None if sampling is None else [sampling[index] for index in batch]
        return _generate_batch(loaded, [prompts[index] for index in batch], components, rows, max_new_tokens, drawn, stop_reason)

    def answer_whole(batch: Sequence[int]) -> list[Reply]:
        return [reply for _, part in halve_on_oom(batch, answer) for reply in part]

    # Where a reply may be stopped by what happens meanwhile, it is not the same the next time.
    work = loaded.work if stop_reason is None else NO_WORK
    call = Call(
        "replies",
        (prompts, components, row_coefficients, max_new_tokens, sampling),
        batches,
        len,
        _count_tokens,
        pack_replies,
        unpack_replies,
    )
    for batch, answers in work.run(call, answer_whole, partial(in_lanes, loaded=loaded)):
        replies.update(zip(batch, answers, strict=True))
        if on_progress is not None:
            on_progress(len(replies), len(conversations))
    return [replies[index] for index in range(len(conversations))]


def pack_replies(replies: Sequence[Reply]) -> bytes:
    """Replies that nothing stopped."""
    return json.dumps([{each.name: getattr(reply, each.name) for each in fields(reply)} for reply in replies]).encode()


def unpack_replies(data: bytes) -> list[Reply]:
    return [Reply(**{**row, "token_ids": tuple(row["token_ids"])}) for row in json.loads(data)]


def _count_tokens(_batch: Sequence[int], replies: Sequence[Reply]) -> int:
    return sum(len(reply.scored_token_ids) for reply in replies)


def _encode(loaded: LoadedModel, conversations: Sequence[Sequence[Message]], components: Sequence[Component]) -> list[EncodedConversation]:
    """Every conversation as a prompt; those that repeat are encoded once."""
    mark_assistant = any(component.scope == "assistant" for component in components)
    keys = [tuple(conversation) for conversation in conversations]
    different = list(dict.fromkeys(keys))
    encoded = dict(zip(different, encode_prompts(loaded, different, mark_assistant=mark_assistant), strict=True))
    for key, prompt in encoded.items():
        if mark_assistant and any(message.role == "assistant" for message in key) and not any(prompt.assistant_mask):
            raise EngineError(
                "NO_ASSISTANT_TOKENS",
                "scope 'assistant' steers what the assistant said before, but the chat template marks none of it; "
                "put {% generation %} around the assistant's content in it",
                "chat_template",
            )
    return [encoded[key] for key in keys]


@torch.inference_mode()
def _generate_batch(
    loaded: LoadedModel,
    prompts: Sequence[EncodedConversation],
    components: Sequence[Component],
    row_coefficients: Tensor | None,
    max_new_tokens: int,
    sampling: Sequence[Sampling] | None,
    stop_reason: Callable[[], str] | None,
) -> list[Reply]:
    started = time.perf_counter()
    decoding = _Decoding(loaded, prompts, max_new_tokens, sampling)
    reason = decoding.run(components, row_coefficients, stop_reason if components else None)
    if reason:
        decoding.start_over()
        decoding.run()
    milliseconds = (time.perf_counter() - started) * 1000
    per_token = milliseconds / max(1, sum(len(written) for written in decoding.written))
    return [decoding.reply(row, per_token, reason) for row in range(len(prompts))]


class _Decoding:
    """What the rows of one batch wrote, and which of them still write."""

    def __init__(
        self, loaded: LoadedModel, prompts: Sequence[EncodedConversation], max_new_tokens: int, sampling: Sequence[Sampling] | None
    ) -> None:
        self._loaded, self._prompts, self._max_new_tokens = loaded, prompts, max_new_tokens
        # Where nothing is drawn, the largest logit is all there is to look for.
        self._sampling = sampling if sampling is not None and not all(row.is_greedy for row in sampling) else None
        self.written: list[list[int]] = [[] for _ in prompts]
        self._end_tokens: list[int | None] = [None for _ in prompts]
        self._writing = list(range(len(prompts)))
        # How many tokens each row that was still writing had when it was started over.
        self._kept: dict[int, int] = {}

    def start_over(self) -> None:
        """Keeps what is written and forgets how it was computed."""
        self._writing = [row for row, end_token in enumerate(self._end_tokens) if end_token is None]
        self._kept = {row: len(self.written[row]) for row in self._writing}

    def run(
        self,
        components: Sequence[Component] = (),
        row_coefficients: Tensor | None = None,
        stop_reason: Callable[[], str] | None = None,
    ) -> str:
        """Writes until every row has ended, or until there is a reason to stop, which it returns."""
        said = [(*self._prompts[row].token_ids, *self.written[row]) for row in self._writing]
        sampling = None if self._sampling is None else [self._sampling[row] for row in self._writing]
        # Rows that still write have written the same number of tokens.
        before = len(self.written[self._writing[0]])
        steps = self._max_new_tokens - before
        with open_stepper(self._loaded, said, steps, sampling, before) as stepper:
            first_of = {tokens: index for index, tokens in enumerate(dict.fromkeys(said))}
            if not self._kept and len(first_of) < len(said) and all(component.scope == "generated" for component in components):
                stepper.read_shared([first_of[tokens] for tokens in said])
            if components:
                stepper.steer(components, PromptLayout.of(self._prompts), row_coefficients)
            for step in range(steps):
                self._loaded.work.check()
                if stop_reason is not None and (reason := stop_reason()):
                    return reason
                keep = self._note(stepper.step())
                if step == 0:
                    self._first_token_at = datetime.now(UTC)
                if not keep or step == steps - 1:
                    break
                if stepper.drops(len(keep), len(self._writing)):
                    self._writing = [self._writing[position] for position in keep]
                    stepper.select_rows(keep)
        return ""

    def _note(self, tokens: Sequence[int]) -> list[int]:
        """Which places of the batch go on writing, after the next token of each."""
        keep = []
        for position, (row, token) in enumerate(zip(self._writing, tokens, strict=True)):
            if self._end_tokens[row] is not None:
                continue
            if token in self._loaded.end_token_ids:
                self._end_tokens[row] = token
            else:
                self.written[row].append(token)
                keep.append(position)
        return keep

    def reply(self, row: int, milliseconds_per_token: float, reason: str) -> Reply:
        token_ids = tuple(self.written[row])
        text = self._loaded.tokenizer.decode(token_ids, skip_special_tokens=True)
        stopped = Stopped(reason, self._kept[row], self._first_token_at) if row in self._kept else None
        return Reply(text, token_ids, self._end_tokens[row], len(self._prompts[row].token_ids), milliseconds_per_token, stopped)
