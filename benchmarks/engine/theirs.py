"""Tasks of the peers' workers: steering-vectors or repeng on one model, called as their own documentation does.

Runs in the peers' environment, which knows nothing of steernode.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.engine.counting import count_block_tokens
from benchmarks.processes import serve
from benchmarks.timing import WAKING_TOKENS, clock, current_memory, peak_memory, reset_peak_memory


class Peer(ABC):
    """What both libraries have in common: one model in float32, its tokenizer, and how a user generates with it."""

    package: str

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32, use_safetensors=True)
        self.model.eval()
        self.blocks = list(self.model.model.layers)
        self._end_token_ids = self.model.generation_config.eos_token_id
        self._vectors: dict[tuple[str, str], Any] = {}

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in (self.package, "transformers", "torch", "numpy")}

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts))["input_ids"]
        return ids

    def extract(self, pairs: list[list[str]], layers: list[int] | None, batch_size: int | None, side: str, keep: str | None = None) -> Any:
        """Seconds from texts to vectors; with `keep`, the vectors too, in a file of that name. No layers or batch size: the defaults."""
        self.tokenizer.padding_side = side
        reset_peak_memory()
        before = current_memory()
        seconds, vectors = clock(lambda: self.train([(positive, negative) for positive, negative in pairs], layers, batch_size))
        if keep is not None:
            np.savez(keep, **{str(layer): np.asarray(vector, dtype=np.float32) for layer, vector in vectors.items()})
        return {"seconds": seconds, "memory_before": before, "memory_peak": peak_memory()}

    def count(self, pairs: list[list[str]], layers: list[int] | None, batch_size: int | None, side: str) -> dict[str, int]:
        """The tokens that blocks see while extracting, padding included. Not timed."""
        with count_block_tokens(self.blocks) as counted:
            self.extract(pairs, layers, batch_size, side)
        return counted.to_document()

    def generate(
        self, texts: list[str], new_tokens: int, ends: bool, steering: dict[str, Any] | None, batch_size: int | None = None
    ) -> dict[str, Any]:
        """Seconds from texts to texts: greedy, left padding, at most `new_tokens`. Without `ends` nothing stops a reply early."""
        self.tokenizer.padding_side = "left"
        self.model.generation_config.eos_token_id = self._end_token_ids if ends else None
        step = batch_size or len(texts)

        def answer(asked: list[str], tokens: int) -> list[str]:
            with torch.no_grad(), self.steered(steering):
                return [reply for start in range(0, len(asked), step) for reply in self._answer(asked[start : start + step], tokens)]

        answer(texts[:1], WAKING_TOKENS)
        seconds, replies = clock(lambda: answer(texts, new_tokens))
        return {"seconds": seconds, "replies": replies}

    def _answer(self, batch: list[str], new_tokens: int) -> list[str]:
        encoded = self.tokenizer(batch, return_tensors="pt", padding=True)
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        pad = self.tokenizer.pad_token_id
        written = self.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=new_tokens, pad_token_id=pad)
        replies: list[str] = self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        return replies

    def vector(self, steering: dict[str, Any]) -> Any:
        """(d_model,) float32, read from the file once."""
        key = steering["vectors"], str(steering["layer"])
        if key not in self._vectors:
            self._vectors[key] = np.load(key[0])[key[1]]
        return self._vectors[key]

    @abstractmethod
    def train(self, pairs: list[tuple[str, str]], layers: list[int] | None, batch_size: int | None) -> dict[int, Any]:
        """The library's own vectors by layer."""

    @abstractmethod
    def steered(self, steering: dict[str, Any] | None) -> AbstractContextManager[None]:
        """The model under a vector while the block lasts; under none without one."""


class SteeringVectors(Peer):
    package = "steering-vectors"

    def train(self, pairs: list[tuple[str, str]], layers: list[int] | None, batch_size: int | None) -> dict[int, Any]:
        from steering_vectors import train_steering_vector

        given = {} if batch_size is None else {"batch_size": batch_size}
        trained = train_steering_vector(self.model, self.tokenizer, pairs, layers=layers, read_token_index=-1, move_to_cpu=True, **given)
        return dict(trained.layer_activations)

    @contextmanager
    def steered(self, steering: dict[str, Any] | None) -> Iterator[None]:
        from steering_vectors import SteeringVector

        if steering is None:
            yield
            return
        vector = SteeringVector({steering["layer"]: torch.from_numpy(self.vector(steering))})
        # The last column of every chunk is the last prompt token and then all that is generated: our scope `generated`.
        with vector.apply(self.model, multiplier=steering["alpha"], min_token_index=None, token_indices=slice(-1, None)):
            yield


class Repeng(Peer):
    package = "repeng"

    def train(self, pairs: list[tuple[str, str]], layers: list[int] | None, batch_size: int | None) -> dict[int, Any]:
        from repeng import ControlVector, DatasetEntry

        entries = [DatasetEntry(positive, negative) for positive, negative in pairs]
        given: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size, "method": "pca_center"}
        if layers is not None:
            given["hidden_layers"] = layers
        return dict(ControlVector.train(self.model, self.tokenizer, entries, **given).directions)

    @contextmanager
    def steered(self, steering: dict[str, Any] | None) -> Iterator[None]:
        from repeng import ControlModel, ControlVector

        if steering is None:
            yield
            return
        # Steers every position, prompt included: the library knows no other scope.
        layer = steering["layer"]
        control = ControlVector(self.model.config.model_type, {layer: self.vector(steering)})
        wrapped = ControlModel(self.model, [layer])
        wrapped.set_control(control, steering["alpha"])
        try:
            yield
        finally:
            wrapped.unwrap()


def main() -> None:
    library, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    peer = {"steering-vectors": SteeringVectors, "repeng": Repeng}[library](folder, threads)
    serve({name: getattr(peer, name) for name in ("versions", "token_ids", "extract", "count", "generate")})


if __name__ == "__main__":
    main()
