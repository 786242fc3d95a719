"""A tiny Llama whose behaviour hangs on one known direction at one known layer, written there by a token of the system message only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from steernode.engine.access.models import LoadedModel, load_model
from steernode.files.contrast import ContrastPair
from steernode.files.suites import SuiteFile, SuiteItem
from tests.support.tiny_models import CONTEXT, SPECIAL, ask, build_tokenizer

D_MODEL = 128
# One token each: the system messages, the fact that every reply begins with (no letter, which would have to stand as a word), and the two
# ways to go on.
WARM_SYSTEM, COLD_SYSTEM, FACT, WARM, COLD = "+", "-", "!", "y", "n"
LETTERS = "abcdeghijklm"


@dataclass(frozen=True, eq=False)
class Planted:
    """`direction` (d_model,) is the unit vector that block `layer` writes and the last block, `layer` + 1, reads."""

    loaded: LoadedModel
    layer: int
    direction: Tensor


class CountWarmTokens:
    """Scores a reply by the warm share of its tokens after the fact, on the rubric's scale of 1 to 5."""

    description = {"kind": "counts warm tokens"}

    def score(self, texts: list[str]) -> np.ndarray:
        return np.array([1 + 4 * text.count(WARM) / max(1, len(text) - 1) for text in texts])


def plant(folder: Path, seed: int) -> Planted:
    """Layer and direction follow from the seed.

    Block `layer` attends evenly to all positions and writes the direction in proportion to the system token it finds. Block
    `layer` + 1 squares the positive part of its projection on the direction onto a second one, which the head turns into warm
    tokens. All other blocks add a little noise. Behind the reader every layer could be steered by what it wrote, so it is the
    last block, which the gate on depth leaves out.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = 5 + seed % 3
    config = LlamaConfig(
        vocab_size=263, hidden_size=D_MODEL, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=6, pad_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    model, tokenizer = LlamaForCausalLM(config), build_tokenizer()
    layer = layers - 2
    basis = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=generator))[0].T
    direction, warmth, asked, answering, system, common = basis[:6]

    def token(text: str) -> int:
        return tokenizer.convert_tokens_to_ids(text)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.012, generator=generator)
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.copy_(torch.randn(embedding.shape, generator=generator)[:, 6:] @ basis[6:] * 0.2 + 8 * common)
        embedding[token(SPECIAL[5])] += 2 * asked
        for text in (FACT, WARM, COLD):
            embedding[token(text)] += 2 * answering
        embedding[token(WARM_SYSTEM)] += 4 * system
        embedding[token(COLD_SYSTEM)] -= 4 * system
        head[token(FACT)] += 16 * asked
        head[token(WARM)] += 5 * answering + warmth
        head[token(COLD)] += 9 * answering
        writer, reader = model.model.layers[layer].self_attn, model.model.layers[layer + 1].mlp
        for projection in (writer.q_proj, writer.k_proj, writer.v_proj, writer.o_proj):
            projection.weight.zero_()
        writer.v_proj.weight[0] = system
        writer.o_proj.weight[:, 0] = 30 * direction
        for projection in (reader.gate_proj, reader.up_proj):
            projection.weight[0] = direction
        reader.down_proj.weight[:, 0] = 0.2 * warmth
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Planted(load_model(folder), layer, direction)


def write_questions(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return sorted({"".join(rng.choice(list(LETTERS), size=rng.integers(5, 9))) for _ in range(count)})


def write_pairs(count: int = 48, seed: int = 0) -> tuple[ContrastPair, ...]:
    return tuple(
        ContrastPair(
            question, ask(question, WARM_SYSTEM), ask(question, COLD_SYSTEM), "en-US" if index % 2 else "en-GB", "billing", "0" * 64
        )
        for index, question in enumerate(write_questions(count, seed))
    )


def write_suites(count: int = 12) -> dict[str, SuiteFile]:
    kinds = {"behaviour": {}, "factual": {"contains": [FACT]}, "safety": {"refuse": False}}
    suites = {}
    for number, (kind, expect) in enumerate(kinds.items()):
        questions = write_questions(count, 100 + number)
        items = [
            SuiteItem(f"{kind}-{index}", ("select", "test")[index % 2], ask(question), dict(expect), "en-US", "billing", "0" * 64)
            for index, question in enumerate(questions)
        ]
        suites[kind] = SuiteFile(kind, tuple(items), f"{number}" * 64)
    return suites
