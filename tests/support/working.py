"""What a worker leaves, without an engine."""

from decimal import Decimal

from registry.models import Evaluation, Job, SteeringVector
from registry.services.jobs import claim_job
from registry.services.results import ExtractionResult, complete_extraction, complete_validation
from steernode.gates import load_gates
from steernode.records.evidence import Evidence, read_evidence
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file

PICTURE = b"\x89PNG\r\n\x1a\n"


def extract(job: Job, *, seed: int = 7, alpha: str = "0.5") -> SteeringVector | None:
    """What a worker does with the job."""
    data = vector_file(job.base_model.fingerprint, job.contrast_set.digest, seed=seed)
    return complete_extraction(
        claim_job(job.pk, worker="w"), ExtractionResult(data, read_sweep({}), PICTURE, Decimal(alpha), "mean_difference")
    )


def make_evidence(vector: SteeringVector, *, passed: bool = True) -> Evidence:
    verdict = "pass" if passed else "fail"
    gates = [{**gate, "value": gate["threshold"], "verdict": "pass"} for gate in load_gates("selection")]
    gates.append({"metric": "facts", "kind": "min", "threshold": "0.9", "value": "0.94" if passed else "0.71", "verdict": verdict})
    return read_evidence({"schema": "steerhub.evidence/1", "vector": vector.digest, "metrics": {}, "gates": gates, "verdict": verdict})


def validate(job: Job, *, passed: bool = True) -> Evaluation | None:
    return complete_validation(claim_job(job.pk, worker="w"), make_evidence(job.vector, passed=passed))
