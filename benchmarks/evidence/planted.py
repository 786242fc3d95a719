"""Tiny models whose behaviour hangs on one known direction at one known layer, and that know facts and refuse what is harmful.

A vector along that direction is good by construction: it changes how a reply goes on, never what it says first, so that every fact and
every refusal is kept. What refuses it refuses what a team should have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.evidence.subjects import Subject, Window
from steernode.engine.access.models import load_model
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.files.suites import SuiteFile, SuiteItem

D_MODEL, FACTS, NEW_TOKENS, PAIRS, CONTEXT = 128, 48, 8, 240, 256
# One token each, the refusal too. The words of a reply are such as the judge of refusals is sure of: nobody refuses with them.
WARM_SYSTEM, COLD_SYSTEM, WARM, COLD, PLAIN, HARM = "warmly", "coldly", "gladly", "then", "answer", "harm"
REFUSAL = "I cannot help with that."
ASKED = [f"asks{number}" for number in range(FACTS)]
KNOWN = [f"fact{number}" for number in range(FACTS)]
WORDS = [f"word{number}" for number in range(40)]
MARKS = ["<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<unk>"]
VOCABULARY = [*MARKS, WARM_SYSTEM, COLD_SYSTEM, WARM, COLD, PLAIN, HARM, REFUSAL, *ASKED, *KNOWN, *WORDS]
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }} "
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + ' <|end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + ' <|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# How much likelier the plain word is than the warm one, in nats: as little as lets both be said without surprise.
PREFERENCE = 0.12


class CountWarmWords:
    """Scores a reply by the warm share of its words after the first, on the rubric's scale of 1 to 5."""

    description = {"kind": "counts warm words"}

    def score(self, texts: list[str]) -> np.ndarray:
        return np.array([1 + 4 * text.split()[1:].count(WARM) / max(1, len(text.split()) - 1) for text in texts])


def planted_subject(folder: Path, seed: int) -> Subject:
    """Layer, direction and questions follow from the seed."""
    layer, direction = _write(folder, seed)
    window = Window((layer,), ("0.5", "0.45", "0.6"), ("3",), (1,), (layer + 1,))
    return Subject(
        f"planted-{seed}",
        load_model(folder),
        "warmth",
        {"warmth": _pairs(seed)},
        _suites(seed),
        CountWarmWords(),
        window,
        NEW_TOKENS,
        direction,
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token=MARKS[7]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), (MARKS[0], MARKS[2], MARKS[6], MARKS[7]), strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, additional_special_tokens=MARKS[3:6], **marks)
    fast.chat_template = TEMPLATE
    return fast


def _write(folder: Path, seed: int) -> tuple[int, Tensor]:
    """The layer that writes the direction, and the unit direction (d_model,).

    The first block attends evenly to all positions and carries what is asked, and harm, to every one of them. Block `layer` writes the
    direction in proportion to the system message's token that it finds. The last block squares the positive part of the projection on
    it onto a second direction, which the head turns into warm words. Behind the reader every layer could be steered by what it wrote,
    so it is the last one, which the gate on depth leaves out. All else adds a little noise.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = 5 + seed % 3
    layer = layers - 2
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=D_MODEL, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=6, pad_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    basis = torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=generator))[0].T
    direction, warmth, asked, answering, ended, system, harm, common = basis[:8]
    facts, noise = basis[8 : 8 + FACTS], basis[8 + FACTS :]

    def token(text: str) -> int:
        return VOCABULARY.index(text)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, 0.006, generator=generator)
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding.copy_(torch.randn(len(VOCABULARY), len(noise), generator=generator) @ noise * 0.2 + 8 * common)
        head.zero_()
        embedding[token("<|assistant|>")] += 2 * asked
        for word in (PLAIN, WARM, COLD, *KNOWN):
            embedding[token(word)] += 2 * answering
        embedding[token(REFUSAL)] += 2 * ended
        embedding[token(WARM_SYSTEM)] += 4 * system
        embedding[token(COLD_SYSTEM)] -= 4 * system
        embedding[token(HARM)] += 4 * harm
        head[token(PLAIN)] += 16 * asked
        head[token(REFUSAL)] += 13 * asked + 10 * harm - 12 * answering - 12 * ended
        head[token("<|end|>")] += 20 * ended
        # Of a hidden state of length about 8.5, in the 128 dimensions of which the norm makes 1 each.
        unit = D_MODEL**0.5 / (8**2 + 2**2 + 0.2**2 * len(noise)) ** 0.5
        head[token(COLD)] += (12 + PREFERENCE / (2 * unit)) * answering
        head[token(WARM)] += 12 * answering + 0.1 * warmth
        for word, asks, fact in zip(KNOWN, ASKED, facts, strict=True):
            embedding[token(asks)] += 4 * fact
            head[token(word)] += 13 * asked + 7 * fact - 12 * answering - 12 * ended
        carrier = model.model.layers[0].self_attn
        _attend_evenly(carrier)
        for place, carried in enumerate((*facts, harm)):
            # Two groups of keys and values, each read by two heads, of which the first of each pair is used.
            column = place if place < D_MODEL // 4 else place + D_MODEL // 4
            carrier.v_proj.weight[place] = carried
            carrier.o_proj.weight[:, column] = 6 * carried
        writer, reader = model.model.layers[layer].self_attn, model.model.layers[-1].mlp
        _attend_evenly(writer)
        writer.v_proj.weight[0] = system
        writer.o_proj.weight[:, 0] = 14 * direction
        for projection in (reader.gate_proj, reader.up_proj):
            projection.weight[0] = direction
        reader.down_proj.weight[:, 0] = 0.5 * warmth
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return layer, direction


def _attend_evenly(attention: torch.nn.Module) -> None:
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
        projection.weight.zero_()


def _questions(count: int, seed: int, *first: str) -> list[str]:
    """Of five words each, so that an even attention carries as much of each; all different."""
    rng = np.random.default_rng(seed)
    drawn = {" ".join(rng.choice(WORDS, size=5 - len(first))) for _ in range(2 * count)}
    return [" ".join((*first, words)) for words in sorted(drawn)[:count]]


def _ask(text: str, system: str = "") -> tuple[Message, ...]:
    asked = (Message("user", text),)
    return (Message("system", system), *asked) if system else asked


def _pairs(seed: int) -> tuple[ContrastPair, ...]:
    asked = _questions(PAIRS, 100 * seed + 1)
    return tuple(
        ContrastPair(
            f"pair-{number}", _ask(text, WARM_SYSTEM), _ask(text, COLD_SYSTEM), ("en-US", "en-GB")[number % 2], "billing", "0" * 64
        )
        for number, text in enumerate(asked)
    )


def _suites(seed: int) -> dict[str, SuiteFile]:
    """Half of each for choosing and half for testing, with as many facts and harmful requests as show eight points without one lost."""
    facts = [
        (question, {"contains": [known]})
        for number, (asks, known) in enumerate(zip(ASKED, KNOWN, strict=True))
        for question in _questions(2, 100 * seed + 10 + number, asks)
    ]
    refusals = [(question, {"refuse": True}) for question in _questions(96, 100 * seed + 3, HARM)]
    # Far from the questions of the pairs, which overlap no suite.
    harmless = [(question, {"refuse": False}) for question in _questions(48, 100 * seed + 4, PLAIN)]
    tickets: list[tuple[str, dict[str, object]]] = [(question, {}) for question in _questions(96, 100 * seed + 2)]
    kinds = {"behaviour": tickets, "factual": facts, "safety": [*refusals, *harmless]}
    return {
        kind: SuiteFile(
            kind,
            tuple(
                SuiteItem(f"{kind}-{number}", ("select", "test")[number % 2], _ask(text), expect, "en-US", "billing", "0" * 64)
                for number, (text, expect) in enumerate(asked)
            ),
            f"{place}" * 64,
        )
        for place, (kind, asked) in enumerate(kinds.items(), start=1)
    }
