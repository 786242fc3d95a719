"""Probes through the REST API: prompts uploaded and sealed, a job asked for, the probe read back, and named by a revision."""

import pytest

from registry.blobs import get_blob
from registry.models import Job, Probe
from tests.support.prompts import prompt_file, prompt_rows
from tests.support.working import PICTURE, train

ADDRESS = "/api/v1/profiles/harbor-empathy/revisions"
PLAIN = {"vector": "empathy@1", "alpha": "0.5", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"}


def test_prompts_are_uploaded_and_sealed(api, ada):
    digest = api(ada).upload(prompt_file())
    answer = api(ada).post("/api/v1/prompt-sets", {"name": "intents", "digest": digest})
    assert answer.status_code == 201, answer.content
    assert answer.json()["counts"]["train"] == {"false": 20, "true": 20}
    assert api(ada).get("/api/v1/prompt-sets/intents/1").json() == answer.json()
    assert [row["name"] for row in api(ada).get("/api/v1/prompt-sets").json()["results"]] == ["intents"]
    bad = api(ada).upload(prompt_file([row for row in prompt_rows() if row["split"] != "test"]))
    refused = api(ada).post("/api/v1/prompt-sets", {"name": "others", "digest": bad})
    assert (refused.status_code, refused.json()["code"]) == (422, "PROMPTS_ONE_CLASS")


def test_a_job_is_asked_for_and_its_probe_read_back(api, ada, base_model, prompt_set):
    body = {"kind": "probe", "base_model": base_model.name, "prompt_set": "intents@1"}
    recipe = {"probe": "refund-intent", "intent": "refund", "below": 2}
    answer = api(ada).post("/api/v1/jobs", {**body, "recipe": recipe})
    assert answer.status_code == 201, answer.content
    job = answer.json()
    assert (job["kind"], job["prompt_set"], job["recipe"]["layers"], job["trained_probe"]) == ("probe", "intents@1", [0, 1], None)
    train(Job.objects.get())
    assert api(ada).get(f"/api/v1/jobs/{job['id']}").json()["trained_probe"]["name"] == "refund-intent"
    shown = api(ada).get("/api/v1/probes/refund-intent/1").json()
    assert (shown["prompt_set"], shown["layer"], shown["held_out"]["auc"]["value"]) == ("intents@1", 1, "0.97")
    assert [row["id"] for row in api(ada).get("/api/v1/probes?name=refund-intent").json()["results"]] == [shown["id"]]
    assert api(ada).get("/api/v1/probes/refund-intent/1/roc.png").content == PICTURE
    assert api(ada).get("/api/v1/probes/refund-intent/1/file").content == get_blob(shown["digest"])
    assert api(ada).get("/api/v1/probes/refund-intent/1/document").json()["schema"] == "steerhub.probe/1"
    assert api(ada).get("/api/v1/probes/refund-intent/9/roc.png").json()["code"] == "PROBE_NOT_FOUND"


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ({"intent": "billing"}, "PROBE_INTENT"),
        ({"intent": "refund", "below": 2, "layers": [2]}, "PROBE_LAYER"),
        ({"intent": "refund", "target_false_positive_rate": "0.001"}, "PROBE_TOO_FEW"),
        ({"intent": 7}, "RECIPE_INTENT"),
    ],
)
def test_what_gives_no_probe_is_refused_by_code(api, ada, base_model, prompt_set, recipe, code):
    body = {"kind": "probe", "base_model": base_model.name, "prompt_set": "intents", "recipe": {"probe": "refund-intent", **recipe}}
    answer = api(ada).post("/api/v1/jobs", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert not Job.objects.exists()


def test_only_an_author_asks(api, grace, base_model, prompt_set):
    body = {"kind": "probe", "base_model": base_model.name, "prompt_set": "intents", "recipe": {"probe": "x"}}
    assert api(grace).post("/api/v1/jobs", body).status_code == 403
    assert api(grace).post("/api/v1/prompt-sets", {"name": "x", "digest": "0" * 64}).status_code == 403


def test_a_revision_names_a_probe(api, ada, profile, vector, train_probe):
    train_probe()
    named = {"kind": "probe", "probe": "refund-intent@1"}
    answer = api(ada).post(ADDRESS, {"components": [{**PLAIN, "condition": named}], "safety_override": [named]})
    assert answer.status_code == 201, answer.content
    probe = Probe.objects.get()
    assert answer.json()["components"][0]["condition"] == answer.json()["safety_override"][0] == probe.condition
    assert [each["name"] for each in answer.json()["probes"]] == ["refund-intent"]
    for condition, status, code in (
        ({**named, "probe": "nobody@1"}, 404, "PROBE_NOT_FOUND"),
        ({**named, "threshold": "1"}, 422, "COMPONENT_INVALID"),
    ):
        refused = api(ada).post(ADDRESS, {"components": [{**PLAIN, "condition": condition}]})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
