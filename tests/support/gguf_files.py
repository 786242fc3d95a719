"""GGUF files as llama.cpp's converter writes them, of the tiny llama."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.support.tiny_models import TEMPLATE, build_model, build_tokenizer

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
_IN_A_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def build_llama() -> Any:
    return build_model("llama", **SIZES, vocab_size=264, tie_word_embeddings=False)


def gguf_name(name: str) -> str:
    if name in _WHOLE:
        return _WHOLE[name]
    layer, _, part = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{_IN_A_LAYER[part.removesuffix('.weight')]}.weight"


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Queries and keys with the two halves of each head interleaved, as llama.cpp rotates them."""
    return weight.reshape(heads, 2, len(weight) // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def permuted(name: str, weight: np.ndarray) -> np.ndarray:
    heads = {"q_proj": SIZES["num_attention_heads"], "k_proj": SIZES["num_key_value_heads"]}.get(name.split(".")[-2])
    return permute(weight, heads) if heads else weight


def write_gguf(
    path: Path,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    without: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
    more_tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """The tiny llama, its matrices of this type. `without` names settings to leave out, `more` adds some, of integers and texts."""
    logging.getLogger("gguf").setLevel(logging.WARNING)
    writer = gguf.GGUFWriter(path, architecture)
    model, tokenizer = build_llama(), build_tokenizer()
    config = model.config
    settings: dict[str, Any] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "rope.dimension_count": config.head_dim,
        "vocab_size": config.vocab_size,
    } | dict(more or {})
    for name, value in settings.items():
        if isinstance(value, str):
            writer.add_string(f"{architecture}.{name}", value)
        else:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_parameters["rope_theta"])
    if "tokenizer" not in without:
        tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        # A reader wants one merge at least.
        tokens.append("it")
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        special = set(tokenizer.all_special_tokens) | set(tokenizer.added_tokens_encoder)
        writer.add_token_types([3 if token in special else 1 for token in tokens])
        writer.add_token_merges(["i t"])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(6)
        writer.add_pad_token_id(2)
    if "chat template" not in without:
        writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        data = permuted(name, weight.numpy())
        if data.ndim == 2 and kind != "F32":
            quantized = gguf.quantize(data, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(gguf_name(name), quantized, raw_dtype=gguf.GGMLQuantizationType[kind])
        else:
            writer.add_tensor(gguf_name(name), data)
    for name, data in (more_tensors or {}).items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
