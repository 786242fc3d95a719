"""Prompt sets: labelled prompts that a probe is trained, calibrated and judged on. One JSON object per line.

A label is true or false, or a word of intent; one set has one kind of them. Each prompt belongs to one split: `train` is what a probe
learns from, `select` chooses its layer and its threshold, and `test` says how well it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steernode.canonical import sha256_hex
from steernode.errors import PromptSetError
from steernode.files.conversations import LineProblems, Message, prompt_key, read_lines, read_messages, read_text, refuse_unknown_fields
from steernode.words import PROMPT_SPLITS

_FIELDS = ("id", "split", "messages", "label", "kind", "locale", "product")
_PROBLEMS = LineProblems("PROMPTS", PromptSetError)
MAX_LABEL = 64


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """`kind` is a word of its author's for what makes the prompt easy or hard; nothing is decided by it."""

    id: str
    split: str
    messages: tuple[Message, ...]
    label: bool | str
    kind: str
    locale: str
    product: str


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A whole set. `digest` covers the exact bytes of the file."""

    prompts: tuple[LabelledPrompt, ...]
    digest: str

    @property
    def intents(self) -> tuple[str, ...]:
        """The words of intent that prompts are labelled with; none where they are labelled true and false."""
        return tuple(sorted({prompt.label for prompt in self.prompts if isinstance(prompt.label, str)}))

    def part(self, split: str) -> tuple[LabelledPrompt, ...]:
        return tuple(prompt for prompt in self.prompts if prompt.split == split)

    def count(self) -> dict[str, dict[str, int]]:
        """By split, how many prompts have each label."""
        return {split: dict(sorted(Counter(say_label(each.label) for each in self.part(split)).items())) for split in PROMPT_SPLITS}


def say_label(label: bool | str) -> str:
    return label if isinstance(label, str) else str(label).lower()


def parse_prompts(data: bytes) -> PromptFile:
    """The prompts of a set, in file order.

    Raises: PromptSetError PROMPTS_CONTRADICTION, PROMPTS_OVERLAP, PROMPTS_ONE_CLASS or another PROMPTS_ code; `item` names the line.
    """
    prompts: list[LabelledPrompt] = []
    line_of_id: dict[str, int] = {}
    said: dict[str, tuple[int, LabelledPrompt]] = {}
    for number, _line, value in read_lines(data, _PROBLEMS):
        prompt = _read_prompt(value, number)
        if prompt.id in line_of_id:
            raise _PROBLEMS.problem("DUPLICATE", number, f"id {prompt.id!r} was already used on line {line_of_id[prompt.id]}")
        if prompts and isinstance(prompt.label, str) != isinstance(prompts[0].label, str):
            raise _PROBLEMS.problem("LABEL", number, "a set is labelled with true and false or with words of intent, not with both")
        key = prompt_key(prompt.messages)
        if key in said:
            _refuse_again(prompt, number, *said[key])
        line_of_id[prompt.id] = number
        said[key] = number, prompt
        prompts.append(prompt)
    file = PromptFile(tuple(prompts), sha256_hex(data))
    for split, counts in file.count().items():
        if len(counts) < 2:
            only = next(iter(counts), "none")
            message = f"the {split} split has prompts of one label only ({only}); a probe tells two classes apart"
            raise PromptSetError("PROMPTS_ONE_CLASS", message, split)
    return file


def _read_prompt(value: Mapping[str, Any], number: int) -> LabelledPrompt:
    refuse_unknown_fields(dict(value), _FIELDS, number, _PROBLEMS)
    split, label = value.get("split"), value.get("label")
    if split not in PROMPT_SPLITS:
        raise _PROBLEMS.problem("SPLIT", number, f"split must be one of {', '.join(PROMPT_SPLITS)}, got {split!r}")
    if not isinstance(label, bool):
        label = read_text(dict(value), "label", number, _PROBLEMS, required=True)
        if len(label) > MAX_LABEL:
            raise _PROBLEMS.problem("LABEL", number, f"a label is true, false or a word of at most {MAX_LABEL} characters")
    messages = read_messages(value.get("messages"), "messages", number, _PROBLEMS, missing="MESSAGES")
    if messages[-1].role != "user":
        raise _PROBLEMS.problem("MESSAGES", number, "a prompt must end with a user message, the one to answer")
    texts = {name: read_text(dict(value), name, number, _PROBLEMS) for name in ("kind", "locale", "product")}
    return LabelledPrompt(read_text(dict(value), "id", number, _PROBLEMS, required=True), split, messages, label, **texts)


def _refuse_again(prompt: LabelledPrompt, number: int, before: int, other: LabelledPrompt) -> None:
    """What asks the same is one prompt, with one label and in one split."""
    if prompt.label != other.label:
        labels = f"{say_label(prompt.label)} here and {say_label(other.label)} on line {before}"
        raise _PROBLEMS.problem("CONTRADICTION", number, f"prompt {prompt.id!r} is labelled {labels}")
    if prompt.split != other.split:
        raise _PROBLEMS.problem("OVERLAP", number, f"prompt {prompt.id!r} is in {prompt.split} here and in {other.split} on line {before}")
    raise _PROBLEMS.problem("DUPLICATE", number, f"prompt {prompt.id!r} asks the same as line {before}")
