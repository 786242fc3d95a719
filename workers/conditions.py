"""What a job's results depend on beside its steps. A step that was measured under other conditions is no step of this attempt."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import steernode
import workers
from registry.models import Job
from steernode.canonical import canonical_json, sha256_hex

if TYPE_CHECKING:
    from steernode.engine.access.models import LoadedModel

# Whose arithmetic, tokens or scores another version may change.
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "jinja2")


def digest_conditions(job: Job, loaded: LoadedModel) -> str:
    """Of the attempt of this job on this model, in this process."""
    return sha256_hex(canonical_json(describe_conditions(job, loaded)))


def describe_conditions(job: Job, loaded: LoadedModel) -> dict[str, Any]:
    """Whoever computes in another dtype, on another kind of device or with other kernels gets other bits."""
    import torch

    return {
        "kind": job.kind,
        "recipe": job.recipe,
        "base_model_fingerprint": loaded.fingerprint,
        "contrast_set": job.contrast_set.digest if job.contrast_set else None,
        "prompt_set": job.prompt_set.digest if job.prompt_set else None,
        "vector": job.vector.digest if job.vector else None,
        "components": job.components_digest,
        "suites": sorted(f"{suite.kind} {suite.digest} {suite.rubric_digest}" for suite in job.suites.all()),
        "architecture": loaded.architecture_digest,
        "ran_on": loaded.ran_on,
        # Batches are cut for so many cores.
        "threads": torch.get_num_threads(),
        "code": _digest_code(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


@lru_cache(maxsize=1)
def _digest_code() -> str:
    """Of every file of the engine and the workers, as this process found them first."""
    digest = sha256()
    for package in (steernode, workers):
        folder = Path(str(package.__file__)).parent
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(folder.parent)} ".encode() + sha256(path.read_bytes()).digest())
    return digest.hexdigest()
