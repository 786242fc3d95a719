"""A job that a worker finishes in seconds: the demo's recipe in small, on the reference model."""

from typing import Any

import pytest

from registry.models import Job
from registry.services.base_models import register_base_model
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.job_requests import request_extraction
from tests.support.demo_data import DATA, ROOT, take


@pytest.fixture
def small_job(ada, settings):
    """One layer, one coefficient, no gate but what a few items can carry. `small_job(source, pairs)` requests it."""
    settings.STEERHUB_MODEL_ROOT = ROOT
    suites = [
        seal_eval_suite(
            "tickets", kind="behaviour", data=take("tickets.jsonl", 4), rubric=(DATA / "empathy.rubric.jsonl").read_bytes(), author=ada
        ),
        seal_eval_suite("facts", kind="factual", data=take("facts.jsonl", 4), author=ada),
        seal_eval_suite("refusals", kind="safety", data=take("refusals.jsonl", 4), author=ada),
    ]

    def request(
        source: str = "demo/model", pairs: bytes = take("empathy.pairs.jsonl", 16), layers: tuple[int, ...] = (4,), **recipe: Any
    ) -> Job:
        return request_extraction(
            base_model=register_base_model("harbor-support", source=source, actor=ada),
            contrast_set=seal_contrast_set("empathy", axis="empathy", data=pairs, author=ada),
            suites=suites,
            recipe={
                "vector": "empathy",
                "layers": list(layers),
                "alphas": ["0", "0.5"],
                "gates": [{"metric": "layer_depth", "kind": "below", "threshold": "0.8"}],
                **recipe,
            },
            actor=ada,
        )

    return request
