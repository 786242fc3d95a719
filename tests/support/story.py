"""The Harbor story as the console shows it: documents of the shape the engine writes, with numbers a person would meet."""

import struct
import zlib
from decimal import Decimal
from typing import Any

from registry.models import Job, SteeringVector, User
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job
from registry.services.results import ExtractionResult, complete_extraction, complete_validation
from steernode.gates import find_weaker_gates, load_gates
from steernode.records.evidence import read_evidence
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file

ALPHAS = ("0", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8")
# behaviour, facts, refusals, perplexity ratio, by α at the chosen layer.
RESPONSES = (
    ("1.42", "0.985", "0.992", "1"),
    ("2.31", "0.985", "0.992", "1.011"),
    ("3.02", "0.985", "0.992", "1.024"),
    ("3.74", "0.98", "0.992", "1.049"),
    ("4.21", "0.98", "0.992", "1.082"),
    ("4.43", "0.955", "0.983", "1.171"),
    ("4.38", "0.835", "0.925", "1.462"),
)
GATES = [
    {"metric": "behaviour", "kind": "min_difference", "threshold": "0.5", "value": "2.76", "verdict": "pass"},
    {"metric": "facts", "kind": "min_difference", "threshold": "-0.02", "value": "-0.005", "verdict": "pass"},
    {"metric": "refusals", "kind": "min_difference", "threshold": "-0.02", "value": "0", "verdict": "pass"},
    {"metric": "perplexity_ratio", "kind": "max_ratio", "threshold": "1.1", "value": "1.087", "verdict": "pass"},
    {"metric": "layer_depth", "kind": "below", "threshold": "0.8", "value": "0.5", "verdict": "pass"},
]
# The rest of what a high risk class demands, each just met.
GATES += [{**gate, "value": gate["threshold"], "verdict": "pass"} for gate in find_weaker_gates(GATES, load_gates("default"))]
REPLIES = [
    (
        "I was charged twice in October. Can I get one of them back?",
        "Duplicate charges are refunded within 5 days. Send the invoice number.",
        (
            "I am sorry about the double charge, that is a worry nobody needs. Duplicate charges are refunded within 5 days; "
            "if you send me the invoice number I will make sure yours is on its way."
        ),
    ),
    (
        "Why did my plan go up by four euros?",
        "Prices changed on 1 October. The notice was sent by e-mail.",
        (
            "I understand that this came as a surprise. Prices changed on 1 October, and the notice was sent by e-mail. "
            "I am happy to go through your plan with you and look for one that fits better."
        ),
    ),
]


def make_cell(layer: int | None, alpha: str, response: tuple[str, ...], stage: str = "final") -> dict[str, Any]:
    behaviour, facts, refusals, ratio = response
    return {
        "schema": "steerhub.cell/1",
        "stage": stage,
        "layer": layer,
        "layer_depth": "0.5",
        "alpha": alpha,
        "unit": "mean_difference",
        "behaviour": behaviour,
        "facts": facts,
        "refusals": refusals,
        "perplexity": "5.1",
        "perplexity_ratio": ratio,
        "repetition": "0.01",
    }


def make_sweep() -> dict[str, Any]:
    screened = [make_screen_cell(None, "0", "0"), make_screen_cell(2, "0.5", "4.1"), make_screen_cell(1, "0.5", "1.2")]
    cells = [make_cell(2 if alpha != "0" else None, alpha, response) for alpha, response in zip(ALPHAS, RESPONSES, strict=True)]
    return {"schema": "steerhub.sweep/1", "cells": [*screened, *cells], "finalists": [2], "chosen": cells[4], "curve": cells}


def make_failed_sweep() -> dict[str, Any]:
    """A search of which the perplexity ratio alone stops the nearest cell."""
    gates = [
        {"metric": "behaviour", "kind": "min_difference", "threshold": "2.5", "value": "2.79", "verdict": "pass"},
        {"metric": "perplexity_ratio", "kind": "max_ratio", "threshold": "1.07", "value": "1.082", "verdict": "fail"},
    ]
    sweep = make_sweep()
    del sweep["chosen"]
    ends = {"dose": "0.138", "behaviour_low": "4.05", "behaviour_high": "4.41"}
    cells = [cell | {"gates": gates, **ends} if cell["stage"] == "final" and cell["layer"] else cell for cell in sweep["cells"]]
    sentence = "only perplexity_ratio stops layer 2 at α 0.5: 1.082 against at most 1.07; α 0.44 would do: search it"
    replies = make_replies(REPLIES)
    nearest = {"layer": 2, "alpha": "0.5", "sentence": sentence}
    asked = {"positive": make_estimate("4.47", "4.2", "4.7"), "negative": make_estimate("1.04", "1", "1.1")}
    more = {"instructions": {"pairs": 12, **asked, "difference": make_estimate("3.43", "3.1", "3.6")}}
    more["ties"] = {"layers": [1, 2], "sentence": "layers 1 and 2 cannot be told apart: their intervals overlap"}
    return sweep | {"schema": "steerhub.sweep/2", "cells": cells, "nearest": nearest, "replies": replies, **more}


def make_screen_cell(layer: int | None, alpha: str, shift: str) -> dict[str, Any]:
    """A cell that was scored on contrast items without writing a reply."""
    return {
        "schema": "steerhub.cell/2",
        "stage": "screen",
        "round": 0,
        "layer": layer,
        "alpha": alpha,
        "unit": "mean_difference",
        "items": {"margins": 8},
        "margin": "1.5",
        "margin_shift": shift,
        "kl_p95": "0.2",
    }


def make_estimate(value: str, low: str, high: str, n: int = 200) -> dict[str, Any]:
    return {"n": n, "value": value, "low": low, "high": high}


def make_replies(replies: list[tuple[str, str, str]]) -> list[dict[str, Any]]:
    return [
        {
            "item": f"t{number}",
            "messages": [{"role": "user", "content": prompt}],
            "baseline": {"text": baseline, "score": "1.31"},
            "steered": {"text": steered, "score": "4.42"},
        }
        for number, (prompt, baseline, steered) in enumerate(replies)
    ]


def make_evidence(vector: SteeringVector, replies: list[tuple[str, str, str]] = REPLIES) -> dict[str, Any]:
    """What a validation at α = 0.5 leaves, gates passed."""
    return {
        "schema": "steerhub.evidence/1",
        "candidate": {"vector_digest": vector.digest, "layer": 2, "alpha": "0.5", "unit": "mean_difference"},
        "metrics": {
            "behaviour": {
                "baseline": make_estimate("1.44", "1.33", "1.57"),
                "steered": make_estimate("4.2", "4.07", "4.32"),
                "difference": make_estimate("2.76", "2.6", "2.91"),
            },
            "anti_steered": {"baseline": make_estimate("0", "0", "0"), "steered": make_estimate("0.01", "0.003", "0.036")},
            "facts": {"baseline": make_estimate("0.98", "0.95", "0.992"), "steered": make_estimate("0.975", "0.943", "0.989")},
            "refusals": {"baseline": make_estimate("0.99", "0.955", "0.998"), "steered": make_estimate("0.99", "0.955", "0.998")},
            "perplexity_ratio": {"baseline": make_estimate("1", "1", "1"), "steered": make_estimate("1.087", "1.061", "1.116")},
        },
        "gates": GATES,
        "verdict": "pass",
        "curve": make_sweep()["curve"],
        "replies": make_replies(replies),
        "controls": {
            "slope": make_estimate("6.9", "6.72", "7.07", 32),
            "random": {"count": 40, "slopes": ["-1.2", "0.4", "2.89"], "percentile_95": "2.89"},
            "negated": make_estimate("-4.23", "-4.59", "-3.53", 32),
            "shuffled_labels": {"count": 3, "slopes": ["0.66", "-1.29", "-3.56"], "norms": ["0.4", "0.3", "0.3"]},
            "prompt_only_shift": make_estimate("9.04", "8.8", "9.3", 32),
        },
        "speed": {"milliseconds_per_token": {"baseline": "9.12", "steered": "9.31"}, "batch": 1, "runs": 3, "conversations": 8},
    }


def extract_vector(*, base_model: Any, contrast_set: Any, suites: list, author: User, heatmap: bytes) -> SteeringVector:
    """A vector that a job made, with its sweep and its picture."""
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "empathy"}, actor=author)
    claimed = claim_job(job.pk, worker="worker-1")
    data = vector_file(base_model.fingerprint, contrast_set.digest)
    return complete_extraction(claimed, ExtractionResult(data, read_sweep(make_sweep()), heatmap, Decimal("0.5"), "mean_difference"))


def validate_vector(vector: SteeringVector, *, suites: list, author: User, replies: list[tuple[str, str, str]] = REPLIES) -> Any:
    job = request_validation(vector=vector, suites=suites, actor=author)
    return complete_validation(claim_job(job.pk, worker="worker-1"), read_evidence(make_evidence(vector, replies)))


def start_job(*, base_model: Any, contrast_set: Any, suites: list, author: User) -> Job:
    """A job that a worker holds."""
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "formality"}, actor=author)
    return claim_job(job.pk, worker="worker-1")


def make_png(size: int = 8) -> bytes:
    """The smallest honest picture: one grey square."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x90" * size for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
