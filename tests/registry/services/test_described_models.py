"""How a base model is read is on record with it: said once, shown, published, and not changed under what was made from it."""

import json

import pytest

from registry.errors import InvalidInput
from registry.models import AuditEvent, BaseModel, SteeringVector
from registry.reads.steering import head_snapshot
from registry.services.base_models import register_base_model
from registry.services.vectors import import_vector
from steernode.errors import ModelError
from steernode.files.architectures import find_family, learn_architectures
from tests.support.architectures import describe_otherwise, write_architecture
from tests.support.files import vector_file, write_model_folder
from workers.target import load_target

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_digest_of_an_architecture_is_on_record_and_published(api, base_model, production, ada):
    digest = find_family("llama").digest
    assert base_model.architecture_digest == digest
    assert api(ada).get(f"/api/v1/base-models/{base_model.pk}").json()["architecture_digest"] == digest
    [listed] = json.loads(head_snapshot(production).payload)["base_models"]
    assert listed == {"name": "harbor-support", "fingerprint": base_model.fingerprint, "architecture_digest": digest}


def test_files_on_record_are_not_read_in_another_way(base_model, ada):
    describe_otherwise("llama", blocks="h")
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-support", source="harbor", actor=ada)
    assert refused.value.code == "ARCHITECTURE_CHANGED"
    assert register_base_model("harbor-again", source="harbor", actor=ada).architecture_digest == find_family("llama").digest


def test_a_base_model_of_before_says_once_how_it_is_read(base_model, production, ada):
    BaseModel.objects.update(architecture_digest="")
    for _ in range(2):
        known = register_base_model("harbor-support", source="harbor", actor=ada)
    assert (known.pk, known.architecture_digest) == (base_model.pk, find_family("llama").digest)
    [event] = AuditEvent.objects.filter(action="base_model.described")
    assert json.loads(bytes(event.body))["details"] == {"architecture_digest": known.architecture_digest}


def test_a_vector_that_was_read_by_another_architecture_is_not_taken(base_model, contrast_set, ada):
    data = vector_file(base_model.fingerprint, contrast_set.digest, architecture_digest="bb" * 32)
    with pytest.raises(InvalidInput) as refused:
        import_vector("empathy", data=data, author=ada)
    assert refused.value.code == "ARCHITECTURE_MISMATCH"
    assert not SteeringVector.objects.exists()
    ours = vector_file(base_model.fingerprint, contrast_set.digest, architecture_digest=base_model.architecture_digest)
    assert import_vector("empathy", data=ours, author=ada).digest


def test_a_worker_with_another_architecture_file_runs_nothing(base_model):
    describe_otherwise("llama", blocks="h")
    with pytest.raises(ModelError) as refused:
        load_target(base_model, "float32")
    assert (refused.value.code, refused.value.item) == ("ARCHITECTURE_CHANGED", "harbor-support")


def test_a_class_that_an_operator_described_is_registered(model_root, ada, tmp_path):
    write_model_folder(model_root / "pier", architectures=["PierForCausalLM"], model_type="pier")
    with pytest.raises(ModelError, match="STEERHUB_ARCHITECTURES"):
        register_base_model("pier", source="pier", actor=ada)
    [family] = learn_architectures(write_architecture(tmp_path / "architectures", "pier", "PierForCausalLM"))
    assert register_base_model("pier", source="pier", actor=ada).architecture_digest == family.digest
