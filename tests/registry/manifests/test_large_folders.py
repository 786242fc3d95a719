"""Whatever a hub exports it can plan and apply again, at once and in a time that people wait."""

import json
import time

import pytest

from registry.api.views import manifests as views
from registry.errors import InvalidInput
from registry.manifests import kind
from registry.models import Tenant
from steernode.hub.manifests import write_manifests
from tests.support.api import code_of
from tests.support.declaring import manifest

# More than there ever was a limit for, in more than a mebibyte.
COUNT = 2278
# Of this process, hub and command alike; a machine that does other things besides may take longer by the clock.
PATIENCE_SECONDS = 60


def declare(count=COUNT, **labels):
    return [manifest("Tenant", f"tenant-{number:05}", labels={"about": "x" * 200, **labels}, title="T" * 200) for number in range(count)]


@pytest.mark.django_db(transaction=True)
def test_more_objects_than_two_thousand_make_the_whole_round_by_the_command(steer, tmp_path):
    folder, exported = tmp_path / "all", tmp_path / "export"
    for path in (folder, exported):
        path.mkdir()
    (folder / "all.yaml").write_text(write_manifests(declare()))
    began = time.process_time()
    applied = steer("apply", "-f", folder, "--yes")
    assert (applied.exit_code, applied.output.splitlines()[-1]) == (0, f"applied: {COUNT} created")
    (exported / "all.yaml").write_text(steer("export").output)
    assert (exported / "all.yaml").stat().st_size > 1024 * 1024
    assert steer("plan", "-f", exported).exit_code == 0
    assert steer("drift", "-f", exported).exit_code == 0
    assert time.process_time() - began < PATIENCE_SECONDS
    assert Tenant.objects.count() == COUNT


def test_more_objects_than_two_thousand_make_the_whole_round_by_the_api(api, gitops):
    client = api(gitops)
    documents = declare()
    digest = client.post("/api/v1/manifests/plan", {"documents": documents}).json()["planDigest"]
    applied = client.post("/api/v1/manifests/apply", {"documents": documents, "planDigest": digest})
    assert (applied.status_code, applied.json()["changes"]) == (200, COUNT)
    exported = client.get("/api/v1/manifests/export").json()["documents"]
    assert client.post("/api/v1/manifests/plan", {"documents": exported}).json()["changes"] == 0


def test_what_is_more_than_is_planned_together_is_refused_and_not_exported_either(api, gitops, apply, monkeypatch):
    apply(declare(4))
    client, documents = api(gitops), declare(4)
    monkeypatch.setattr(kind, "MAX_NAMES", 3)
    assert code_of(client.post("/api/v1/manifests/plan", {"documents": documents})) == (413, "MANIFESTS_TOO_LARGE")
    assert client.post("/api/v1/manifests/plan", {"documents": documents[:3]}).status_code == 200
    for limit in ({"MAX_NAMES": 3}, {"MAX_DOCUMENTS_BYTES": 1000}):
        for name, value in limit.items():
            monkeypatch.setattr(views, name, value)
        answer = client.get("/api/v1/manifests/export?kind=Tenant")
        assert code_of(answer) == (413, "MANIFESTS_TOO_LARGE")
        assert "by kind" in answer.json()["detail"]
        monkeypatch.undo()
        assert client.get("/api/v1/manifests/export?kind=Tenant").status_code == 200


def test_names_that_are_only_referred_to_count_too(plan, monkeypatch):
    monkeypatch.setattr(kind, "MAX_NAMES", 2)
    recipe = {"baseModel": "a", "contrastSet": "b", "suites": ["c"]}
    with pytest.raises(InvalidInput) as caught:
        plan([manifest("SteeringVector", "v", recipe=recipe)])
    assert caught.value.code == "MANIFESTS_TOO_LARGE"


@pytest.mark.parametrize("wrong", [1, {}, {"kind": "Tenant"}, {"a" + str(number): 1 for number in range(1000)}])
def test_a_list_of_nothing_but_faults_is_refused_at_once(api, gitops, wrong):
    body = json.dumps({"documents": [wrong] * (16_000_000 // (len(json.dumps(wrong)) + 2))})
    began = time.process_time()
    answer = api(gitops).generic("POST", "/api/v1/manifests/plan", body, content_type="application/json")
    assert answer.status_code == 422
    assert len(answer.json()["errors"]) == 50
    assert time.process_time() - began < PATIENCE_SECONDS


def test_a_body_past_the_limit_is_not_read(api, gitops):
    answer = api(gitops).generic("POST", "/api/v1/manifests/plan", b'{"documents":["' + b"x" * 17_900_000 + b'"]}', "application/json")
    assert code_of(answer) == (413, "JSON_TOO_LARGE")
