"""What is measured on one loaded model: loading, reading, decoding, and what happens when memory runs out. One document each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.engine.ours import Endless
from benchmarks.engine.workloads import Texts
from benchmarks.timing import alternate, clock, ratio, summarize
from steernode.engine.access.costs import batch_costs
from steernode.engine.access.encoding import EncodedConversation, encode_texts
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying import steppers
from steernode.engine.applying.components import Component
from steernode.engine.applying.fixedcheck import refuse_fixed
from steernode.engine.applying.generate import Reply, generate
from steernode.engine.reading.directions import LayerDirection, extract_encoded
from steernode.engine.reading.window import CaptureStats
from steernode.files.conversations import Message
from steernode.gates import candidate_layers

# What the bare passes are tried with; the fastest is compared with.
BARE_BATCHES = (32, 64, 128)
ROWS = (1, 16, 64)
Pairs = list[tuple[EncodedConversation, EncodedConversation]]


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def measure_bandwidth(device: torch.device, mebibytes: int) -> float:
    """Bytes a second of a copy within the device's memory, which are read and written."""
    source = torch.ones(mebibytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        wait(device)

    copy()
    return 2 * source.numel() / min(clock(copy)[0] for _ in range(5))


def measure_loading(folder: Path, dtype: str, device: str) -> tuple[dict[str, Any], LoadedModel]:
    """Ours, with every file hashed, and bare transformers."""
    from transformers import AutoModelForCausalLM

    def bare() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=getattr(torch, dtype), use_safetensors=True, device_map=None
        ).to(device)

    seconds, loaded = clock(lambda: load_model(folder, dtype=dtype, device=device))
    loaded = Endless(**vars(loaded))
    bare_seconds, model = clock(bare)
    del model
    return {"seconds": seconds, "bare_seconds": bare_seconds, "gigabytes": _weight_bytes(loaded) / 1e9}, loaded


def measure_reading(loaded: LoadedModel, texts: Texts, pairs: int, repeats: int) -> Iterator[dict[str, Any]]:
    """From token ids to directions at the candidate layers, beside the bare pass over the same tokens, truncated at the deepest of them."""
    for kind in ("system_contrast", "shared_prefix", "nothing_shared"):
        strings = getattr(texts, kind)(pairs)
        flat = encode_texts(loaded, [text for pair in strings for text in pair])
        encoded: Pairs = list(zip(flat[::2], flat[1::2], strict=True))
        stats = CaptureStats()
        extract_encoded(loaded, encoded, stats=stats)
        works: dict[str, Callable[[], float]] = {"ours": lambda encoded=encoded: clock(lambda: extract_encoded(loaded, encoded))[0]}
        for size in BARE_BATCHES:
            works[f"bare, {size}"] = _bare_pass(loaded, flat, size)
        times = alternate(works, repeats=repeats, warmups=1)
        best = min((name for name in times if name != "ours"), key=lambda name: sorted(times[name])[len(times[name]) // 2])
        yield {
            "pairs": kind.replace("_", " "),
            "count": len(encoded),
            "sides": {name: summarize(seconds) for name, seconds in times.items()},
            "fastest_bare": best,
            "over_bare": ratio(times[best], times["ours"]),
            "capture": stats.to_document(),
        }


def measure_decoding(loaded: LoadedModel, texts: Texts, new_tokens: int, repeats: int, bandwidth: float) -> Iterator[dict[str, Any]]:
    """Milliseconds a step, captured and over a growing cache, beside what reading the weights and the cache once takes."""
    layer = candidate_layers(loaded.n_layers)[-1]
    direction = torch.nn.functional.normalize(torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(7)), dim=0)
    for rows in ROWS:
        conversations = [(Message("user", text),) for text in texts.prompts(rows)]
        alphas = torch.linspace(0.5, 2.0, len(conversations))[:, None]
        ways: dict[str, dict[str, Any]] = {
            "unsteered": {},
            "one layer": {"components": [Component(direction, layer, 1.0)]},
            "an α for each row": {"components": [Component(direction, layer, 0.0)], "row_coefficients": alphas},
        }

        def answer(asked: dict[str, Any], tokens: int, conversations: Sequence[Any] = conversations) -> list[Reply]:
            return generate(loaded, conversations, max_new_tokens=tokens, **asked)

        # A step is what more tokens take more: prompts, encoding and capture are in both.
        def step(asked: dict[str, Any], answer: Callable[..., list[Reply]] = answer) -> float:
            short, _ = clock(lambda: answer(asked, new_tokens // 4))
            long, _ = clock(lambda: answer(asked, new_tokens))
            return (long - short) / (new_tokens - new_tokens // 4)

        works = {name: lambda asked=asked: step(asked) for name, asked in ways.items()}
        times = alternate(works, repeats=repeats, warmups=1)
        replies = {name: [reply.token_ids for reply in answer(asked, new_tokens)] for name, asked in ways.items()}
        with growing_cache():
            grown = alternate({f"{name}, growing cache": work for name, work in works.items()}, repeats=1, warmups=1)
            same = {name: _share_alike(replies[name], answer(asked, new_tokens)) for name, asked in ways.items()}
        prompt_tokens = sum(reply.prompt_tokens for reply in answer(ways["unsteered"], 1))
        floor = _step_bytes(loaded, prompt_tokens + rows * new_tokens // 2) / bandwidth
        yield {
            "rows": rows,
            "new_tokens": new_tokens,
            "ms_per_step": {name: 1000 * summarize(seconds)["median_s"] for name, seconds in (times | grown).items()},
            "floor_ms": 1000 * floor,
            "over_floor": {name: summarize(seconds)["median_s"] / floor for name, seconds in times.items()},
            "share_of_tokens_as_over_a_growing_cache": same,
        }


def measure_building(loaded: LoadedModel, texts: Texts) -> dict[str, Any]:
    """What the first reply of a form of steering costs more than the next, and that another α, vector and row build nothing."""
    room = steppers.find_room(loaded)
    conversations = [(Message("user", text),) for text in texts.prompts(4)]
    first: list[float] = []
    builds: list[int] = []
    for seed in range(4):
        direction = torch.nn.functional.normalize(torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed)), dim=0)
        component = Component(direction, 1, 0.5 * (seed + 1), operator="ablate" if seed == 0 else "add", preserve_norm=seed > 0)
        first.append(clock(lambda component=component: generate(loaded, conversations, components=[component], max_new_tokens=8))[0])
        builds.append(room.builds if room else 0)
    return {"seconds": first, "builds": [after - before for before, after in pairwise(builds)]}


def measure_memory_running_out(loaded: LoadedModel, texts: Texts, pairs: int, spare: int) -> dict[str, Any]:
    """With `spare` bytes of the card left beside the model, batches have to be halved: whether they were, and gave the same."""
    if loaded.device.type != "cuda":
        return {"left_out": "only a GPU's memory can be made small"}
    flat = encode_texts(loaded, [text for pair in texts.nothing_shared(pairs) for text in pair])
    encoded: Pairs = list(zip(flat[::2], flat[1::2], strict=True))
    whole = extract_encoded(loaded, encoded)
    conversations = [(Message("user", text),) for text in texts.prompts(128)]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(loaded.device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated(loaded.device) + spare) / total, loaded.device)
    try:
        seconds, cramped = clock(lambda: extract_encoded(loaded, encoded, max_batch_tokens=1 << 20))
        replies = len(generate(loaded, conversations, max_new_tokens=64))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, loaded.device)
    return {"seconds": seconds, "replies": replies, "least_cosine": _least_cosine(whole, cramped)}


def describe_way(loaded: LoadedModel) -> dict[str, Any]:
    costs = batch_costs(loaded)
    refused = refuse_fixed(loaded)
    return {"overhead_tokens": costs.overhead_tokens, "scale": costs.scale, "fixed_buffers": refused or "as the self-check wants them"}


@contextmanager
def growing_cache() -> Iterator[None]:
    """As if no model took fixed buffers."""
    found = steppers.find_room
    steppers.find_room = lambda _loaded: None
    try:
        yield
    finally:
        steppers.find_room = found


def _bare_pass(loaded: LoadedModel, rows: Sequence[EncodedConversation], size: int) -> Callable[[], float]:
    ordered = sorted((row.token_ids for row in rows), key=len, reverse=True)
    batches: list[Tensor] = []
    for start in range(0, len(ordered), size):
        batch = ordered[start : start + size]
        batches.append(torch.tensor([[*row, *[0] * (len(batch[0]) - len(row))] for row in batch], device=loaded.device))
    deepest = candidate_layers(loaded.n_layers)[-1]

    @torch.inference_mode()
    def run() -> None:
        whole, loaded.decoder.layers = loaded.decoder.layers, loaded.decoder.layers[: deepest + 1]
        try:
            for batch in batches:
                loaded.decoder(input_ids=batch, use_cache=False)
            wait(loaded.device)
        finally:
            loaded.decoder.layers = whole

    return lambda: clock(run)[0]


def _weight_bytes(loaded: LoadedModel) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in loaded.model.parameters())


def _step_bytes(loaded: LoadedModel, cached_tokens: int) -> float:
    """All weights but the table of embeddings, of which a step reads a row or two, and the keys and values of all tokens."""
    table = loaded.model.get_input_embeddings().weight
    config = loaded.model.config
    size = table.element_size()
    cached = cached_tokens * 2 * loaded.n_layers * config.num_key_value_heads * (loaded.d_model // config.num_attention_heads) * size
    return _weight_bytes(loaded) - table.numel() * size + cached


def _share_alike(ours: Sequence[Sequence[int]], others: Sequence[Reply]) -> float:
    """Tokens before the first that differs: two ways round differently, and random weights find many tokens nearly as likely."""
    alike = total = 0
    for one, other in zip(ours, others, strict=True):
        total += len(one)
        alike += next((index for index, (a, b) in enumerate(zip(one, other.token_ids, strict=False)) if a != b), len(one))
    return alike / total


def _least_cosine(these: Sequence[LayerDirection], those: Sequence[LayerDirection]) -> float:
    return min(
        float(torch.nn.functional.cosine_similarity(one.direction.double(), other.direction.double(), dim=0))
        for one, other in zip(these, those, strict=True)
    )
