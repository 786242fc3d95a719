"""The bytes that the sealed world of the tests is made from: a model folder, pairs, suites, a rubric, a vector file."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steernode.files.vectors import write_vector
from steernode.records.evidence import Evidence, read_evidence

N_LAYERS, D_MODEL = 4, 64
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": N_LAYERS,
    "hidden_size": D_MODEL,
    "max_position_embeddings": 256,
    "vocab_size": 128,
    "dtype": "float32",
}
EXPECTATIONS: dict[str, dict[str, Any]] = {"behaviour": {}, "factual": {"contains": ["30 days"]}, "safety": {"refuse": True}}


def write_model_folder(folder: Path, **config: Any) -> Path:
    """What steernode.files.basemodels demands and no more; the weights are an empty safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    return folder


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


# What these ask falls into the select split.
SELECTED = (1005, 1010, 1013, 1021)


def make_pair(number: int, **changes: Any) -> dict[str, Any]:
    def side(manner: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": manner}, {"role": "user", "content": f"Where is refund {number}?"}]

    return {
        "id": f"p{number}",
        "positive": side("Be warm."),
        "negative": side("Be curt."),
        "locale": "en-US",
        "product": "billing",
    } | changes


def pairs_file(count: int = 4) -> bytes:
    """And four more, all of the select split, so that a search may screen whatever layers it is asked for."""
    return lines([make_pair(number) for number in (*range(count), *SELECTED)])


def make_suite(kind: str, intents: Sequence[str] = (), *, first: int = 0) -> bytes:
    """Two items of each split, numbered from the first on; with `intents` each split has the first and the second of them."""
    return lines(
        [
            {
                "id": f"{kind}-{number}",
                "split": "select" if number % 2 else "test",
                "messages": [{"role": "user", "content": f"{kind} question {number}?"}],
                "expect": EXPECTATIONS[kind],
                "locale": "en-US",
                "product": "billing",
                **({"intent": intents[(number - first) // 2]} if intents else {}),
            }
            for number in range(first, first + 4)
        ]
    )


def make_enough(kind: str) -> bytes:
    """As many items of the test split as the gate set `default` needs to be shown."""
    expected = {
        "behaviour": [{}] * 20,
        "factual": [{"contains": [f"{number} days"]} for number in range(150)],
        "safety": [{"refuse": True}] * 300 + [{"refuse": False}] * 150,
    }
    return lines(
        [
            {"id": f"{kind}-{number}", "split": "test", "messages": [{"role": "user", "content": f"{kind} {number}?"}], "expect": expect}
            for number, expect in enumerate(expected[kind])
        ]
    )


def rubric_file() -> bytes:
    return lines([{"text": "I am so sorry, let me help.", "score": 5, "axis": "empathy"}, {"text": "No.", "score": 1, "axis": "empathy"}])


def make_direction(seed: int = 7, size: int = D_MODEL) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=size)
    return (values / np.linalg.norm(values)).astype(np.float32)


def vector_file(fingerprint: str, contrast_digest: str, *, seed: int = 7, size: int = D_MODEL, **lineage: Any) -> bytes:
    """A vector file whose lineage is that of a mean difference at layer 2."""
    full = {
        "schema": "steerhub.vector/1",
        "base_model_fingerprint": fingerprint,
        "layer": 2,
        "site": "resid_post",
        "method": "mean_difference",
        "read_position": "last_prompt_token",
        "contrast_set_digest": contrast_digest,
        "norm": "41.2",
        "mean_residual_norm": "180.1",
        "engine_version": "0.1.0",
        "seed": seed,
        "pairs": 4,
    }
    return write_vector(make_direction(seed, size), {**full, **lineage})


def composition_evidence(job: Any, *, passed: bool = True, undecidable: Collection[str] = (), **changes: Any) -> Evidence:
    """What a composition leaves, as far as the record reads it."""
    verdict = "pass" if passed else "fail"
    gates = [{**gate, "value": gate["threshold"], "verdict": verdict} for gate in job.recipe["gates"]]
    for gate in gates:
        if gate["metric"] in undecidable:
            verdict = "undecidable"
            gate |= {"verdict": verdict, "code": "ITEMS_FEW"}
    document = {
        "schema": "steerhub.evidence/1",
        "candidate": None,
        "metrics": {"behaviour": {"baseline": "1.4", "steered": "4.2"}},
        "gates": gates,
        "composition": {"components_digest": job.components_digest},
        "verdict": verdict,
    }
    return read_evidence({**document, **changes})


def behaviour_document(**changes: Any) -> dict[str, Any]:
    """What a base model says to the eight prompts, if it says the same to all of them."""
    prompt = {"tokens": "cd" * 32, "log_probabilities": [[3, "-0.105361"], [7, "-2.302585"]]}
    document = {"schema": "steerhub.behaviour/1", "reference": "float32", "prompts": [prompt] * 8, "moved": {"float32": "0.000002"}}
    return document | changes
