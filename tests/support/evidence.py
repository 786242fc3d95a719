"""Evidence without what no two runs have in common."""

from typing import Any

from registry.blobs import get_blob
from registry.models import Job
from steernode.canonical import parse_strict


def read_measured(job: Job) -> dict[str, Any]:
    """The document that a job left, without the time that its replies took."""
    document: dict[str, Any] = parse_strict(get_blob(job.result_digest))
    return {name: value for name, value in document.items() if name != "speed"}
