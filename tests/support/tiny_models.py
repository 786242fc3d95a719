"""Tiny models with random weights and a tokenizer made on the spot: nothing is downloaded, and every block is a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from steernode.engine.access.architectures import find_architecture
from steernode.engine.access.models import LoadedModel
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message

SPECIAL = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORDS = [
    "the",
    "bill",
    "is",
    "late",
    "fee",
    "refund",
    "arrives",
    "in",
    "five",
    "days",
    "sorry",
    "we",
    "help",
    "you",
    "please",
    "thank",
    "card",
    "declined",
    "warm",
    "cold",
    "reply",
    "now",
]
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
# Name -> model type and config: every family, and every form of block that a family's config can choose.
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
NAMES = tuple(_MODELS)
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
    model_type, changes = _MODELS[name]
    torch.manual_seed(3)
    size = {"vocab_size": 263, "bos_token_id": 0, "eos_token_id": 6, "pad_token_id": 2}
    config = AutoConfig.for_model(model_type, **size, **(changes | more))
    model = AutoModelForCausalLM.from_config(config, attn_implementation=find_architecture(config).attention).eval()
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
