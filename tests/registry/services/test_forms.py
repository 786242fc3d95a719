"""What a base model's weights were made from is on record with it, and shown."""

import json

import pytest

from registry.models import AuditEvent
from registry.services.base_models import register_base_model
from steernode.files.forms import Form, write_form
from tests.support.files import write_model_folder

pytestmark = pytest.mark.django_db(transaction=True)
FORM = Form("dequantised", "gguf", "harbor.gguf", "ab" * 32, 9, {"Q4_1": 2, "F32": 1}, "float32", "steernode", "1", {"gguf": "1"})


def test_the_form_of_a_base_model_is_on_record_and_shown(api, client, base_model, model_root, ada):
    folder = write_model_folder(model_root / "dequantised")
    write_form(folder, FORM)
    made = register_base_model("harbor-support", source="dequantised", actor=ada)
    assert made.fingerprint != base_model.fingerprint
    said = "dequantised to float32 from harbor.gguf (abababababab; F32 × 1, Q4_1 × 2)"
    answer = api(ada).get(f"/api/v1/base-models/{made.pk}").json()
    assert answer["form"] == said
    assert answer["manifest"]["form"] == FORM.to_document()
    assert answer["changes"] == ["config: steerhub-form.json added"]
    [event] = AuditEvent.objects.filter(action="base_model.registered", base_model_fingerprint=made.fingerprint)
    assert json.loads(bytes(event.body))["details"]["form"] == said
    client.force_login(ada)
    assert said in client.get(f"/console/base-models/{made.pk}/").content.decode()
    assert api(ada).get(f"/api/v1/base-models/{base_model.pk}").json()["form"] == ""
