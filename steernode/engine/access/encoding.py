"""Conversations to token ids through the model's own chat template, many at once, and padded batches of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sending import send
from steernode.engine.access.templates import Written, encode_quoting, write_conversation
from steernode.errors import EngineError
from steernode.files.conversations import Message

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class EncodedConversation:
    """Token ids, and which of them the chat template marks as written by the assistant.

    `text` and `offsets` (start and end character of each token in it) are there when a trigger asked for them.
    """

    token_ids: tuple[int, ...]
    assistant_mask: tuple[bool, ...]
    text: str = ""
    offsets: tuple[tuple[int, int], ...] = ()


def encode_prompt(loaded: LoadedModel, messages: Sequence[Message], *, mark_assistant: bool = False) -> EncodedConversation:
    """A conversation up to the point where the assistant starts to write; its last token is the last prompt token.

    Raises: EngineError CONVERSATION_ROLE if it does not end with a user's message, CHAT_TEMPLATE, TEMPLATE_CLOCK, CONTEXT_LENGTH,
    CONTROL_TOKEN if what somebody wrote cannot be kept from becoming a control token, TOKENIZER_OFFSETS.
    """
    [encoded] = encode_prompts(loaded, [messages], mark_assistant=mark_assistant)
    return encoded


def encode_dialogue(loaded: LoadedModel, messages: Sequence[Message]) -> EncodedConversation:
    """A conversation that the assistant has answered, with the answer's tokens marked.

    Raises: EngineError CONVERSATION_ROLE if nobody answered, NO_ASSISTANT_TOKENS if the template marks none of its tokens.
    """
    [encoded] = encode_dialogues(loaded, [messages])
    return encoded


def encode_prompts(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    names: Sequence[str] | None = None,
    mark_assistant: bool = False,
    with_text: bool = False,
) -> list[EncodedConversation]:
    """`encode_prompt` of many conversations at once. An error names the conversation by its place in `names`."""
    called = _call(conversations, names)
    for messages, name in zip(conversations, called, strict=True):
        if not messages or messages[-1].role != "user":
            role = messages[-1].role if messages else "nothing"
            item = role if names is None else name
            raise EngineError("CONVERSATION_ROLE", f"{name}: a prompt must end with a user message, this one ends with {role}", item)
    return _apply_template(loaded, conversations, called, add_generation_prompt=True, mark_assistant=mark_assistant, with_text=with_text)


def encode_dialogues(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    *,
    names: Sequence[str] | None = None,
    mark_assistant: bool = True,
    with_text: bool = False,
) -> list[EncodedConversation]:
    """`encode_dialogue` of many conversations at once. An error names the conversation by its place in `names`."""
    called = _call(conversations, names)
    for messages, name in zip(conversations, called, strict=True):
        if not any(message.role == "assistant" for message in messages):
            item = "assistant" if names is None else name
            raise EngineError(
                "CONVERSATION_ROLE", f"{name}: reading what the assistant wrote needs an assistant message; there is none", item
            )
    encoded = _apply_template(
        loaded, conversations, called, add_generation_prompt=False, mark_assistant=mark_assistant, with_text=with_text
    )
    for conversation, name in zip(encoded, called, strict=True):
        if mark_assistant and not any(conversation.assistant_mask):
            raise EngineError(
                "NO_ASSISTANT_TOKENS",
                f"{name}: the chat template marks no assistant tokens; put {{% generation %}} around the assistant's content in it",
                "chat_template" if names is None else name,
            )
    return encoded


def encode_unanswered(loaded: LoadedModel, messages: Sequence[Message], name: str) -> EncodedConversation:
    """A conversation as far as it has got, with no word about whose turn is next."""
    [encoded] = _apply_template(loaded, [messages], [name], add_generation_prompt=False, mark_assistant=False, with_text=False)
    return encoded


def encode_texts(
    loaded: LoadedModel, texts: Sequence[str], *, names: Sequence[str] | None = None, add_special_tokens: bool = True
) -> list[EncodedConversation]:
    """Raw texts as the tokenizer reads them, without a chat template: no token of them counts as the assistant's.

    For base models that were never taught a chat, and for comparisons with libraries that take strings: who calls this is the author of
    the whole text, control tokens included. What is read is the last token of the text.

    Raises: EngineError TEXT_EMPTY for a text without a token, CONTEXT_LENGTH.
    """
    called = _call(texts, names, "text")
    if not texts:
        return []
    token_ids = _tokenize(loaded, texts, add_special_tokens)
    for row, name in zip(token_ids, called, strict=True):
        if not row:
            raise EngineError("TEXT_EMPTY", f"{name} has no token", name)
        refuse_long(loaded, len(row), name)
    return [EncodedConversation(tuple(row), (False,) * len(row)) for row in token_ids]


def _call(items: Sequence[object], names: Sequence[str] | None, noun: str = "the conversation") -> Sequence[str]:
    if names is not None:
        return names
    return [noun] if len(items) == 1 else [f"{noun} {index}" for index in range(len(items))]


def _apply_template(
    loaded: LoadedModel,
    conversations: Sequence[Sequence[Message]],
    names: Sequence[str],
    *,
    add_generation_prompt: bool,
    mark_assistant: bool,
    with_text: bool,
) -> list[EncodedConversation]:
    """The tokens are those of `apply_chat_template`, but for the control tokens that a message spells: those are ordinary text."""
    written = [
        _write(loaded, messages, name, add_generation_prompt=add_generation_prompt, mark_assistant=mark_assistant)
        for messages, name in zip(conversations, names, strict=True)
    ]
    # All at once, because the tokenizer then works on all cores.
    plain = [row for row, each in enumerate(written) if not each.quoted]
    texts = [written[row].text for row in plain]
    offsets: dict[int, Offsets] = {}
    if mark_assistant or with_text:
        if not getattr(loaded.tokenizer, "is_fast", False):
            raise EngineError(
                "TOKENIZER_OFFSETS",
                "this tokenizer does not say which characters a token is of; save the model with a fast one (tokenizer.json) "
                "to read the assistant's tokens or those of a pattern",
                type(loaded.tokenizer).__name__,
            )
        read = loaded.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True) if texts else {}
        token_ids = dict(zip(plain, read.get("input_ids", ()), strict=True))
        offsets = dict(zip(plain, read.get("offset_mapping", ()), strict=True))
    else:
        token_ids = dict(zip(plain, _tokenize(loaded, texts, add_special_tokens=False) if texts else (), strict=True))
    encoded = []
    for row, (each, name) in enumerate(zip(written, names, strict=True)):
        if each.quoted:
            # Each is a token at least. To read them one by one takes long, and whoever asks next waits.
            refuse_long(loaded, sum(start < end for start, end in each.quoted), name)
            token_ids[row], offsets[row] = encode_quoting(loaded.tokenizer, each, name)
        refuse_long(loaded, len(token_ids[row]), name)
        mask = _mark(each, offsets[row]) if mark_assistant else (False,) * len(token_ids[row])
        text = each.text if with_text else ""
        spans = tuple((start, end) for start, end in offsets[row]) if with_text else ()
        encoded.append(EncodedConversation(tuple(token_ids[row]), mask, text, spans))
    return encoded


def _write(loaded: LoadedModel, messages: Sequence[Message], name: str, *, add_generation_prompt: bool, mark_assistant: bool) -> Written:
    # A template is a program and may raise whatever it likes, for example when it does not accept a system message.
    try:
        return write_conversation(
            loaded.tokenizer,
            messages,
            loaded.template_arguments,
            add_generation_prompt=add_generation_prompt,
            mark_assistant=mark_assistant,
        )
    except EngineError:
        raise
    except Exception as error:
        roles = ", ".join(message.role for message in messages)
        raise EngineError("CHAT_TEMPLATE", f"{name}: the chat template refused a conversation of {roles}: {error}", roles) from error


def _mark(written: Written, offsets: Offsets) -> tuple[bool, ...]:
    """Which tokens hold a character of what the template marks as the assistant's."""
    spans = sorted(written.assistant)
    firsts, lasts = [first for first, _ in spans], [last for _, last in spans]
    # They follow each other, so that only the first that ends behind a token's start can hold any of it.
    reaching = ((bisect_right(lasts, start), end) for start, end in offsets)
    return tuple(place < len(firsts) and firsts[place] < end for place, end in reaching)


def _tokenize(loaded: LoadedModel, texts: Sequence[str], add_special_tokens: bool) -> Sequence[Sequence[int]]:
    """Token ids of texts. Straight from the Rust tokenizer where it is in its plain state, which saves a third of the time."""
    tokenizer = loaded.tokenizer
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if (
        getattr(tokenizer, "is_fast", False)
        and hasattr(backend, "encode_batch_fast")
        and backend.padding is None
        and backend.truncation is None
        and bool(backend.encode_special_tokens) == bool(tokenizer.split_special_tokens)
    ):
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)]
    rows: Sequence[Sequence[int]] = tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"]
    return rows


def refuse_long(loaded: LoadedModel, n_tokens: int, what: str = "the conversation") -> None:
    """Raises: EngineError CONTEXT_LENGTH, naming `what`, if the model was not made for that many tokens."""
    if n_tokens > loaded.manifest.context_length:
        raise EngineError(
            "CONTEXT_LENGTH", f"{what} is {n_tokens} tokens long, the model's context holds {loaded.manifest.context_length}", what
        )


def pad_right(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> Tensor:
    """Token ids (rows, longest) for one pass without a cache.

    No attention mask goes with it: under causal attention nothing after a token can reach it, so every row reads as if it
    were alone, and attention takes its fast path.
    """
    longest = max(len(row) for row in rows)
    return send(torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=torch.long), loaded.device)


@dataclass(frozen=True)
class LeftPadded:
    """A batch of prompts that all end in the same column, so that generated tokens share columns too. All (rows, columns)."""

    token_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor


def pad_left(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> LeftPadded:
    """Explicit position ids go along: a model with absolute positions is wrong without them after one pad token."""
    longest = max(len(row) for row in rows)
    token_ids = torch.tensor([[*[0] * (longest - len(row)), *row] for row in rows], dtype=torch.long, device=loaded.device)
    lengths = torch.tensor([len(row) for row in rows], device=loaded.device)
    position_ids = torch.arange(longest, device=loaded.device)[None, :] - (longest - lengths)[:, None]
    return LeftPadded(token_ids, (position_ids >= 0).long(), position_ids.clamp(min=0))
