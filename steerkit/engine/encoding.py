"""Conversations to token ids through the model's own chat template, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steerkit.conversation import Message
from steerkit.engine.models import LoadedModel
from steerkit.errors import EngineError


@dataclass(frozen=True)
class EncodedConversation:
    """Token ids, and which of them the chat template marks as written by the assistant."""

    token_ids: tuple[int, ...]
    assistant_mask: tuple[bool, ...]


def encode_prompt(loaded: LoadedModel, messages: Sequence[Message], *, mark_assistant: bool = False) -> EncodedConversation:
    """A conversation up to the point where the assistant starts to write; its last token is the last prompt token.

    Raises: EngineError CONVERSATION_ROLE if it does not end with a user's message, and the codes of the template.
    """
    if not messages or messages[-1].role != "user":
        role = messages[-1].role if messages else "nothing"
        raise EngineError("CONVERSATION_ROLE", f"a prompt must end with a user message, this one ends with {role}", role)
    return _apply_template(loaded, messages, add_generation_prompt=True, mark_assistant=mark_assistant)


def encode_dialogue(loaded: LoadedModel, messages: Sequence[Message]) -> EncodedConversation:
    """A conversation that the assistant has answered, with the answer's tokens marked.

    Raises: EngineError CONVERSATION_ROLE if nobody answered, NO_ASSISTANT_TOKENS if the template marks none of its tokens.
    """
    if not any(message.role == "assistant" for message in messages):
        raise EngineError(
            "CONVERSATION_ROLE", "reading assistant tokens needs an assistant message; this conversation has none", "assistant"
        )
    encoded = _apply_template(loaded, messages, add_generation_prompt=False, mark_assistant=True)
    if not any(encoded.assistant_mask):
        raise EngineError(
            "NO_ASSISTANT_TOKENS",
            "the chat template marks no assistant tokens; put {% generation %} around the assistant's content in it",
            "chat_template",
        )
    return encoded


def _apply_template(
    loaded: LoadedModel, messages: Sequence[Message], *, add_generation_prompt: bool, mark_assistant: bool
) -> EncodedConversation:
    try:
        encoded = loaded.tokenizer.apply_chat_template(
            [message.to_document() for message in messages],
            add_generation_prompt=add_generation_prompt,
            return_dict=True,
            return_assistant_tokens_mask=mark_assistant,
        )
    # A template is a program and may raise whatever it likes, for example when it does not accept a system message.
    except Exception as error:
        roles = ", ".join(message.role for message in messages)
        raise EngineError("CHAT_TEMPLATE", f"the chat template refused a conversation of {roles}: {error}", roles) from error
    token_ids = tuple(encoded["input_ids"])
    refuse_long(loaded, len(token_ids))
    mask = encoded["assistant_masks"] if mark_assistant else [0] * len(token_ids)
    return EncodedConversation(token_ids, tuple(bool(marked) for marked in mask))


def refuse_long(loaded: LoadedModel, n_tokens: int, what: str = "the conversation") -> None:
    """Raises: EngineError CONTEXT_LENGTH if the model was not made for that many tokens."""
    if n_tokens > loaded.manifest.context_length:
        raise EngineError(
            "CONTEXT_LENGTH", f"{what} is {n_tokens} tokens long, the model's context holds {loaded.manifest.context_length}", str(n_tokens)
        )


def pad_right(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> Tensor:
    """Token ids (rows, longest) for one pass without a cache.

    No attention mask goes with it: under causal attention nothing after a token can reach it, so every row reads as if it
    were alone, and attention takes its fast path.
    """
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=torch.long, device=loaded.device)


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
