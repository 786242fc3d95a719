"""Base models through the API: registered, served, moved, and what a move says of itself."""

import pytest

from registry.models import BaseModel
from registry.services.tenants import create_environment
from tests.support.api import code_of
from tests.support.files import write_model_folder


@pytest.fixture
def new_files(model_root):
    folder = write_model_folder(model_root / "harbor-2")
    (folder / "tokenizer.json").write_text('{"a": 1}')
    return {"name": "harbor-support", "source": "harbor-2"}


def test_a_base_model_says_where_it_is_served_and_how_it_differs(api, ada, production, base_model, new_files):
    author = api(ada)
    made = author.post("/api/v1/base-models", new_files).json()
    assert (made["environments"], made["changes"]) == ([], ["tokenizer: tokenizer.json changed"])
    rows = {row["fingerprint"]: row["environments"] for row in author.get("/api/v1/base-models").json()["results"]}
    assert rows == {base_model.fingerprint: ["production"], made["fingerprint"]: []}
    (served,) = author.get("/api/v1/environments/production").json()["base_models"]
    assert (served["name"], served["fingerprint"]) == ("harbor-support", base_model.fingerprint)


def test_an_operator_moves_an_environment_and_back(api, ada, oscar, flag_on, base_model, new_files):
    made = api(ada).post("/api/v1/base-models", new_files).json()
    operator = api(oscar)
    move = operator.post("/api/v1/environments/production/move", {"base_model": "harbor-support", "reason": "new files"}).json()
    assert (move["previous"]["fingerprint"], move["base_model"]["fingerprint"]) == (base_model.fingerprint, made["fingerprint"])
    assert (move["changes"], move["flags_off"], move["invalidated"]) == (
        ["tokenizer: tokenizer.json changed"],
        ["harbor"],
        ["harbor-empathy@1"],
    )
    again = operator.post("/api/v1/environments/production/move", {"base_model": "harbor-support", "reason": "new files"}).json()
    assert (again["previous"]["fingerprint"], again["flags_off"]) == (made["fingerprint"], [])
    back = operator.post(
        "/api/v1/environments/production/move", {"base_model": f"harbor-support@{base_model.fingerprint[:8]}", "reason": "back"}
    )
    assert back.json()["base_model"]["fingerprint"] == base_model.fingerprint
    revision = operator.get("/api/v1/profiles/harbor-empathy/revisions/1").json()
    assert revision["state"] == "invalidated"
    assert "tokenizer.json changed" in revision["invalidated_reason"]


def test_registering_a_new_name_publishes_nothing_and_serving_it_takes_an_operator(api, ada, oscar, production, new_files):
    body = {**new_files, "name": "other"}
    before = api(oscar).get("/api/v1/environments/production").json()["head_revision"]
    assert api(ada).post("/api/v1/base-models", body).json()["environments"] == []
    assert api(oscar).get("/api/v1/environments/production").json()["head_revision"] == before
    assert code_of(api(ada).post("/api/v1/environments/production/move", {"base_model": "other", "reason": "new files"})) == (
        403,
        "PERMISSION_DENIED",
    )
    move = api(oscar).post("/api/v1/environments/production/move", {"base_model": "other", "reason": "new files"}).json()
    assert (move["previous"], move["base_model"]["name"], move["flags_off"]) == (None, "other", [])


def test_moves_that_lead_nowhere_are_refused(api, oscar, production, base_model, new_files):
    operator = api(oscar)
    move = "/api/v1/environments/production/move"
    for reference in ("other", "harbor-support@", "harbor-support@12", "harbor-support@ffffff", "harbor-support@3", "@abcdef"):
        assert code_of(operator.post(move, {"base_model": reference, "reason": "x"})) == (404, "BASE_MODEL_NOT_FOUND"), reference
    body = {"base_model": "harbor-support", "reason": "x"}
    assert code_of(operator.post("/api/v1/environments/nowhere/move", body)) == (404, "ENVIRONMENT_NOT_FOUND")
    assert code_of(operator.post(move, body | {"force": True})) == (400, "UNKNOWN_FIELD")
    assert code_of(operator.post(move, {})) == (400, "VALIDATION")
    assert code_of(operator.post("/api/v1/base-models", new_files | {"move": ["production"]})) == (400, "UNKNOWN_FIELD")
    assert BaseModel.objects.count() == 1


def test_a_flag_for_files_that_are_not_served_is_refused_by_name(api, ada, oscar, approved, harbor, base_model, new_files):
    operator = api(oscar)
    api(ada).post("/api/v1/base-models", new_files)
    create_environment("production", actor=oscar)
    create_environment("staging", actor=oscar)
    operator.post("/api/v1/environments/staging/move", {"base_model": f"harbor-support@{base_model.fingerprint}", "reason": "x"})
    body = {"profile": "harbor-empathy", "revision": 1, "enabled": True, "alpha_scale": "1", "reason": "go"}
    assert operator.put("/api/v1/environments/staging/flags/harbor", body).status_code == 200
    assert code_of(operator.put("/api/v1/environments/production/flags/harbor", body)) == (409, "BASE_MODEL_NOT_SERVED")
