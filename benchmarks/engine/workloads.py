"""What is measured on: two models and three kinds of pairs, all made from this checkout and a seed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import BENCH, copy_for_transformers_4
from steernode.gates import candidate_layers

REFERENCE_MODEL, DATA = Path("demo/model"), Path("demo/data")
SEED = 11
# Llama's proportions at d = 1,024: feed-forward 2.75 d, four query heads to one of keys and values.
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 16,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32_000,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}

Pair = tuple[str, str]


@dataclass(frozen=True)
class BenchModel:
    """A model folder, its copy that transformers 4 can read, and how many layers it has."""

    name: str
    folder: Path
    folder_for_peers: Path
    n_layers: int

    @property
    def candidates(self) -> list[int]:
        return candidate_layers(self.n_layers)


def reference_model() -> BenchModel:
    return _with_peers_copy("reference", REFERENCE_MODEL)


def large_model() -> BenchModel:
    """A Llama with random weights and the reference model's tokenizer, written once."""
    folder = BENCH / "models" / "llama-1024x16"
    if not (folder / "written.txt").is_file():
        _write_large(folder)
    return _with_peers_copy("llama-1024x16", folder)


def _write_large(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    print(f"writing {folder}: a Llama with random weights", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    own = json.loads((REFERENCE_MODEL / "config.json").read_text())
    torch.manual_seed(SEED)
    tokens = {name: own[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaForCausalLM(LlamaConfig(**LARGE, **tokens)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy2(REFERENCE_MODEL / name, folder / name)
    (folder / "written.txt").write_text(json.dumps(LARGE))


def _with_peers_copy(name: str, folder: Path) -> BenchModel:
    copy = BENCH / "models" / f"{name}-for-transformers-4"
    shutil.rmtree(copy, ignore_errors=True)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy_for_transformers_4(folder, copy)
    return BenchModel(name, folder, copy, json.loads((folder / "config.json").read_text())["num_hidden_layers"])


class Texts:
    """The pairs and prompts of a run, as the strings that every side tokenises."""

    def __init__(self) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(REFERENCE_MODEL, local_files_only=True)

    def system_contrast(self, count: int) -> list[Pair]:
        """The same ticket under two system messages, through the chat template, up to where the assistant starts to write."""
        lines = (DATA / "empathy.pairs.jsonl").read_text().splitlines()
        step = len(lines) // count
        pairs = [json.loads(line) for line in lines[:: max(1, step)][:count]]
        return [(self.render(pair["positive"]), self.render(pair["negative"])) for pair in pairs]

    def shared_prefix(self, count: int) -> list[Pair]:
        """A question with two options, answered A or B: all tokens but the last are the same."""
        replies, tickets, draw = _replies(), _tickets(), random.Random(SEED)
        pairs = []
        for index in range(count):
            first, second = draw.sample(replies, 2)
            asked = f"{tickets[index % len(tickets)]}\n(A) {first}\n(B) {second}\nAnswer: ("
            pairs.append((f"{asked}A", f"{asked}B"))
        for (positive, negative), sides in zip(pairs, self.encode_pairs(pairs), strict=True):
            if sides[0][:-1] != sides[1][:-1] or sides[0][-1] == sides[1][-1]:
                raise SystemExit(f"{positive!r} and {negative!r} do not share all tokens but the last")
        return pairs

    def nothing_shared(self, count: int) -> list[Pair]:
        """Two unrelated runs of words, 60 to 120 tokens each, that differ from the first token on."""
        words, draw = sorted({word for reply in _replies() for word in reply.split()}), random.Random(SEED)
        pairs: list[Pair] = []
        while len(pairs) < count:
            sides = tuple(self._run_of_words(words, draw) for _ in range(2))
            [ids] = self.encode_pairs([sides])
            if ids[0][0] != ids[1][0]:
                pairs.append(sides)
        return pairs

    def _run_of_words(self, words: Sequence[str], draw: random.Random) -> str:
        wanted = draw.randint(60, 120)
        ids = self._tokenizer(" ".join(draw.choice(words) for _ in range(wanted)))["input_ids"][:wanted]
        text: str = self._tokenizer.decode(ids)
        return text

    def prompts(self, count: int) -> list[str]:
        """Tickets as a user writes them."""
        return _tickets()[:count]

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return text

    def encode_pairs(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        ids = self._tokenizer([text for pair in pairs for text in pair])["input_ids"]
        return list(zip(ids[::2], ids[1::2], strict=True))

    def count_tokens(self, pairs: Sequence[Pair]) -> dict[str, int]:
        """Tokens asked for, and how many of them are distinct nodes of the token trie: the least that must be computed."""
        rows = [tuple(side) for pair in self.encode_pairs(pairs) for side in pair]
        nodes = {row[:end] for row in rows for end in range(1, len(row) + 1)}
        return {"tokens_asked": sum(map(len, rows)), "distinct_tokens": len(nodes)}


def _tickets() -> list[str]:
    lines = (DATA / "tickets.jsonl").read_text().splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


def _replies() -> list[str]:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (DATA / "empathy.rubric.jsonl").read_text().splitlines()]
    return [line["text"] for line in lines]
