"""Decoding: how replies are chosen. Greedy, or drawn at a temperature from the most likely part of what the model would say.

A seed says what is drawn: the same one draws the same reply where the model says the same, whoever shares the batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.canonical import format_decimal
from steernode.errors import FieldError
from steernode.strict import read_exactly, read_integer, read_list, read_measure

GREEDY_WORD = "greedy"
# Below the least temperature logits overflow; above the most nothing is left of them.
LEAST_TEMPERATURE, MOST_TEMPERATURE = Decimal("0.01"), Decimal(2)
MAX_SEEDS = 16
_SEED_BOUND = 2**53


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is chosen. At temperature 0 it is the most likely one, and the rest says nothing.

    `top_p`: only the most likely tokens that together have this probability at that temperature are drawn from.
    """

    temperature: Decimal = Decimal(0)
    top_p: Decimal = Decimal(1)
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        return not self.temperature

    def find_problem(self) -> tuple[str, str] | None:
        """What is out of its range, and what that is."""
        if self.temperature and not LEAST_TEMPERATURE <= self.temperature <= MOST_TEMPERATURE:
            return "temperature", f"must be 0, which is greedy, or from {LEAST_TEMPERATURE} to {MOST_TEMPERATURE}"
        if not 0 < self.top_p <= 1:
            return "top_p", "must be above 0 and at most 1"
        return None

    def to_document(self) -> str | dict[str, Any]:
        if self.is_greedy:
            return GREEDY_WORD
        return {"temperature": format_decimal(self.temperature), "top_p": format_decimal(self.top_p), "seed": self.seed}


GREEDY = Sampling()


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the replies of an evaluation are chosen: greedily, or drawn once for each seed."""

    temperature: Decimal = Decimal(0)
    top_p: Decimal = Decimal(1)
    seeds: tuple[int, ...] = ()

    @property
    def is_greedy(self) -> bool:
        return not self.temperature

    @property
    def replies_per_item(self) -> int:
        return len(self.seeds) or 1

    def sample(self, item: str) -> list[Sampling]:
        """How each reply to this item is chosen. Its noise is its own, whatever stands beside it in the suite."""
        return [Sampling(self.temperature, self.top_p, _mix(seed, item)) for seed in self.seeds] or [GREEDY]

    def to_document(self) -> str | dict[str, Any]:
        if self.is_greedy:
            return GREEDY_WORD
        return {"temperature": format_decimal(self.temperature), "top_p": format_decimal(self.top_p), "seeds": list(self.seeds)}


GREEDY_DECODING = Decoding()


def read_decoding(value: Any, path: str) -> Decoding:
    """'greedy', or {"temperature": "0.7", "top_p": "0.95", "seeds": [0, 1, 2]}. Raises: FieldError."""
    if value == GREEDY_WORD:
        return GREEDY_DECODING
    if isinstance(value, str):
        raise FieldError(path, f"must be {GREEDY_WORD!r} or an object with temperature, top_p and seeds")
    read_exactly(value, path, ("temperature", "seeds"), optional=("top_p",))
    seeds = read_list(value["seeds"], f"{path}.seeds", _read_seed)
    if not 1 <= len(seeds) <= MAX_SEEDS or len(set(seeds)) != len(seeds):
        raise FieldError(f"{path}.seeds", f"must be 1 to {MAX_SEEDS} seeds, no two alike")
    temperature, top_p = (_read_decimal(value.get(name, "1"), f"{path}.{name}") for name in ("temperature", "top_p"))
    decoding = Decoding(temperature, top_p, seeds)
    if decoding.is_greedy:
        raise FieldError(f"{path}.temperature", f"is 0, which draws nothing; write {GREEDY_WORD!r}")
    if problem := Sampling(decoding.temperature, decoding.top_p).find_problem():
        raise FieldError(f"{path}.{problem[0]}", problem[1])
    return decoding


def _read_decimal(value: Any, path: str) -> Decimal:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return read_measure(str(value) if is_whole else value, path)


def _read_seed(value: Any, path: str) -> int:
    seed = read_integer(value, path, least=0)
    if seed >= _SEED_BOUND:
        raise FieldError(path, f"must be below {_SEED_BOUND}")
    return seed


def _mix(seed: int, item: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {item}".encode()).digest()[:7])
