"""The hub as a server, for tests that need sockets, threads or streams; and what is left where a base model got new files."""

from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from registry.fleet import chores
from registry.models import BaseModel, SteeringVector
from registry.services.base_models import register_base_model
from registry.services.jobs import claim_job, request_extraction
from registry.services.results import ExtractionResult, complete_extraction
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file, write_model_folder
from tests.support.hub import serve_hub
from tests.support.working import PICTURE


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker) -> Iterator[str]:
    # Between tests the database may not be asked, and what fails then is not to be tried again only in ten seconds.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chores, "PAUSE_SECONDS", 0.2)
        with serve_hub() as url:
            yield url


@pytest.fixture
def hub(server, transactional_db) -> str:
    """The URL of the hub, serving the test database."""
    return server


@pytest.fixture
def pull(hub, node) -> Iterator[httpx.Client]:
    """A client with the token of node-1."""
    with httpx.Client(base_url=hub, headers={"Authorization": f"Bearer {node[1]}"}, timeout=20) as client:
        yield client


@pytest.fixture
def new_files(model_root, base_model, ada) -> BaseModel:
    write_model_folder(model_root / "harbor-2", vocab_size=129)
    return register_base_model("harbor-support", source="harbor-2", actor=ada)


@pytest.fixture
def extract(contrast_set, suites, ada):
    """A vector left by a finished extraction: extract(base_model, "empathy", seed=1)."""

    def run(base_model: BaseModel, name: str = "empathy", *, seed: int = 1, **recipe: object) -> SteeringVector:
        job = request_extraction(
            base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": name, **recipe}, actor=ada
        )
        data = vector_file(base_model.fingerprint, contrast_set.digest, seed=seed)
        return complete_extraction(
            claim_job(job.pk, worker="w"), ExtractionResult(data, read_sweep({}), PICTURE, Decimal("0.5"), "mean_difference")
        )

    return run
