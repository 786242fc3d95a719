"""What a worker leaves, without an engine."""

from decimal import Decimal
from typing import Any

from registry.models import Evaluation, Job, Probe, SteeringVector
from registry.services.jobs import claim_job
from registry.services.probes import ProbeResult, complete_probe
from registry.services.results import ExtractionResult, complete_extraction, complete_validation
from steernode.canonical import sha256_hex
from steernode.gates import load_gates
from steernode.records.evidence import Evidence, read_evidence
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file

AUC = {"n": 40, "clusters": 40, "value": "0.97", "low": "0.91", "high": "0.99", "method": "newcombe_auc"}
RATE = {"n": 20, "clusters": 20, "value": "0.9", "low": "0.7", "high": "0.97", "method": "wilson"}
PICTURE = b"\x89PNG\r\n\x1a\n"


def extract(job: Job, *, seed: int = 7, alpha: str = "0.5") -> SteeringVector | None:
    """What a worker does with the job."""
    data = vector_file(job.base_model.fingerprint, job.contrast_set.digest, seed=seed)
    return complete_extraction(
        claim_job(job.pk, worker="w"), ExtractionResult(data, read_sweep({}), PICTURE, Decimal(alpha), "mean_difference")
    )


def train(job: Job, *, layer: int = 1, threshold: str = "0.2", seed: int = 11) -> Probe | None:
    """What a worker leaves of a probe."""
    arguments = job.recipe["template_arguments"]
    lineage = {"layer": layer, "method": "logistic_probe", **({"template_arguments": arguments} if arguments else {})}
    data = vector_file(job.base_model.fingerprint, job.prompt_set.digest, seed=seed, **lineage)
    entry = {"sha256": sha256_hex(data), "bytes": len(data), "dtype": "F32", "shape": [job.base_model.d_model]}
    place = {"layer": layer, "site": "resid_post", "read_position": "last_prompt_token"}
    condition = {"kind": "probe", "vector": entry, **place, "scale": "3.1", "bias": "-0.4", "threshold": threshold}
    judged = {"positives": 20, "negatives": 20, "auc": AUC, "true_positive_rate": RATE, "false_positive_rate": {**RATE, "value": "0.05"}}
    held_out = {**judged, "by_locale": {"en-GB": judged}, "by_kind": {}, "roc": []}
    document = {"schema": "steerhub.probe/1", **condition, "prompt_set": job.prompt_set.digest, "held_out": held_out}
    document["layers"] = [{"layer": each} for each in job.recipe["layers"]]
    return complete_probe(claim_job(job.pk, worker="w"), ProbeResult(data, document, condition, PICTURE))


def make_evidence(vector: SteeringVector, *, passed: bool = True, note: str = "") -> Evidence:
    """With a `note` nothing can be concluded on facts, and it says why."""
    verdict = "undecidable" if note else "pass" if passed else "fail"
    gates = [{**gate, "value": gate["threshold"], "verdict": "pass"} for gate in load_gates("selection")]
    gates.append({"metric": "facts", "kind": "min", "threshold": "0.9", "value": "0.94" if passed else "0.71", "verdict": verdict})
    gates[-1] |= {"note": note, "code": "ITEMS_FEW"} if note else {}
    return read_evidence({"schema": "steerhub.evidence/1", "vector": vector.digest, "metrics": {}, "gates": gates, "verdict": verdict})


def validate(job: Job, **outcome: Any) -> Evaluation | None:
    return complete_validation(claim_job(job.pk, worker="w"), make_evidence(job.vector, **outcome))
