"""What a finished job leaves in the record, written with its end or not at all."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import InvalidInput
from registry.models import Evaluation, Job, SteeringVector
from registry.services.chains import follow_extraction, follow_validation
from registry.services.comparisons import compare_evidence, compare_vector
from registry.services.conditions import resolve_condition
from registry.services.jobs import complete_job, end_failed, lock_attempt
from registry.services.transition import transition
from registry.services.vectors import seal_vector
from steernode.canonical import canonical_json
from steernode.errors import SteerError
from steernode.files.vectors import read_vector
from steernode.records.evidence import Evidence
from steernode.records.recipe import CompositionRecipe, ExtractionRecipe, ValidationRecipe
from steernode.records.sweep import Sweep


@dataclass(frozen=True, slots=True)
class ExtractionResult:
    """The chosen direction as a vector file, the search that chose it, and its pictures (PNG). `trace_map` is empty without a trace."""

    vector: bytes
    sweep: Sweep
    heatmap: bytes
    alpha: Decimal
    unit: str
    trace_map: bytes = b""


class FailedSearch(SteerError):
    """An extraction that found no vector: why, the search all the same, and its picture (PNG)."""

    def __init__(self, code: str, message: str, sweep: Sweep, heatmap: bytes) -> None:
        super().__init__(code, message)
        self.args = (code, message, sweep, heatmap)
        self.sweep, self.heatmap = sweep, heatmap


@transition
def complete_extraction(job: Job, result: ExtractionResult) -> SteeringVector | None:
    """running -> succeeded, with its sealed vector. None when another attempt owns the job: nothing is written.

    Raises: InvalidInput VECTOR_EXISTS, because the same recipe over the same inputs makes the same bytes.
    """
    file = read_vector(result.vector, d_model=job.base_model.d_model)
    locked = lock_attempt(job)
    if locked is None or job.contrast_set is None:
        return None
    known = SteeringVector.objects.filter(digest=file.digest).first()
    if known is not None:
        raise InvalidInput(
            "VECTOR_EXISTS",
            f"the recipe made {known} again, byte for byte; validate that one, at α = {result.alpha} {result.unit} or another",
            str(known),
        )
    sweep_digest = put_blob(canonical_json(result.sweep.document))
    vector = seal_vector(
        ExtractionRecipe.from_document(locked.recipe).vector,
        file=file,
        data=result.vector,
        base_model=job.base_model,
        contrast_set=job.contrast_set,
        author=job.requested_by,
        job=locked,
        proposal=(result.alpha, result.unit),
        sweep_digest=sweep_digest,
        heatmap_digest=put_blob(result.heatmap),
        trace_map_digest=put_blob(result.trace_map) if result.trace_map else "",
    )
    record(
        Action.VECTOR_EXTRACTED,
        actor=locked.lease_owner,
        subject=vector,
        details={"digest": vector.digest, "layer": vector.layer, "site": vector.site, "sweep_digest": sweep_digest},
        base_model_fingerprint=job.base_model.fingerprint,
    )
    compare_vector(vector, file.direction, actor=locked.lease_owner)
    complete_job(locked, result_digest=vector.digest)
    follow_extraction(locked, vector)
    return vector


@transition
def fail_search(job: Job, failure: FailedSearch) -> bool:
    """running -> failed, with everything that was measured. False when another attempt owns the job: nothing is written."""
    locked = lock_attempt(job)
    if locked is None:
        return False
    left = {"sweep_digest": put_blob(canonical_json(failure.sweep.document)), "heatmap_digest": put_blob(failure.heatmap)}
    end_failed(locked, code=failure.code, message=failure.message, **left)
    return True


@transition
def complete_validation(job: Job, evidence: Evidence) -> Evaluation | None:
    """running -> succeeded, with its evaluation. None when another attempt owns the job: nothing is written."""
    locked = lock_attempt(job)
    if locked is None or job.vector is None:
        return None
    recipe = ValidationRecipe.from_document(locked.recipe)
    said: dict[str, Any] = {"alpha": recipe.alpha, "unit": recipe.unit}
    measured = {"condition": resolve_condition(recipe.condition), "system_message": recipe.system_message}
    said |= {name: value for name, value in measured.items() if value}
    evaluation = _keep_evidence(locked, evidence, said, vector=job.vector, alpha=Decimal(recipe.alpha), unit=recipe.unit, **measured)
    compare_evidence(evaluation)
    follow_validation(locked, job.vector, evidence)
    return evaluation


@transition
def complete_composition(job: Job, evidence: Evidence) -> Evaluation | None:
    """running -> succeeded, with the evaluation of all components together. None when another attempt owns the job.

    The evidence is of the components that were asked for. If the draft was edited meanwhile, its digest fits the draft no more.
    """
    locked = lock_attempt(job)
    if locked is None or job.revision is None:
        return None
    digest, served = locked.components_digest, CompositionRecipe.from_document(locked.recipe).system_message
    said = {"components_digest": digest, **({"system_message": served} if served else {})}
    return _keep_evidence(locked, evidence, said, revision=job.revision, components_digest=digest, system_message=served)


def _keep_evidence(job: Job, evidence: Evidence, details: dict[str, Any], **subject: Any) -> Evaluation:
    """The document, its row, its event and the end of the job, for a row locked by `lock_attempt`. `subject` is what was judged."""
    digest = put_blob(canonical_json(evidence.document))
    evaluation = Evaluation.objects.create(
        **subject, job=job, digest=digest, metrics=evidence.document["metrics"], gates=evidence.document["gates"], verdict=evidence.verdict
    )
    record(
        Action.EVALUATION_RECORDED,
        actor=job.lease_owner,
        subject=evaluation,
        details={"digest": digest, "verdict": evidence.verdict, **details},
        base_model_fingerprint=job.base_model.fingerprint,
    )
    complete_job(job, result_digest=digest)
    return evaluation
