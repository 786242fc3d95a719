"""Tiny models with random weights and a tokenizer made on the spot: nothing is downloaded, and every block is a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

from steernode.engine.access.architectures import find_architecture
from steernode.engine.access.models import LoadedModel
from steernode.files.architectures import find_family
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from tests.support.tiny_words import WORDS

SPECIAL = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 96
_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT, "initializer_range": 0.2,
}  # fmt: skip
_GROUPED = _SIZES | {"num_key_value_heads": 2}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32, "num_experts": 4, "mlp_only_layers": [1]}
_WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_OPT = {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": CONTEXT,
    "init_std": 0.2,
}  # fmt: skip
_FALCON = {name: value for name, value in _SIZES.items() if name != "intermediate_size"}
_LATENT = {"q_lora_rank": 12, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8, "num_key_value_heads": 4}
_ROUTED = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1, "n_shared_experts": 1,
}  # fmt: skip
_STATE_SPACE = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}  # fmt: skip
_LLAMA4 = {
    "head_dim": 8, "intermediate_size_mlp": 64, "num_local_experts": 2, "num_experts_per_tok": 1, "attention_chunk_size": 32,
    "interleave_moe_layer_step": 2,
}  # fmt: skip
_TEXT = _GROUPED | {"vocab_size": 263, "bos_token_id": 0, "eos_token_id": 6, "pad_token_id": 2}
_VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
_QWEN_VISION = {
    "depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14,
    "num_position_embeddings": 16,
}  # fmt: skip
# Name -> model type and config: families whose blocks some test writes out by hand, in every form that their config can choose.
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", _GROUPED | {"num_hidden_layers": 4}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT, "initializer_range": 0.2}),
    "gpt_neox": ("gpt_neox", _SIZES),
    "gpt_neox_sequential": ("gpt_neox", _SIZES | {"use_parallel_residual": False}),
    "mistral": ("mistral", _GROUPED | {"sliding_window": 8}),
    "mixtral": ("mixtral", _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2": ("qwen2", _GROUPED | _WINDOWS | {"use_sliding_window": True}),
    "qwen3": ("qwen3", _GROUPED | {"head_dim": 8}),
    "qwen3_moe": ("qwen3_moe", _GROUPED | {"head_dim": 8} | _EXPERTS),
    "gemma": ("gemma", _GROUPED | {"head_dim": 8}),
    "gemma2": ("gemma2", _GROUPED | {"head_dim": 8} | _WINDOWS),
    "gemma3": ("gemma3_text", _GROUPED | {"head_dim": 8} | _WINDOWS),
    "phi3": ("phi3", _GROUPED),
    "olmo2": ("olmo2", _GROUPED),
    "opt": ("opt", _OPT),
    "opt_post_norm": ("opt", _OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "falcon": ("falcon", _FALCON),
    "falcon_new": ("falcon", _FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_sequential": ("falcon", _FALCON | {"parallel_attn": False, "multi_query": False, "alibi": True, "bias": True}),
    "stablelm": ("stablelm", _GROUPED),
    "stablelm_parallel": ("stablelm", _GROUPED | {"use_parallel_residual": True}),
    "granite": ("granite", _GROUPED | {"residual_multiplier": 0.3, "embedding_multiplier": 2.0, "logits_scaling": 0.5}),
    "cohere2": ("cohere2", _GROUPED | _WINDOWS),
}
# Every family besides, which the tests go through by one suite: tests/support/architecture_suite.py.
_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("apertus", _GROUPED),
    "arcee": ("arcee", _GROUPED | {"head_dim": 8}),
    "bitnet": ("bitnet", _GROUPED),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}),
    "cohere": ("cohere", _GROUPED),
    "deepseek_v2": ("deepseek_v2", _GROUPED | _LATENT | _ROUTED | {"head_dim": 8}),
    "deepseek_v3": ("deepseek_v3", _GROUPED | _LATENT | _ROUTED),
    "ernie4_5": ("ernie4_5", _GROUPED | {"head_dim": 8}),
    "exaone4": ("exaone4", _GROUPED | _WINDOWS),
    "glm": ("glm", _GROUPED | {"head_dim": 8}),
    "glm4": ("glm4", _GROUPED | {"head_dim": 8}),
    "glm4_moe": ("glm4_moe", _GROUPED | _ROUTED | {"head_dim": 8}),
    "gpt_neo": ("gpt_neo", {
        "hidden_size": 32, "num_layers": 4, "num_heads": 4, "max_position_embeddings": CONTEXT, "window_size": 8,
        "attention_types": [[["global", "local"], 2]], "initializer_range": 0.2,
    }),
    "gpt_oss": ("gpt_oss", _GROUPED | _WINDOWS | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "gptj": ("gptj", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT, "rotary_dim": 8, "initializer_range": 0.2}),
    "granitemoe": ("granitemoe", _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "residual_multiplier": 0.3}),
    "helium": ("helium", _GROUPED | {"head_dim": 8}),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", _GROUPED | {"head_dim": 8}),
    "minicpm3": ("minicpm3", _SIZES | _LATENT),
    "ministral3": ("ministral3", _GROUPED | {"head_dim": 8}),
    "nemotron": ("nemotron", _GROUPED | {"head_dim": 8}),
    "olmo": ("olmo", _GROUPED),
    "olmo3": ("olmo3", _GROUPED | _WINDOWS),
    "phi": ("phi", _GROUPED),
    "phimoe": ("phimoe", _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": ("qwen2_moe", _GROUPED | _EXPERTS | {"shared_expert_intermediate_size": 32}),
    "seed_oss": ("seed_oss", _GROUPED | {"head_dim": 8}),
    "smollm3": ("smollm3", _GROUPED),
    "starcoder2": ("starcoder2", _GROUPED),
    "falcon_h1": ("falcon_h1", _GROUPED | _STATE_SPACE | {"head_dim": 8, "mamba_d_ssm": 64}),
    "gemma4": ("gemma4_text", _GROUPED | _WINDOWS | {
        "head_dim": 8, "global_head_dim": 8, "vocab_size_per_layer_input": 263, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0,
    }),
    "granitemoehybrid": ("granitemoehybrid", _GROUPED | _STATE_SPACE | {
        "num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32, "residual_multiplier": 0.3,
        "layer_types": ["mamba", "attention", "mamba"],
    }),
    "lfm2": ("lfm2", _GROUPED | {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 16}),
    "llama4": ("llama4_text", _GROUPED | _LLAMA4),
    "minimax": ("minimax", _GROUPED | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 4}),
    "nemotron_h": ("nemotron_h", _GROUPED | {
        "head_dim": 8, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8,
        "layers_block_type": ["mamba", "attention", "moe"], "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        "moe_shared_expert_intermediate_size": 32, "n_group": 1, "topk_group": 1,
    }),
    "qwen3_next": ("qwen3_next", _GROUPED | _LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 32}),
    "qwen3_5": ("qwen3_5_text", _GROUPED | _LINEAR),
    "qwen3_5_moe": ("qwen3_5_moe_text", _GROUPED | _LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 32}),
    "gemma3_multimodal": ("gemma3", {
        "text_config": _TEXT | _WINDOWS | {"head_dim": 8}, "vision_config": _VISION, "mm_tokens_per_image": 1,
    }),
    "llama4_multimodal": ("llama4", {
        "text_config": _TEXT | _LLAMA4,
        "vision_config": _VISION | {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    }),
    "mistral3_multimodal": ("mistral3", {
        "text_config": _TEXT | {"model_type": "mistral"}, "vision_config": _VISION | {"model_type": "pixtral", "head_dim": 8},
    }),
    "qwen3_5_multimodal": ("qwen3_5", {"text_config": _TEXT | _LINEAR, "vision_config": _QWEN_VISION}),
    "qwen3_5_moe_multimodal": ("qwen3_5_moe", {
        "text_config": _TEXT | _LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 32}, "vision_config": _QWEN_VISION,
    }),
}  # fmt: skip
WRITTEN_OUT = tuple(_MODELS)
NAMES = (*_MODELS, *_OTHERS)
# One of each block layout; what the tests about everything else go through.
OLDEST = ("llama", "gpt2", "gpt_neox")


def build_tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|end|>", pad_token="<pad>", additional_special_tokens=SPECIAL[3:6]
    )
    fast.chat_template = TEMPLATE
    return fast


def build_model(name: str, **more: Any) -> Any:
    """A model of `NAMES`, in evaluation mode, the same at every call; `more` goes into its config."""
    model_type, changes = (_MODELS | _OTHERS)[name]
    torch.manual_seed(3)
    size = {"vocab_size": 263, "bos_token_id": 0, "eos_token_id": 6, "pad_token_id": 2}
    # A wrapper's own config knows nothing of its text model's words.
    config = AutoConfig.for_model(model_type, **(({} if "text_config" in changes else size) | changes | more))
    model_class = getattr(transformers, find_family(model_type).class_name)
    model = model_class._from_config(config, attn_implementation=find_architecture(config).attention).eval()
    if name not in OLDEST:
        # Norms start as the identity and biases at zero: unless they are moved, a site on the wrong side of one goes unnoticed.
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def save_model(folder: Path, architecture: str = "llama") -> Path:
    build_model(architecture).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def ask(text: str, system: str | None = None) -> tuple[Message, ...]:
    asked = Message("user", text)
    return (asked,) if system is None else (Message("system", system), asked)


def make_pairs(count: int) -> list[ContrastPair]:
    """Pairs of different lengths: same question, warm against cold system message, with an answer that differs too."""
    return [
        make_pair(f"pair-{index}", " ".join(WORDS[(index * 3 + step) % len(WORDS)] for step in range(1 + index % 5)))
        for index in range(count)
    ]


def make_pair(name: str, question: str) -> ContrastPair:
    return ContrastPair(name, ask(question, "warm"), ask(question, "cold now"), "en-US", "billing", "0" * 64)


def make_answered_pair(name: str, question: str) -> ContrastPair:
    positive = (*ask(question), Message("assistant", "sorry, we help"))
    negative = (*ask(question), Message("assistant", "declined"))
    return ContrastPair(name, positive, negative, "en-US", "billing", "0" * 64)


def count_hooks(loaded: LoadedModel) -> int:
    """The library leaves hooks of its own behind once hidden states were asked for, so tests compare counts."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in loaded.model.modules())
