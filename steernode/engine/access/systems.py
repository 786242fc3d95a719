"""System messages put before conversations, also where a chat template knows none."""

from __future__ import annotations

from collections.abc import Sequence

from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.errors import EngineError
from steernode.files.conversations import Message

Conversation = tuple[Message, ...]


def put_under(loaded: LoadedModel, conversations: Sequence[Sequence[Message]], systems: Sequence[str]) -> list[Conversation]:
    """Each conversation under the system message beside it; an empty one changes nothing.

    It follows what the conversation's own system message says. Where the chat template takes no system message, or drops it without a
    word, it stands in front of the first question.
    """
    is_taken = _takes_systems(loaded)
    return [_put(tuple(turns), system, is_taken) if system else tuple(turns) for turns, system in zip(conversations, systems, strict=True)]


def _put(turns: Conversation, system: str, is_taken: bool) -> Conversation:
    if turns[0].role == "system":
        return (Message("system", f"{turns[0].content}\n\n{system}"), *turns[1:])
    if is_taken:
        return (Message("system", system), *turns)
    return (Message("user", f"{system}\n\n{turns[0].content}"), *turns[1:])


def _takes_systems(loaded: LoadedModel) -> bool:
    asked = Message("user", "b")
    try:
        told = encode_prompt(loaded, (Message("system", "a"), asked))
    except EngineError as error:
        if error.code != "CHAT_TEMPLATE":
            raise
        return False
    return told.token_ids != encode_prompt(loaded, (asked,)).token_ids
