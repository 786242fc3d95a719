"""The `steer` command through its front door: what it prints, what it sends, how it fails."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner
from hub_simulator import VECTOR, Signer, served, wait_until
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from test_contrast_files import FIRST, SECOND, lines
from test_export_verification import EVENTS, csv_file, jsonl

from steerkit import __version__
from steerkit.applying import read_manifests, upload_files
from steerkit.canonical import sha256_hex
from steerkit.cli import main
from steerkit.errors import ManifestError

TOKEN = "sht_" + "p" * 43
JOB = "0190a000-0000-7000-8000-000000000001"
REVISION = {"number": 3, "digest": "aa" * 32, "evidence_digest": "bb" * 32, "state": "submitted"}


class Hub:
    """Remembers what it was sent, and answers each path from a list whose last answer repeats."""

    def __init__(self):
        self.sent, self.answers = [], {}

    async def answer(self, request):
        body = await request.body()
        self.sent.append((request.method, request.url.path.removeprefix("/api/v1"), body))
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        answers = self.answers.get(request.url.path.removeprefix("/api/v1"))
        if answers is None:
            return JSONResponse({"code": "NOT_FOUND", "detail": "there is nothing\x1b[2J at this address"}, status_code=404)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return Response(answer) if isinstance(answer, bytes) else JSONResponse(answer)

    def bodies(self):
        return [json.loads(body) for _method, _path, body in self.sent if body]


@pytest.fixture(scope="module")
def hub_server():
    hub = Hub()
    with served(Starlette(routes=[Route("/{path:path}", hub.answer, methods=["GET", "POST", "PUT"])])) as url:
        hub.url = url
        yield hub


@pytest.fixture
def hub(hub_server):
    hub_server.sent, hub_server.answers = [], {}
    return hub_server


@pytest.fixture
def steer(hub, monkeypatch):
    monkeypatch.setenv("STEERHUB_URL", hub.url)
    monkeypatch.setenv("STEERHUB_TOKEN", TOKEN)

    def run(*arguments, **options):
        return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)

    return run


def error_of(result):
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("error ")
    return result.stderr.removeprefix("error ").split(":")[0]


def test_version_and_help(steer):
    assert steer("version").output == f"steer {__version__}\n"
    assert steer("--help").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["apply"],
        ["apply", "-f", "absent"],
        ["inspect", "vector", "absent"],
        ["audit", "export", "--format", "xml", "--out", "x"],
        ["job", "show", "not-a-uuid"],
        ["profile", "submit", "harbor-empathy"],
        ["profile", "submit", "harbor-empathy@zero"],
        ["profile", "submit", "a/b@1"],
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r"],
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r", "--on"],
        ["kill", "--kind", "tenant", "--reason", "r"],
        ["kill", "--kind", "planet", "--reason", "r"],
        ["node", "serve"],
    ],
)
def test_wrong_usage_exits_with_2_and_asks_nobody(steer, hub, arguments):
    assert steer(*arguments).exit_code == 2
    assert hub.sent == []


def test_whoami_shows_what_the_hub_says(steer, hub):
    hub.answers["/whoami"] = [{"name": "ada", "roles": ["author"]}]
    assert steer("whoami").output == 'name: ada\nroles: ["author"]\n'


def test_a_refusal_of_the_hub_is_told_by_code_without_control_characters(steer):
    result = steer("whoami")
    assert error_of(result) == "NOT_FOUND"
    assert "\x1b" not in result.stderr


def test_a_missing_token_and_an_absent_hub_are_told(steer, monkeypatch, tmp_path):
    assert error_of(steer("whoami", "--hub", "http://127.0.0.1:9")) == "HUB_UNREACHABLE"
    assert error_of(steer("whoami", "--token-file", tmp_path / "absent")) == "HUB_TOKEN"
    monkeypatch.delenv("STEERHUB_TOKEN")
    assert error_of(steer("whoami")) == "HUB_TOKEN"


def test_a_token_file_is_read(steer, hub, monkeypatch, tmp_path):
    monkeypatch.delenv("STEERHUB_TOKEN")
    hub.answers["/whoami"] = [{"name": "ada"}]
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert steer("whoami", "--token-file", tmp_path / "token").exit_code == 0


def test_inspect_vector_and_pairs_describe_files(steer, tmp_path):
    (tmp_path / "vector").write_bytes(VECTOR)
    shown = json.loads(steer("inspect", "vector", tmp_path / "vector", "--json").output)
    assert (shown["digest"], shown["d_model"], shown["layer"]) == (sha256_hex(VECTOR), 16, 6)
    (tmp_path / "pairs").write_bytes(lines(FIRST, SECOND))
    assert "pairs: 2\n" in steer("inspect", "pairs", tmp_path / "pairs").output


def test_inspect_names_what_is_wrong_with_a_file(steer, tmp_path):
    (tmp_path / "bad").write_bytes(b"PK\x03\x04")
    assert error_of(steer("inspect", "vector", tmp_path / "bad")) == "VEC_FORMAT"
    assert error_of(steer("inspect", "pairs", tmp_path / "bad")) == "CONTRAST_NOT_JSONL"
    assert error_of(steer("inspect", "model", tmp_path)) == "MODEL_MISSING"


def test_an_export_is_downloaded_and_verified(steer, hub, tmp_path):
    hub.answers["/audit/export"] = [jsonl(EVENTS)]
    assert steer("audit", "export", "--out", tmp_path / "log.jsonl").exit_code == 0
    result = steer("verify", tmp_path / "log.jsonl")
    assert result.exit_code == 0
    assert result.output.startswith("verified: 8 events")
    report = json.loads(steer("verify", tmp_path / "log.jsonl", "--json").output)
    assert (report["verified"], report["head"]) == (True, EVENTS[-1]["digest"])
    (tmp_path / "log.csv").write_bytes(csv_file(EVENTS[2:]))
    assert "does not begin at the first event" in steer("verify", tmp_path / "log.csv").output


def test_verify_needs_no_token_and_names_the_tampered_event(steer, tmp_path, monkeypatch):
    monkeypatch.delenv("STEERHUB_TOKEN")
    (tmp_path / "log").write_bytes(jsonl(EVENTS).replace(b"0.5", b"0.6", 1))
    result = steer("verify", tmp_path / "log")
    assert error_of(result) == "E_DIGEST"
    assert "event 1" in result.stderr
    assert error_of(steer("verify", tmp_path / "absent")) == "E_PACK"


def job(state, done=0, **more):
    return {
        "id": JOB,
        "kind": "extraction",
        "state": state,
        "stage": "sweep",
        "progress_done": done,
        "progress_total": 10,
        "note": "",
    } | more


def test_jobs_are_listed_shown_and_cancelled(steer, hub):
    hub.answers |= {
        "/jobs": [{"results": [job("running", 4)]}],
        f"/jobs/{JOB}": [job("running", 4)],
        f"/jobs/{JOB}/cancel": [job("running")],
    }
    listed = steer("job", "list").output
    assert JOB in listed
    assert "4/10" in listed
    assert json.loads(steer("job", "show", JOB, "--json").output)["stage"] == "sweep"
    assert "cancellation requested" in steer("job", "cancel", JOB).output


def test_a_job_is_watched_to_its_end(steer, hub):
    hub.answers[f"/jobs/{JOB}"] = [job("queued"), job("running", 4), job("running", 9), job("succeeded", 10)]
    result = steer("job", "watch", JOB, "--interval", "0.05")
    assert result.exit_code == 0
    assert "succeeded" in result.output
    assert len(hub.sent) == 4


def test_a_job_that_fails_or_is_cancelled_fails_the_watch(steer, hub):
    hub.answers[f"/jobs/{JOB}"] = [job("failed", error_code="NON_FINITE", error_message="layer 6 overflows")]
    result = steer("job", "watch", JOB)
    assert error_of(result) == "NON_FINITE"
    assert "layer 6 overflows" in result.stderr
    hub.answers[f"/jobs/{JOB}"] = [job("cancelled")]
    assert error_of(steer("job", "watch", JOB)) == "JOB_CANCELLED"
    hub.answers[f"/jobs/{JOB}"] = [{"surprise": 1}]
    assert error_of(steer("job", "watch", JOB)) == "HUB_ANSWER"


def test_an_approval_names_the_digests_that_were_shown(steer, hub):
    path = "/profiles/harbor-empathy/revisions/3"
    hub.answers |= {path: [REVISION], f"{path}/approve": [REVISION], f"{path}/submit": [REVISION], f"{path}/reject": [REVISION]}
    declined = steer("profile", "approve", "harbor-empathy@3", input="n\n")
    assert declined.exit_code == 1
    assert "aa" * 32 in declined.output
    assert hub.bodies() == []
    assert steer("profile", "approve", "harbor-empathy@3", "--comment", "fine", input="y\n").exit_code == 0
    assert steer("profile", "submit", "harbor-empathy@3").exit_code == 0
    assert steer("profile", "reject", "harbor-empathy@3", "--comment", "cold").exit_code == 0
    approval = {"revision_digest": "aa" * 32, "evidence_digest": "bb" * 32, "comment": "fine"}
    assert hub.bodies() == [approval, {}, {"comment": "cold"}]


def test_nothing_is_approved_without_evidence(steer, hub):
    hub.answers["/profiles/p/revisions/1"] = [REVISION | {"evidence_digest": ""}]
    assert error_of(steer("profile", "approve", "p@1", "--yes")) == "HUB_ANSWER"


def test_a_flag_is_set_with_its_scale_as_written(steer, hub):
    hub.answers["/environments/production/flags/harbor"] = [{"enabled": True}]
    where = ["flag", "set", "--environment", "production", "--tenant", "harbor", "--reason", "launch"]
    assert steer(*where, "--on", "--profile", "harbor-empathy@3", "--alpha-scale", "0.50").exit_code == 0
    assert steer(*where, "--off").exit_code == 0
    assert error_of(steer(*where, "--off", "--alpha-scale", "0,5")) == "ALPHA_FORMAT"
    on = {"route": "", "enabled": True, "alpha_scale": "0.5", "reason": "launch", "profile": "harbor-empathy", "revision": 3}
    assert hub.bodies() == [on, {"route": "", "enabled": False, "alpha_scale": "1", "reason": "launch"}]


def test_a_kill_is_sent(steer, hub):
    hub.answers["/kills"] = [{"id": "k"}]
    assert steer("kill", "--kind", "everything", "--reason", "incident").exit_code == 0
    assert steer("kill", "--kind", "environment", "--environment", "production", "--reason", "incident").exit_code == 0
    assert [body["kind"] for body in hub.bodies()] == ["everything", "environment"]


MANIFEST = """
apiVersion: steerhub/v1
kind: ContrastSet
metadata: {name: empathy}
spec:
  axis: empathy
  pairs: {file: ../data/pairs.jsonl}
---
apiVersion: steerhub/v1
kind: SteeringRecipe
metadata: {name: yes}
spec: {alphas: [0, 0.30, 1e3, "0.5"], seed: 7, dry: true, none: null, day: 2026-01-01}
"""


@pytest.fixture
def manifests(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pairs.jsonl").write_bytes(b"pairs")
    (tmp_path / "manifests/a.yaml").write_text(MANIFEST)
    return tmp_path / "manifests"


APPLIED = {"kind": "ContrastSet", "name": "empathy", "result": "created", "reference": "empathy@1"}


def test_apply_uploads_files_first_and_sends_their_digests(steer, hub, manifests):
    hub.answers["/blobs"] = [{"digest": sha256_hex(b"pairs")}]
    hub.answers["/manifests/apply"] = [
        {"results": [{"kind": "ContrastSet", "name": "empathy", "result": "created", "reference": "empathy@1"}]}
    ]
    result = steer("apply", "-f", manifests)
    assert result.exit_code == 0, result.output
    assert "empathy@1" in result.output
    assert hub.sent[0] == ("POST", "/blobs", b"pairs")
    [contrast, recipe] = json.loads(hub.sent[1][2])["documents"]
    assert contrast["spec"]["pairs"] == {"digest": sha256_hex(b"pairs")}
    assert recipe["metadata"]["name"] == "yes"
    assert recipe["spec"] == {"alphas": [0, "0.30", "1e3", "0.5"], "seed": 7, "dry": True, "none": None, "day": "2026-01-01"}


def test_a_dry_run_uploads_nothing(steer, hub, manifests):
    hub.answers["/manifests/apply"] = [{"results": []}]
    assert steer("apply", "-f", manifests / "a.yaml", "--dry-run").exit_code == 0
    [body] = hub.bodies()
    assert body["dry_run"] is True
    assert body["documents"][0]["spec"]["pairs"] == {"digest": sha256_hex(b"pairs")}


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("kind: Tenant\nkind: Tenant\n", "MANIFEST_DUPLICATE_KEY", "line 2 column 1"),
        ("kind: Tenant\nspec:\n  a: 1\n  a: 2\n", "MANIFEST_DUPLICATE_KEY", "line 4 column 3"),
        ("kind: Tenant\nspec: &x {a: 1}\nmore: *x\n", "MANIFEST_YAML", "line 3 column 7"),
        ("kind: [unclosed\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\n1: x\n", "MANIFEST_YAML", "line 2 column 1"),
        ("kind: Tenant\nspec: !!python/object/apply:os.system [ls]\n", "MANIFEST_YAML", "line 2"),
        ("kind: Tenant\nspec: !!binary aGk=\n", "MANIFEST_YAML", ""),
        ("kind: Tenant\nspec: !!float 1.5\n", "MANIFEST_YAML", ""),
        ("kind: Planet\n", "MANIFEST_KIND", "Planet"),
        ("- a list\n", "MANIFEST_KIND", "list"),
        ("", "MANIFEST_MISSING", ""),
        ("kind: " + "[" * 5000, "MANIFEST_YAML", ""),
        ("kind: Tenant\nspec: \x00\n", "MANIFEST_YAML", ""),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused_where_it_is_wrong(steer, hub, tmp_path, text, code, where):
    (tmp_path / "m.yaml").write_text(text)
    result = steer("apply", "-f", tmp_path)
    assert error_of(result) == code
    assert where in result.stderr
    assert hub.sent == []


@pytest.mark.parametrize(
    "reference", ["{file: absent.jsonl}", "{file: ../../../../etc/passwd}", "{file: /etc/passwd}", "{file: 5}", "{file: a, digest: b}"]
)
def test_a_file_reference_stays_beside_its_manifest(manifests, reference):
    (manifests / "a.yaml").write_text(f"kind: ContrastSet\nspec: {{pairs: {reference}}}\n")
    with pytest.raises(ManifestError) as caught:
        upload_files(read_manifests(manifests), manifests, sha256_hex)
    assert caught.value.code == "MANIFEST_FILE"


def test_a_trust_file_is_read_strictly(steer, tmp_path):
    for name, text in (("token", TOKEN), ("trust", '{"schema":"steerhub.trust/1","keys":[]}')):
        (tmp_path / name).write_text(text)
    serve = ["node", "serve", "--environment", "e", "--name", "n", "--token-file", tmp_path / "token", "--trust", tmp_path / "trust"]
    rest = ["--model", tmp_path, "--store", tmp_path / "store"]
    assert error_of(steer(*serve, *rest)) == "SCHEMA"
    (tmp_path / "trust").write_text("nonsense")
    assert error_of(steer(*serve, *rest)) == "TRUST_FILE"
    (tmp_path / "trust").write_text(json.dumps({"schema": "steerhub.trust/1", "keys": [Signer().key_document()]}))
    (tmp_path / "token").write_text("")
    assert error_of(steer(*serve, *rest)) == "HUB_TOKEN"


def test_the_status_of_a_node_that_is_not_there_is_an_error(steer):
    assert error_of(steer("node", "status", "--url", "http://127.0.0.1:9")) == "NODE_UNREACHABLE"


SERVING = """
import sys
from pathlib import Path
from hub_simulator import FakeEngine, NODE_TOKEN, Signer, trust
from steerkit.client import FleetClient
from steerkit.node import Node
from steerkit.noderunner import NodeRunner
from steerkit.serve import serve

client = FleetClient("http://127.0.0.1:9", "production", "node-1", NODE_TOKEN)
node = Node(environment="production", name="node-1", store=Path(sys.argv[1]), client=client, keys=trust(Signer()), engine=FakeEngine())
node.start()
serve(node, NodeRunner(node, client), model_name="m", port=int(sys.argv[2]))
"""


def test_a_serving_node_ends_in_order_when_asked_to(steer, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.getcwd()])}
    process = subprocess.Popen([sys.executable, "-c", SERVING, str(tmp_path), str(port)], env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers():
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(answers, seconds=30)
        assert json.loads(steer("node", "status", "--url", url, "--json").output)["readiness_problem"] == "no_snapshot"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def test_the_command_and_a_nodes_control_path_start_without_torch_or_a_server():
    heavy = {"torch", "transformers", "django", "celery", "starlette"}
    program = f"import sys, steerkit.cli, steerkit.node; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
