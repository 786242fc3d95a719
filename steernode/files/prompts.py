"""Prompt sets: labelled prompts that a probe is trained, calibrated and judged on. One JSON object per line.

A label is true or false, or a word of intent; one set has one kind of them. Each prompt belongs to one split: `train` is what a probe
learns from, `select` chooses its layer and its threshold, and `test` says how well it does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from steernode.canonical import sha256_hex
from steernode.errors import PromptSetError
from steernode.files.conversations import LineProblems, Message, prompt_key, read_lines, read_messages, read_text, refuse_unknown_fields
from steernode.words import LEAST_PROMPTS, PROMPT_SPLITS

_FIELDS = ("id", "split", "messages", "label", "kind", "locale", "product")
_PROBLEMS = LineProblems("PROMPTS", PromptSetError)
# As a gateway sends it, and as a condition lists it.
_INTENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
TRUE, FALSE = "true", "false"


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
    return label if isinstance(label, str) else TRUE if label else FALSE


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


def refuse_classes(counts: Mapping[str, Mapping[str, int]], intent: str, target: float) -> None:
    """Whether a probe of this intent can be learned and judged from so many prompts, by split and label, with that false-positive rate.

    Raises: PromptSetError PROBE_INTENT if no prompt is labelled with it or none is named, PROBE_TOO_FEW with what is missing.
    """
    labels = sorted({label for part in counts.values() for label in part})
    if (intent or TRUE) not in labels:
        asked = f"no prompt is labelled with the intent {intent!r}" if intent else "say which intent the probe is to find"
        raise PromptSetError("PROBE_INTENT", f"{asked}; the prompts are labelled {', '.join(labels)}", intent)
    for split in PROMPT_SPLITS:
        positives = counts[split].get(intent or TRUE, 0)
        # Fewer negatives than that, and one false positive is more than the rate already.
        negatives = LEAST_PROMPTS if split == "train" else max(LEAST_PROMPTS, ceil(1 / target))
        for name, count, needed in (
            ("positive", positives, LEAST_PROMPTS),
            ("negative", sum(counts[split].values()) - positives, negatives),
        ):
            if count < needed:
                why = "" if needed == LEAST_PROMPTS else f" for a false-positive rate of {target:g}"
                message = f"the {split} split has {count} {name} prompts, {needed} are needed{why}; {needed - count} are missing"
                raise PromptSetError("PROBE_TOO_FEW", message, f"{split} {name}")


def _read_prompt(value: Mapping[str, Any], number: int) -> LabelledPrompt:
    refuse_unknown_fields(dict(value), _FIELDS, number, _PROBLEMS)
    split, label = value.get("split"), value.get("label")
    if split not in PROMPT_SPLITS:
        raise _PROBLEMS.problem("SPLIT", number, f"split must be one of {', '.join(PROMPT_SPLITS)}, got {split!r}")
    if not isinstance(label, bool):
        label = read_text(dict(value), "label", number, _PROBLEMS, required=True)
        if not _INTENT.fullmatch(label) or label in (TRUE, FALSE):
            raise _PROBLEMS.problem("LABEL", number, "a label is true, false or a word of letters, digits, '_', '.' and '-', at most 64")
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
