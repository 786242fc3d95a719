"""Labelled prompts: read strictly, and refused where they cannot tell two classes apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from steernode.errors import PromptSetError
from steernode.files.prompts import parse_prompts

SPLITS = ("train", "select", "test")


def row(number: int, split: str, label: Any, text: str = "", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text or f"prompt {number} of {split}"}]
    return {"id": f"{split}-{number}", "split": split, "messages": messages, "label": label, "locale": "en-GB", "product": "card", **more}


def write(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


GOOD = [row(number, split, number % 2 == 0) for split in SPLITS for number in range(4)]


def test_a_set_is_read_with_its_labels_and_counted_by_split():
    file = parse_prompts(write(*GOOD))
    assert file.intents == ()
    assert file.count() == {split: {"true": 2, "false": 2} for split in SPLITS}
    words = parse_prompts(write(*({**each, "label": "billing" if each["label"] else "other", "kind": "easy"} for each in GOOD)))
    assert words.intents == ("billing", "other")
    assert [prompt.kind for prompt in words.part("test")] == ["easy"] * 4


@pytest.mark.parametrize(
    ("rows", "code", "item"),
    [
        ([], "PROMPTS_EMPTY", None),
        ([*GOOD, row(9, "exam", True)], "PROMPTS_SPLIT", "line 13"),
        ([*GOOD, row(9, "test", 1)], "PROMPTS_FIELD", "line 13"),
        ([*GOOD, row(9, "test", "")], "PROMPTS_FIELD", "line 13"),
        ([*GOOD, row(9, "test", "billing")], "PROMPTS_LABEL", "line 13"),
        ([*GOOD, row(9, "test", True, surprise=1)], "PROMPTS_UNKNOWN_FIELD", "line 13"),
        ([*GOOD, row(3, "test", True, text="another")], "PROMPTS_DUPLICATE", "line 13"),
        ([*GOOD, row(9, "test", True, text="Prompt  2 of TEST")], "PROMPTS_DUPLICATE", "line 13"),
        ([*GOOD, row(9, "test", False, text="Prompt  2 of TEST")], "PROMPTS_CONTRADICTION", "line 13"),
        ([*GOOD, row(9, "test", True, text="prompt 2 of train")], "PROMPTS_OVERLAP", "line 13"),
        ([*GOOD, {**row(9, "test", True), "messages": [{"role": "assistant", "content": "x"}]}], "PROMPTS_MESSAGES", "line 13"),
        ([each for each in GOOD if each["split"] != "select" or each["label"]], "PROMPTS_ONE_CLASS", "select"),
        ([each for each in GOOD if each["split"] != "test"], "PROMPTS_ONE_CLASS", "test"),
    ],
)
def test_what_cannot_train_a_probe_is_refused_by_name(rows, code, item):
    with pytest.raises(PromptSetError) as refused:
        parse_prompts(write(*rows))
    assert (refused.value.code, refused.value.item) == (code, item)
