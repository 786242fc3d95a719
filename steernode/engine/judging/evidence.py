"""The evidence document: written by one function, and held against the JSON Schema that ships with the kit before anybody sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from steernode import __version__
from steernode.canonical import canonical_json, parse_strict
from steernode.engine.access.models import LoadedModel
from steernode.engine.measuring.gates import judge_evidence, judge_whole
from steernode.engine.measuring.hypotheses import MAX_T
from steernode.engine.measuring.stats import METHODS, RESAMPLES, SEED, measure, reference
from steernode.errors import EngineError
from steernode.power import CONFIDENCE
from steernode.records.evidence import Evidence, read_evidence

SCHEMA = "steerhub.evidence/1"
LIBRARIES = ("torch", "transformers", "numpy", "scipy", "scikit-learn")
STATISTICS = {
    "confidence": measure(CONFIDENCE),
    "resamples": RESAMPLES,
    "seed": SEED,
    "clusters": "factual items by the answer they expect, pairs by what they ask, every other item by itself, with all replies to it",
    "family_wise": MAX_T,
    "non_inferiority": "the one-sided 95 % bound of the share that was right and is not any more; only a net loss sets gains against it",
    "winners_curse": "select minus test; for behaviour the select split's items are taken to vary as the test split's do",
}


def write_evidence(
    loaded: LoadedModel,
    *,
    run: Mapping[str, Any],
    layer_depth: Decimal,
    metrics: Mapping[str, Mapping[str, Any]],
    gates: Sequence[Mapping[str, str]],
    **sections: Any,
) -> Evidence:
    """The whole document with its verdict, from documents of its sections; all numbers decimal strings or integers.

    The schema says which sections there are. It is of one `candidate`, or of several components together, which `composition` then
    tells of.
    Raises: EngineError EVIDENCE_INVALID naming the path; GATE_UNMEASURED, GATE_INVALID; CanonicalError.
    """
    verdicts = judge_evidence(gates, {**metrics, **describe_depth(layer_depth)})
    engine = describe_engine(loaded)
    document = {
        "schema": SCHEMA,
        "run": {**run, "engine": engine},
        "engine": engine,
        "metrics": dict(metrics),
        "gates": verdicts,
        "verdict": judge_whole(verdicts),
        "statistics": STATISTICS,
        "interval_methods": METHODS,
        **sections,
    }
    check_evidence(document)
    return read_evidence(document)


def describe_depth(layer_depth: Decimal) -> dict[str, dict[str, Any]]:
    """What is known of a candidate before anything is measured, as gates read it."""
    return {"layer_depth": {"steered": reference(float(layer_depth), 1).to_document()}}


def check_evidence(document: Mapping[str, Any]) -> None:
    """Raises: EngineError EVIDENCE_INVALID naming the path of what the schema does not allow; CanonicalError for a float."""
    error = best_match(_validator().iter_errors(document))
    if error is not None:
        raise EngineError("EVIDENCE_INVALID", f"the evidence is not valid at {error.json_path}: {error.message[:300]}", error.json_path)
    canonical_json(document)


def describe_engine(loaded: LoadedModel) -> dict[str, str]:
    """The versions, number format, device and kernels that the numbers come from."""
    ran_on = loaded.ran_on
    return {
        "steernode": __version__,
        **{name: version(name) for name in LIBRARIES},
        "dtype": ran_on.pop("model_dtype"),
        "device": loaded.device.type,
        **ran_on,
    }


@cache
def _validator() -> Draft202012Validator:
    schema = parse_strict(files("steernode.engine").joinpath("data/evidence-1.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
