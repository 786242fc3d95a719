"""The hub as a server, for tests that need sockets, threads or streams; and what is left where a base model got new files."""

import threading
from collections.abc import Iterator
from decimal import Decimal

import httpx
import pytest

from registry.fleet import chores
from registry.models import BaseModel, SteeringVector
from registry.services.base_models import register_base_model
from registry.services.job_requests import request_extraction
from registry.services.jobs import claim_job
from registry.services.results import ExtractionResult, complete_extraction
from steernode.records.sweep import read_sweep
from tests.support.files import vector_file, write_model_folder
from tests.support.hub import serve_hub
from tests.support.working import PICTURE

# More than there are chores; all of them are taken while no test runs.
PLACES = 32
_places = threading.Semaphore(0)


@pytest.fixture(scope="session")
def server(django_db_setup, django_db_blocker) -> Iterator[str]:
    """Its chores stand still between tests: the database may not be asked then, and is emptied."""
    do = chores._do

    def do_within_a_test(chore) -> bool:
        if not _places.acquire(blocking=False):
            return False
        try:
            return do(chore)
        finally:
            _places.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chores, "_do", do_within_a_test)
        with serve_hub() as url:
            yield url


@pytest.fixture(autouse=True)
def _chores_within_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("django_db")
    if "transactional_db" not in request.fixturenames and not (marker and marker.kwargs.get("transaction")):
        yield
        return
    # Emptied after this, and not before.
    request.getfixturevalue("transactional_db")
    _places.release(PLACES)
    yield
    for _ in range(PLACES):
        _places.acquire()


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
