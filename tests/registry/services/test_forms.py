"""What a base model's weights were made from is on record with it, and shown."""

import json

import pytest

from registry.errors import InvalidInput
from registry.models import AuditEvent, BaseModel
from registry.services.base_models import register_base_model
from steernode.files.comparing import compare_folders
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


@pytest.fixture
def derived(model_root):
    """Another fingerprint of the same empty weights."""
    return write_model_folder(model_root / "derived", dtype="bfloat16")


def compared(one, other, **changes):
    return compare_folders(one, other)[0].to_document() | changes


def within(one, other):
    return compared(
        one, other, verdict="quantised", tensors=2, by_verdict={"equal": 1, "quantised": 1}, mean="0.05", worst_tensor="a.weight"
    )


def test_a_form_of_another_is_on_record_with_the_comparison_of_both(api, client, base_model, model_root, derived, ada):
    comparison = within(model_root / "harbor", derived)
    body = {"name": "harbor-small", "source": "derived", "derived_from": "harbor-support", "comparison": comparison}
    answer = api(ada).post("/api/v1/base-models", body, format="json")
    assert answer.status_code == 201, answer.json()
    assert (answer.json()["derived_from"], answer.json()["comparison"]) == (base_model.fingerprint, comparison)
    [event] = AuditEvent.objects.filter(action="base_model.registered", base_model_fingerprint=answer.json()["fingerprint"])
    assert json.loads(bytes(event.body))["details"]["derived_from"] == base_model.fingerprint
    client.force_login(ada)
    page = client.get(f"/console/base-models/{answer.json()['id']}/").content.decode()
    assert "farthest off in a.weight, by 0.05 of its weights" in page
    assert answer.json()["id"] in client.get(f"/console/base-models/{base_model.pk}/").content.decode()


def test_that_it_is_a_form_of_another_is_said_once(base_model, model_root, derived, ada):
    made = register_base_model("harbor-small", source="derived", actor=ada)
    comparison = within(model_root / "harbor", derived)
    for _ in range(2):
        known = register_base_model("harbor-small", source="derived", actor=ada, derived_from=base_model, comparison=comparison)
        assert (known.pk, known.derived_from) == (made.pk, base_model)
    assert AuditEvent.objects.filter(action="base_model.described").count() == 1
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-small", source="derived", actor=ada, derived_from=base_model, comparison=comparison | {"mean": "0.01"})
    assert refused.value.code == "FORM_CHANGED"


CLAIMS = {
    "not the same weights": ({"verdict": "different", "wrong": "a.weight"}, "FORM_NOT_DERIVED"),
    "of other files": ({"base": "ab" * 32}, "FORM_NOT_DERIVED"),
    "of another result": ({"derived": "ab" * 32}, "FORM_NOT_DERIVED"),
    "a verdict that its tensors do not bear out": ({"by_verdict": {"different": 2}}, "COMPARISON"),
    "tensors that nobody counted": ({"tensors": 9}, "COMPARISON"),
    "another schema": ({"schema": "steerhub.comparison/2"}, "COMPARISON"),
}


@pytest.mark.parametrize(("change", "code"), CLAIMS.values(), ids=CLAIMS)
def test_a_claim_that_its_comparison_does_not_bear_out_is_refused(base_model, model_root, derived, ada, change, code):
    comparison = within(model_root / "harbor", derived) | change
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-small", source="derived", actor=ada, derived_from=base_model, comparison=comparison)
    assert refused.value.code == code
    assert not BaseModel.objects.filter(name="harbor-small").exists()


def test_a_claim_without_a_comparison_or_of_the_same_files_is_refused(base_model, model_root, derived, ada):
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-small", source="derived", actor=ada, derived_from=base_model)
    assert refused.value.code == "COMPARISON"
    same = within(model_root / "harbor", model_root / "harbor")
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-again", source="harbor", actor=ada, derived_from=base_model, comparison=same)
    assert refused.value.code == "FORM_NOT_DERIVED"
