"""Tiny models with random weights and a tokenizer made on the spot: nothing is downloaded, and every block is a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from steerkit.contrast import ContrastPair
from steerkit.conversation import Message
from steerkit.engine.models import LoadedModel

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


def build_model(architecture: str) -> Any:
    torch.manual_seed(3)
    size = {"vocab_size": 263, "bos_token_id": 0, "eos_token_id": 6, "pad_token_id": 2}
    if architecture == "llama":
        config = LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=CONTEXT, initializer_range=0.2, **size,
        )  # fmt: skip
        return LlamaForCausalLM(config)
    if architecture == "gpt2":
        return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=CONTEXT, initializer_range=0.2, **size))
    config = GPTNeoXConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=CONTEXT,
        initializer_range=0.2, **size,
    )  # fmt: skip
    return GPTNeoXForCausalLM(config)


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
