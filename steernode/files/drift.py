"""What differs between two fingerprints of one base model, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steernode.files.basemodels import CHAT_TEMPLATE_FILES, CONFIG_FILES
from steernode.files.forms import FORM_FILE

# In the order in which they are told.
_WEIGHTS, _TOKENIZER, _CHAT_TEMPLATE, _CONFIG = "weights", "tokenizer", "chat template", "config"
# Without a template file of its own a model keeps its template here, and the digest cannot tell which half changed.
_TOKENIZER_CONFIG, _EITHER = "tokenizer_config.json", "tokenizer or chat template"
_BUILD = ("architecture", "model_type", "n_layers", "d_model", "context_length", "vocab_size")
_SIZES = (*_BUILD, "dtype", "quantization")
_NAMED_FILES = 3


def describe_drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One phrase for each kind of file that differs, such as "chat template: chat_template.jinja changed".

    `before` and `after` are the documents that two fingerprints cover (`ModelFiles.to_document`); equal ones give no phrase.
    """
    old, new = _read_digests(before), _read_digests(after)
    has_template_file = any(name in CHAT_TEMPLATE_FILES for name in (*old, *new))
    notes: dict[str, dict[str, list[str]]] = {}
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            verb = "changed" if name in old and name in new else "added" if name in new else "removed"
            notes.setdefault(_kind_of(name, has_template_file), {}).setdefault(verb, []).append(name)
    phrases = {kind: [f"{_list_files(names)} {verb}" for verb, names in verbs.items()] for kind, verbs in notes.items()}
    sizes = [f"{size} {before.get(size)} → {after.get(size)}" for size in _SIZES if before.get(size) != after.get(size)]
    if sizes:
        phrases.setdefault(_CONFIG, []).extend(sizes)
    order = (_WEIGHTS, _TOKENIZER, _EITHER, _CHAT_TEMPLATE, _CONFIG)
    return [f"{kind}: {', '.join(phrases[kind])}" for kind in order if kind in phrases]


def describe_other_files(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The same without the weights, for two forms of one model, whose weights have a comparison of their own."""
    return [phrase for phrase in describe_drift(before, after) if not phrase.startswith(f"{_WEIGHTS}: ")]


def is_built_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both are of one class, with as many layers and columns: a config of fewer layers leaves out weights that are there."""
    return all(one.get(size) == other.get(size) for size in _BUILD)


def reads_text_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both have the very files that make tokens of a conversation: tokenizer and chat template."""
    phrases = describe_drift(one, other)
    return not any(phrase.startswith((f"{_TOKENIZER}: ", f"{_CHAT_TEMPLATE}: ", f"{_EITHER}: ")) for phrase in phrases)


def _read_digests(document: Mapping[str, Any]) -> dict[str, str]:
    return {file["name"]: file["sha256"] for file in document.get("files", [])}


def _kind_of(name: str, has_template_file: bool) -> str:
    if ".safetensors" in name:
        return _WEIGHTS
    if name in CHAT_TEMPLATE_FILES:
        return _CHAT_TEMPLATE
    if name in (*CONFIG_FILES, FORM_FILE):
        return _CONFIG
    return _EITHER if name == _TOKENIZER_CONFIG and not has_template_file else _TOKENIZER


def _list_files(names: list[str]) -> str:
    """A large model has hundreds of shards; their names would hide what matters."""
    return ", ".join(names) if len(names) <= _NAMED_FILES else f"{len(names)} files"
