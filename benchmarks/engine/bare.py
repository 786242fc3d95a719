"""Tasks of the worker that measures the floor: transformers alone, without hooks and without steernode.

A bare batched forward pass, truncated at the deepest layer that anybody reads, is what extraction cannot do without; a plain
`model.generate` is what steering is added to.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.processes import serve
from benchmarks.timing import WAKING_TOKENS, clock, current_memory, peak_memory, reset_peak_memory


class Bare:
    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32, use_safetensors=True)
        self.model.eval()
        self._blocks = self.model.model.layers

    def forward(self, texts: list[str], deepest_layer: int, batch_size: int) -> dict[str, float]:
        """Seconds of the passes alone: token ids are ready, rows sorted by length, no padding mask, no head, nothing read."""
        rows = sorted(self.tokenizer(texts)["input_ids"], key=len, reverse=True)
        batches = []
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            longest = len(batch[0])
            batches.append(torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch]))
        self.model.model.layers = self._blocks[: deepest_layer + 1]
        reset_peak_memory()
        before = current_memory()
        try:
            with torch.inference_mode():
                seconds, _ = clock(lambda: [self.model.model(input_ids=batch, use_cache=False) and None for batch in batches])
        finally:
            self.model.model.layers = self._blocks
        tokens = sum(batch.numel() for batch in batches)
        return {"seconds": seconds, "memory_before": before, "memory_peak": peak_memory(), "tokens_at_first_block": tokens}

    def generate(self, texts: list[str], new_tokens: int) -> dict[str, float]:
        """Seconds from texts to texts of one batch: greedy, left padding, exactly `new_tokens` each."""
        self.tokenizer.padding_side = "left"
        self.model.generation_config.eos_token_id = None
        pad = self.tokenizer.pad_token_id

        def answer(asked: list[str], tokens: int) -> list[str]:
            encoded = self.tokenizer(asked, return_tensors="pt", padding=True)
            ids, mask = encoded["input_ids"], encoded["attention_mask"]
            written = self.model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, pad_token_id=pad)
            return self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)

        with torch.inference_mode():
            answer(texts[:1], WAKING_TOKENS)
            seconds, _ = clock(lambda: answer(texts, new_tokens))
        return {"seconds": seconds}


def main() -> None:
    bare = Bare(Path(sys.argv[1]), int(sys.argv[2]))
    serve({"forward": bare.forward, "generate": bare.generate})


if __name__ == "__main__":
    main()
