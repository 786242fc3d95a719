"""How a base model behaves on eight fixed prompts, as it was measured when it was registered, and by how much another may differ.

Log-probabilities of the next token after each prompt, in nats: of the likeliest tokens, and of some that are the same for every prompt.
They show whether weights, tokenizer, chat template, dtype and kernels together are what they were, which digests of files cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import FieldError
from steernode.strict import read_digest, read_exactly, read_integer, read_list, read_measure, read_one_of

SCHEMA = "steerhub.behaviour/1"
# A question, a fact, arithmetic, code, another language, a table, a story, a refusal. They are never changed: a set of others gets a
# schema of its own, because what is on record was measured on these.
PROMPTS = (
    "What is the capital of France?",
    "My parcel has not arrived. What should I do?",
    "What is 17 times 6?",
    "Write a Python function that reverses a list.",
    "¿Cómo se dice «gracias» en inglés?",
    "List three fruits as JSON.",
    "Begin a story about a lighthouse.",
    "How do I pick a lock?",
)
LIKELIEST, FIXED = 32, 8
DTYPES = ("float32", "float16", "bfloat16")
# Rounding is measured on a few shapes and places of a batch. Others may be four times as far off.
_FARTHER = 4


@dataclass(frozen=True, slots=True)
class PromptBehaviour:
    """`tokens` is the sha256 of the prompt's token ids; `log_probabilities` are by token, in nats."""

    tokens: str
    log_probabilities: tuple[tuple[int, Decimal], ...]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`reference` is the dtype that it was measured in, on a CPU. `moved` says by dtype how far the same model was off in that dtype, in
    other shapes and places of a batch, where only rounding could move it."""

    reference: str
    prompts: tuple[PromptBehaviour, ...]
    moved: Mapping[str, Decimal]

    def tolerance(self, dtype: str) -> Decimal | None:
        """How far another may be off in this dtype, in nats; None if nobody measured it."""
        moved = self.moved.get(dtype)
        return None if moved is None else _FARTHER * moved

    @property
    def tolerances(self) -> list[tuple[str, Decimal]]:
        return [(dtype, _FARTHER * moved) for dtype, moved in sorted(self.moved.items())]

    def to_document(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "reference": self.reference,
            "prompts": [
                {"tokens": prompt.tokens, "log_probabilities": [[token, f"{value:f}"] for token, value in prompt.log_probabilities]}
                for prompt in self.prompts
            ],
            "moved": {dtype: f"{moved:f}" for dtype, moved in sorted(self.moved.items())},
        }

    @property
    def digest(self) -> str:
        return sha256_hex(canonical_json(self.to_document()))


def hash_tokens(token_ids: tuple[int, ...]) -> str:
    return sha256_hex(canonical_json(list(token_ids)))


def read_behaviour(value: Any, path: str) -> Behaviour:
    """Raises: FieldError."""
    read_exactly(value, path, ("schema", "reference", "prompts", "moved"))
    read_one_of(value["schema"], f"{path}.schema", (SCHEMA,))
    prompts = read_list(value["prompts"], f"{path}.prompts", _read_prompt)
    moved = value["moved"]
    read_exactly(moved, f"{path}.moved", (), optional=DTYPES)
    reference = read_one_of(value["reference"], f"{path}.reference", DTYPES)
    if len(prompts) != len(PROMPTS):
        raise FieldError(f"{path}.prompts", f"must be {len(PROMPTS)}, of the prompts that everybody has")
    if reference not in moved:
        raise FieldError(f"{path}.moved", f"must say how far it was off in {reference}")
    return Behaviour(reference, prompts, {dtype: read_measure(moved[dtype], f"{path}.moved.{dtype}") for dtype in sorted(moved)})


def _read_prompt(value: Any, path: str) -> PromptBehaviour:
    read_exactly(value, path, ("tokens", "log_probabilities"))
    pairs = read_list(value["log_probabilities"], f"{path}.log_probabilities", _read_pair)
    if not 1 <= len(pairs) <= LIKELIEST + FIXED or len({token for token, _ in pairs}) != len(pairs):
        raise FieldError(f"{path}.log_probabilities", f"must be of 1 to {LIKELIEST + FIXED} different tokens")
    return PromptBehaviour(read_digest(value["tokens"], f"{path}.tokens"), pairs)


def _read_pair(value: Any, path: str) -> tuple[int, Decimal]:
    if not isinstance(value, list) or len(value) != 2:
        raise FieldError(path, "must be a token and its log-probability")
    # Of nothing but 1 is the logarithm not below 0.
    text = value[1]
    is_below = isinstance(text, str) and text.startswith("-")
    return read_integer(value[0], path, least=0), read_measure(text[1:] if is_below else text, path) * (-1 if is_below else 1)
