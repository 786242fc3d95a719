"""What a base model says to the eight prompts: on record once, published to nodes, and held against what a worker loads."""

import json

import pytest

from registry.errors import InvalidInput
from registry.models import AuditEvent
from registry.reads.steering import head_snapshot
from registry.services.base_model_moves import move_environment
from registry.services.base_models import register_base_model
from steernode.behaviour import read_behaviour
from steernode.errors import ModelError
from steernode.integrations.registering import measure_folder
from tests.support.files import behaviour_document, write_model_folder
from tests.support.tiny_models import save_model
from workers import target
from workers.target import load_target

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_is_registered_shown_and_published_to_the_environments_that_serve_it(api, client, model_root, production, ada, oscar):
    write_model_folder(model_root / "pier")
    answer = api(ada).post("/api/v1/base-models", {"name": "pier", "source": "pier", "behaviour": behaviour_document()}, format="json")
    assert answer.status_code == 201, answer.json()
    assert answer.json()["behaviour"] == behaviour_document()
    pier = register_base_model("pier", source="pier", actor=ada)
    digest = read_behaviour(pier.behaviour, "behaviour").digest
    [event] = AuditEvent.objects.filter(action="base_model.registered", object_id=pier.pk)
    assert json.loads(bytes(event.body))["details"]["behaviour_digest"] == digest
    move_environment(production, base_model=pier, reason="it is the one to serve", actor=oscar)
    listed = {entry["name"]: entry for entry in json.loads(head_snapshot(production).payload)["base_models"]}
    assert listed["pier"]["behaviour"] == behaviour_document()
    assert "behaviour" not in listed.get("harbor-support", {})
    client.force_login(ada)
    page = client.get(f"/console/base-models/{pier.pk}/").content.decode()
    assert "measured in float32" in page
    assert "0.000008 nats in float32" in page


def test_it_is_said_once(base_model, ada, client):
    assert base_model.behaviour is None
    client.force_login(ada)
    assert "not measured" in client.get(f"/console/base-models/{base_model.pk}/").content.decode()
    for _ in range(2):
        known = register_base_model("harbor-support", source="harbor", actor=ada, behaviour=behaviour_document())
        assert (known.pk, known.behaviour) == (base_model.pk, behaviour_document())
    [event] = AuditEvent.objects.filter(action="base_model.described")
    assert "behaviour_digest" in json.loads(bytes(event.body))["details"]
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-support", source="harbor", actor=ada, behaviour=behaviour_document(moved={"float32": "9"}))
    assert refused.value.code == "BEHAVIOUR_CHANGED"
    assert register_base_model("harbor-support", source="harbor", actor=ada).behaviour == behaviour_document()


@pytest.mark.parametrize("behaviour", [[], {}, "x", behaviour_document(prompts=[]), behaviour_document(moved={})])
def test_what_is_no_such_document_is_refused_with_nothing_registered(api, base_model, model_root, ada, behaviour):
    write_model_folder(model_root / "pier")
    answer = api(ada).post("/api/v1/base-models", {"name": "pier", "source": "pier", "behaviour": behaviour}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (422, "BEHAVIOUR")
    assert api(ada).get("/api/v1/base-models/pier").status_code == 404


def test_what_was_measured_on_other_files_is_refused(api, base_model, ada):
    body = {"name": "harbor-support", "source": "harbor", "fingerprint": "ab" * 32, "behaviour": behaviour_document()}
    answer = api(ada).post("/api/v1/base-models", body, format="json")
    assert answer.json()["code"] == "MODEL_FINGERPRINT"
    base_model.refresh_from_db()
    assert base_model.behaviour is None


def test_a_worker_runs_nothing_on_a_model_that_behaves_otherwise(model_root, ada, monkeypatch):
    fingerprint, behaviour = measure_folder(save_model(model_root / "tiny"), "float32", [])
    tiny = register_base_model("tiny", source="tiny", actor=ada, fingerprint=fingerprint, behaviour=behaviour.to_document())
    monkeypatch.setattr(target, "_kept", None)
    assert load_target(tiny, "float32").fingerprint == fingerprint
    token, value = tiny.behaviour["prompts"][2]["log_probabilities"][0]
    tiny.behaviour["prompts"][2]["log_probabilities"][0] = [token, str(float(value) - 0.5)]
    monkeypatch.setattr(target, "_kept", None)
    for _ in range(2):
        with pytest.raises(ModelError) as refused:
            load_target(tiny, "float32")
        assert (refused.value.code, refused.value.item) == ("MODEL_BEHAVES_OTHERWISE", "What is 17 times 6?")
