"""A class that the product does not know, taught by a file of the operator's: registered, extracted by a worker, published and served."""

import json
import shutil
from decimal import Decimal

import pytest
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from registry.blobs import get_blob
from registry.models import JobState
from registry.services.approvals import approve_revision
from registry.services.base_model_moves import move_environment
from registry.services.flags import set_flag
from registry.services.profiles import draft_revision, submit_revision
from registry.snapshots import trust_document
from steernode.dsse import TrustedKeys
from steernode.errors import ModelError
from steernode.files.architectures import find_family, learn_architectures
from steernode.files.conversations import Message
from steernode.files.vectors import read_vector
from steernode.hub.client import FleetClient
from steernode.integrations.transformers import TransformersEngine
from steernode.node.follower import Follower, PollOutcome
from steernode.node.responder import Responder
from tests.support.architectures import describe_otherwise, write_architecture
from tests.support.components import add
from tests.support.demo_data import ROOT
from tests.support.hub import serve_hub
from tests.support.nodes import KEY, enroll
from workers.extraction import extract
from workers.running import run_job

pytestmark = pytest.mark.django_db(transaction=True)


class QuayConfig(LlamaConfig):
    model_type = "quay"


class QuayForCausalLM(LlamaForCausalLM):
    config_class = QuayConfig


@pytest.fixture
def quay(tmp_path, settings, monkeypatch):
    """The reference model as a class of another name, under the folder of models."""
    AutoConfig.register("quay", QuayConfig, exist_ok=True)
    monkeypatch.setattr("transformers.QuayForCausalLM", QuayForCausalLM, raising=False)
    folder = shutil.copytree(ROOT / "demo/model", tmp_path / "models/quay")
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["QuayForCausalLM"], "model_type": "quay"}))
    return folder


@pytest.fixture
def taught(tmp_path):
    """Until the test ends, this process knows the class from a file."""
    return learn_architectures(write_architecture(tmp_path / "architectures", "quay", "QuayForCausalLM"))


@pytest.fixture
def request_quay(quay, small_job, settings):
    """Registers the folder, and asks for a small extraction."""
    settings.STEERHUB_MODEL_ROOT = quay.parent
    return lambda: small_job(source="quay")


def test_an_unknown_class_is_refused_by_every_process(quay, request_quay):
    with pytest.raises(ModelError, match="STEERHUB_ARCHITECTURES") as refused:
        request_quay()
    assert refused.value.code == "MODEL_ARCHITECTURE"
    with pytest.raises(ModelError) as refused:
        TransformersEngine(quay)
    assert refused.value.code == "MODEL_ARCHITECTURE"


def test_a_described_class_goes_from_its_folder_to_a_steered_reply(
    quay, taught, request_quay, evaluate, profile, production, harbor, ada, grace, oscar, tmp_path
):
    digest = find_family("quay").digest
    job = request_quay()
    run_job(str(job.pk), extract)
    job.refresh_from_db()
    assert (job.state, job.error_message) == (JobState.SUCCEEDED, "")
    vector = job.extracted_vector
    lineage = read_vector(get_blob(vector.digest)).lineage
    assert (lineage["architecture_digest"], job.base_model.architecture_digest) == (digest, digest)

    evaluation = evaluate(vector, alpha="0.5")
    revision = submit_revision(draft_revision(profile, components=[add(vector, "0.5")], author=ada).pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    approved = approve_revision(revision.pk, reviewer=grace, comment="Read the replies.", **digests)
    move_environment(production, base_model=job.base_model, actor=oscar)
    set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)

    engine = TransformersEngine(quay)
    _, token = enroll("node-1", environment=production, actor=oscar)
    with serve_hub() as url:
        client = FleetClient(url, "production", "node-1", token, KEY)
        keys = TrustedKeys.from_document(trust_document())

        def follow(engine, store):
            node = Follower(environment="production", name="node-1", store=tmp_path / store, client=client, keys=keys, engine=engine)
            node.start()
            return node, node.poll()

        node, outcome = follow(engine, "store")
        assert (outcome, engine.architecture_digest) == (PollOutcome.APPLIED, digest)
        steered, _ = Responder(node, engine).generate([Message("user", "My bill is wrong.")], tenant="harbor", route="", max_tokens=4)
        assert steered.profile.id == "harbor-empathy"

        # The same files, read by a file that says something else of them: it proves too, and is another place.
        describe_otherwise("quay", mlp_out=None)
        node, outcome = follow(TransformersEngine(quay), "other")
        assert (outcome, node.refusal.code) == (PollOutcome.REFUSED, "ARCHITECTURE_MISMATCH")
        client.close()
