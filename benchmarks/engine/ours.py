"""Tasks of our own worker: steernode's engine on one model, called as its users call it."""

from __future__ import annotations

# Before torch, because the engine tells OpenMP how to wait.
import steernode.engine

# isort: split
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine.counting import count_block_tokens
from benchmarks.processes import serve
from benchmarks.timing import WAKING_TOKENS, clock, current_memory, peak_memory, reset_peak_memory
from steernode.engine.access.encoding import encode_texts
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.reading.directions import LayerDirection, extract_encoded
from steernode.files.conversations import Message


class Endless(LoadedModel):
    """Nothing ends its replies."""

    end_token_ids = frozenset()  # type: ignore[assignment]


class Ours:
    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.loaded = load_model(folder)
        self._endless = Endless(**vars(self.loaded))

    def versions(self) -> dict[str, str]:
        return describe_versions()

    def describe(self) -> dict[str, Any]:
        return {"layers": self.loaded.n_layers, "d_model": self.loaded.d_model, "fingerprint": self.loaded.fingerprint}

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        return [list(text.token_ids) for text in encode_texts(self.loaded, texts)]

    def extract(self, pairs: list[list[str]], layers: list[int] | None, keep: str | None = None) -> dict[str, float]:
        """Seconds from texts to vectors, and of that from token ids to vectors; with `keep`, the vectors too, scaled by their norms."""
        reset_peak_memory()
        before = current_memory()
        encoding, encoded = clock(lambda: self._encode(pairs))
        reading, directions = clock(lambda: self._extract(encoded, layers))
        if keep is not None:
            np.savez(keep, **{str(found.layer): (found.direction.double() * found.norm).float().numpy() for found in directions})
        return {"seconds": encoding + reading, "from_token_ids": reading, "memory_before": before, "memory_peak": peak_memory()}

    def count(self, pairs: list[list[str]], layers: list[int] | None) -> dict[str, int]:
        """The tokens that blocks see while extracting, padding included. Not timed."""
        encoded = self._encode(pairs)
        with count_block_tokens(self.loaded.blocks) as counted:
            self._extract(encoded, layers)
        return counted.to_document()

    def generate(
        self, texts: list[str], new_tokens: int, steering: dict[str, Any] | None, alphas: list[float] | None = None
    ) -> dict[str, float]:
        """Seconds from users' messages to replies of one batch, exactly `new_tokens` each. `alphas` steers every row by its own amount."""
        components, rows = [], None
        if steering is not None:
            direction = torch.from_numpy(np.load(steering["vectors"])[str(steering["layer"])])
            norm = float(direction.norm())
            components = [Component(direction / norm, steering["layer"], steering["alpha"] * norm)]
            rows = None if alphas is None else torch.tensor(alphas)[:, None] * norm
        conversations = [(Message("user", text),) for text in texts]

        def answer(rows_used: int, tokens: int) -> list[Reply]:
            amounts = None if rows is None else rows[:rows_used]
            return generate(
                self._endless, conversations[:rows_used], components=components, row_coefficients=amounts, max_new_tokens=tokens
            )

        # The process was asleep while others worked; what wakes it is not what is measured.
        answer(1, WAKING_TOKENS)
        seconds, replies = clock(lambda: answer(len(texts), new_tokens))
        assert all(len(reply.token_ids) == new_tokens for reply in replies)
        return {"seconds": seconds}

    def _encode(self, pairs: Sequence[Sequence[str]]) -> Any:
        encoded = encode_texts(self.loaded, [text for pair in pairs for text in pair])
        return list(zip(encoded[::2], encoded[1::2], strict=True))

    def _extract(self, encoded: Any, layers: list[int] | None) -> tuple[LayerDirection, ...]:
        return extract_encoded(self.loaded, encoded, layers=layers)


def describe_versions() -> dict[str, str]:
    return {"steernode": steernode.__version__} | {name: version(name) for name in ("transformers", "torch", "numpy")}


def main() -> None:
    ours = Ours(Path(sys.argv[1]), int(sys.argv[2]))
    serve({name: getattr(ours, name) for name in ("versions", "describe", "token_ids", "extract", "count", "generate")})


if __name__ == "__main__":
    main()
