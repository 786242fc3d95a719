"""Comparisons: a new version of a vector is held against the one it replaces, when it is sealed and when both are evaluated."""

from decimal import Decimal
from typing import Any

import numpy as np
from django.db.models import Q
from numpy.typing import NDArray

from registry.audit import Action, Actor, record
from registry.blobs import get_blob
from registry.models import Evaluation, SteeringVector, VectorComparison
from steernode.canonical import format_decimal
from steernode.errors import SteerError
from steernode.files.vectors import read_vector
from steernode.records.evidence import Metric, read_metrics
from steernode.snapshot.conditions import are_same_conditions
from steernode.snapshot.resolve import convert_alpha

_MILLIONTHS = Decimal("0.000001")
_NOT_YET = "not both are evaluated yet"
_LONGEST = 300


def compare_vector(vector: SteeringVector, direction: NDArray[np.float32], *, actor: Actor) -> None:
    """A comparison of a sealed vector with what it replaces, if it replaces anything: the vector whose proposal the job was queued by,
    or else the version before."""
    replaced = _find_replaced(vector)
    if replaced is None:
        return
    cosine, missing = _measure_cosine(vector, direction, replaced)
    VectorComparison.objects.create(
        vector=vector, replaced=replaced, cosine=cosine, cosine_missing=missing[:_LONGEST], evidence_missing=_NOT_YET
    )
    record(
        Action.VECTOR_COMPARED,
        actor=actor,
        subject=vector,
        details={
            "replaced": str(replaced),
            "replaced_digest": replaced.digest,
            "cosine": _write(cosine),
            "cosine_missing": missing[:_LONGEST],
            "layers": [replaced.layer, vector.layer],
            "alpha_residual": [_write(alpha_in_residual(replaced)), _write(alpha_in_residual(vector))],
        },
        base_model_fingerprint=vector.base_model.fingerprint,
    )


def _find_replaced(vector: SteeringVector) -> SteeringVector | None:
    known = SteeringVector.objects.select_related("base_model")
    proposed = known.filter(proposals__job=vector.job).first() if vector.job else None
    return proposed or known.filter(name=vector.name, version__lt=vector.version).order_by("-version").first()


def _measure_cosine(vector: SteeringVector, direction: NDArray[np.float32], replaced: SteeringVector) -> tuple[Decimal | None, str]:
    """Of two directions in one place of models of one width; elsewhere a cosine would be a number that means nothing."""
    for noun, new, old in (
        ("d_model", vector.d_model, replaced.d_model),
        ("layer", vector.layer, replaced.layer),
        ("site", vector.site, replaced.site),
    ):
        if new != old:
            return None, f"no cosine across places: the {noun} was {old} and is {new}"
    try:
        before = read_vector(get_blob(replaced.digest), d_model=replaced.d_model).direction.astype(np.float64)
    except SteerError as error:
        return None, f"the file of {replaced} cannot be read: {error.code}"
    after = direction.astype(np.float64)
    cosine = float(before @ after / (np.linalg.norm(before) * np.linalg.norm(after)))
    # Rounding may carry a cosine of equal directions past 1.
    return Decimal(str(max(-1.0, min(1.0, cosine)))).quantize(_MILLIONTHS), ""


def _write(number: Decimal | None) -> str | None:
    return None if number is None else format_decimal(number)


def alpha_in_residual(vector: SteeringVector) -> Decimal | None:
    """The proposed α as a fraction of the residual stream's mean norm, the one unit that compares across layers and models."""
    if vector.proposed_alpha is None:
        return None
    norms = {"norm": vector.norm, "mean_residual_norm": vector.mean_residual_norm}
    return convert_alpha(vector.proposed_alpha, from_unit=vector.proposed_unit, to_unit="residual", **norms).quantize(_MILLIONTHS)


def compare_evidence(evaluation: Evaluation) -> None:
    """Fill in the evidence of the comparisons that this evaluation of a vector completes, once the evaluation is written.

    Of two validations that end at once, the second to lock their comparison sees the evaluation of the first.
    """
    waiting = VectorComparison.objects.filter(Q(vector=evaluation.vector_id) | Q(replaced=evaluation.vector_id), evidence__isnull=True)
    for comparison in waiting.select_for_update().order_by("pk"):
        both = [comparison.vector_id, comparison.replaced_id]
        evaluations = {found.vector_id: found for found in Evaluation.objects.filter(vector__in=both)}
        if len(evaluations) < 2:
            continue
        new, old = evaluations[comparison.vector_id], evaluations[comparison.replaced_id]
        if differing := _find_differing(new, old):
            comparison.evidence_missing = f"the two were evaluated {differing}, so their metrics do not compare"
        else:
            comparison.evidence, comparison.evidence_missing = _subtract(read_metrics(new.metrics), read_metrics(old.metrics)), ""
        comparison.save(update_fields=["evidence", "evidence_missing"])


def _find_differing(new: Evaluation, old: Evaluation) -> str:
    """What of two evaluations makes their metrics say different things; empty if nothing does."""
    if _suites_of(new) != _suites_of(old):
        return "with other suites"
    if not are_same_conditions(new.condition, old.condition):
        return "under other conditions"
    return "under other system messages" if new.system_message != old.system_message else ""


def _suites_of(evaluation: Evaluation) -> set[Any]:
    return set(evaluation.job.suites.values_list("pk", flat=True))


def _subtract(new: dict[str, Metric], old: dict[str, Metric]) -> dict[str, dict[str, str]]:
    """Each metric that both have, of the steered replies: before, after, and the difference."""
    found = {}
    for name in sorted(set(new) & set(old)):
        after, before = new[name].steered, old[name].steered
        if after is not None and before is not None:
            values = {"replaced": before.value, "vector": after.value, "difference": after.value - before.value}
            found[name] = {key: format_decimal(value) for key, value in values.items()}
    return found
