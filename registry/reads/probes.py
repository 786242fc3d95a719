"""Probes that evidence hangs on: which decided where a candidate acted, and what a document says of one."""

from collections.abc import Mapping
from typing import Any

from registry.models import Evaluation, Probe
from registry.reads.lookups import find_version


def describe_probe(probe: Probe) -> dict[str, Any]:
    """As a revision lists those that its conditions name."""
    return {
        "name": probe.name,
        "version": probe.version,
        "document": probe.document_digest,
        "vector": probe.digest,
        "prompt_set": probe.prompt_set.digest,
        "held_out": {name: probe.held_out[name] for name in ("auc", "true_positive_rate", "false_positive_rate")},
    }


def probes_judged_with(evaluation: Evaluation) -> list[Probe]:
    """Those whose condition decided which items the candidate acted on. Evidence of a vector keeps the condition, that of several
    components the recipe of its job. One that only reads along a vector on record is none of them."""
    components = [{"condition": evaluation.condition}] if evaluation.vector_id else evaluation.job.recipe.get("components", [])
    conditions = [component.get("condition") for component in components]
    asked = [condition for condition in conditions if condition and condition["kind"] == "probe"]
    if not asked:
        return []
    rows = Probe.objects.select_related("prompt_set").filter(digest__in=[condition["vector"]["sha256"] for condition in asked])
    return [probe for probe in rows.order_by("name", "version") if probe.condition in asked]


def probes_named_by(condition: Mapping[str, Any] | None) -> list[Probe]:
    """The one that the condition of a recipe names, if it names one."""
    reference = (condition or {}).get("probe")
    found = find_version(Probe.objects.select_related("prompt_set"), reference) if isinstance(reference, str) else None
    return [found] if found else []
