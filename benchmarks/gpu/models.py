"""Llamas with random weights and the reference model's tokenizer, written to memory where that is a disk with room for them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine.workloads import REFERENCE_MODEL, SEED
from benchmarks.peers import BENCH

_MEMORY = Path("/dev/shm")  # noqa: S108  # the name is looked for, and nothing is taken from it
_LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32_000,
}
_TINY = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 8_192}


@dataclass(frozen=True)
class Shape:
    name: str
    config: dict[str, Any]
    layers: int
    dtype: str


# The 12 layers first: if the card is given back early, there are figures.
SHAPES = (Shape("7B shape, 12 layers", _LLAMA_7B, 12, "bfloat16"), Shape("7B shape, 32 layers", _LLAMA_7B, 32, "bfloat16"))
TINY = (Shape("tiny", _TINY, 5, "float32"),)


def write_model(shape: Shape, device: str) -> Path:
    """The folder of a model of this shape, made on the device, where drawing its numbers is quick."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    own = json.loads((REFERENCE_MODEL / "config.json").read_text())
    tokens = {name: own[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(
        **shape.config | {"vocab_size": max(own["vocab_size"], shape.config["vocab_size"])},
        num_hidden_layers=shape.layers,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        **tokens,
    )
    folder = _find_room(shape) / f"steerhub-bench-{shape.layers}x{shape.config['hidden_size']}"
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, shape.dtype))
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy2(REFERENCE_MODEL / name, folder / name)
    return folder


def _find_room(shape: Shape) -> Path:
    weights = shape.layers * shape.config["hidden_size"] * (3 * shape.config["intermediate_size"] + 3 * shape.config["hidden_size"])
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * weights * 2:
        return _MEMORY
    return BENCH / "models"
