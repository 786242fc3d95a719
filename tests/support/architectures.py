"""Architecture files of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from steernode.canonical import canonical_json, sha256_hex
from steernode.files import architectures
from steernode.files.architectures import SCHEMA, find_family

# Llama's blocks, as a file of an operator's own would have them.
LAYOUT: dict[str, Any] = {
    "schema": SCHEMA,
    "decoder": "model",
    "blocks": "layers",
    "final_norm": "norm",
    "attn_out": {"output": "self_attn"},
    "resid_mid": {"input": "post_attention_layernorm"},
    "mlp_out": {"output": "mlp"},
}


def describe_otherwise(model_type: str, **changes: Any) -> None:
    """From here on, and until the test ends, the file of a family says something else."""
    family = find_family(model_type)
    document = {**family.document, **changes}
    architectures._learned[model_type] = replace(family, document=document, digest=sha256_hex(canonical_json(document)))


def write_architecture(folder: Path, model_type: str, class_name: str, **changes: Any) -> Path:
    """A folder with one file, for Llama's blocks but for the changes; None takes a field away."""
    document = {**LAYOUT, "models": {model_type: {"class": class_name}}, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{model_type}.yaml").write_text(yaml.safe_dump(document))
    return folder


@pytest.fixture(autouse=True)
def forgotten_architectures() -> Iterator[None]:
    """What a test teaches this process is forgotten at its end."""
    learned = dict(architectures._learned)
    yield
    architectures._learned.clear()
    architectures._learned.update(learned)
