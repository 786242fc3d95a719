"""The `steer` command through its front door: what it prints, what it sends, how it fails."""

import json
import os
import signal
import subprocess
import sys

import httpx
import pytest

from steernode import __version__
from steernode.canonical import sha256_hex
from steernode.cli.jobs import describe_job
from steernode.files.architectures import find_family
from tests.support.architectures import write_architecture
from tests.support.exports import EVENTS, csv_file, jsonl
from tests.support.files import write_model_folder
from tests.support.hub_simulator import VECTOR, Signer
from tests.support.pairs import FIRST, SECOND, lines
from tests.support.serving import wait_until
from tests.support.steer_rig import JOB, TOKEN, error_of


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
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r", "--on", "--arm", "warm"],
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r", "--on", "--arm", "a=1", "--no-arms"],
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r", "--on", "--override", "0.6"],
        ["flag", "set", "--environment", "e", "--tenant", "t", "--reason", "r", "--on", "--inherit", "mood"],
        ["explain", "--tenant", "t"],
        ["kill"],
        ["kill", "--kind", "everything"],
        ["kill", "--kind", "tenant", "--reason", "r"],
        ["kill", "lift"],
        ["freeze", "declare", "--environment", "e", "--reason", "r"],
        ["freeze", "end", "x"],
        ["kill", "--kind", "planet", "--reason", "r"],
        ["node", "serve"],
    ],
)
def test_wrong_usage_exits_with_2_and_asks_nobody(steer, recording_hub, arguments):
    assert steer(*arguments).exit_code == 2
    assert recording_hub.sent == []


def test_whoami_shows_what_the_hub_says(steer, recording_hub):
    recording_hub.answers["/whoami"] = [{"name": "ada", "roles": ["author"]}]
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


def test_a_token_file_is_read(steer, recording_hub, monkeypatch, tmp_path):
    monkeypatch.delenv("STEERHUB_TOKEN")
    recording_hub.answers["/whoami"] = [{"name": "ada"}]
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert steer("whoami", "--token-file", tmp_path / "token").exit_code == 0


def test_inspect_vector_and_pairs_describe_files(steer, tmp_path):
    (tmp_path / "vector").write_bytes(VECTOR)
    shown = json.loads(steer("inspect", "vector", tmp_path / "vector", "--json").output)
    assert (shown["digest"], shown["d_model"], shown["layer"]) == (sha256_hex(VECTOR), 16, 6)
    (tmp_path / "pairs").write_bytes(lines(FIRST, SECOND))
    assert "pairs: 2\n" in steer("inspect", "pairs", tmp_path / "pairs").output


def test_inspect_model_knows_the_architectures_it_is_given(steer, tmp_path):
    folder = write_model_folder(tmp_path / "model", architectures=["PierForCausalLM"], model_type="pier")
    refused = steer("inspect", "model", folder)
    assert error_of(refused) == "MODEL_ARCHITECTURE"
    assert "`steer inspect architectures`" in refused.stderr
    given = write_architecture(tmp_path / "architectures", "pier", "PierForCausalLM")
    shown = json.loads(steer("inspect", "model", folder, "--architectures", given, "--json").output)
    assert (shown["architecture"], shown["architecture_digest"]) == ("PierForCausalLM", find_family("pier").digest)
    (given / "pier.yaml").write_text("models: []")
    assert error_of(steer("inspect", "model", folder, "--architectures", given)) == "ARCHITECTURE_FILE"


def test_the_architectures_that_are_known_are_listed(steer, tmp_path):
    given = write_architecture(tmp_path / "architectures", "pier", "PierForCausalLM")
    before = json.loads(steer("inspect", "architectures", "--json").output)
    assert {"class": "LlamaForCausalLM", "model_type": "llama", "digest": find_family("llama").digest} in before
    assert "PierForCausalLM" not in {each["class"] for each in before}
    assert "PierForCausalLM" in steer("inspect", "architectures", "--architectures", given).output


def test_inspect_names_what_is_wrong_with_a_file(steer, tmp_path):
    (tmp_path / "bad").write_bytes(b"PK\x03\x04")
    assert error_of(steer("inspect", "vector", tmp_path / "bad")) == "VEC_FORMAT"
    assert error_of(steer("inspect", "pairs", tmp_path / "bad")) == "CONTRAST_NOT_JSONL"
    assert error_of(steer("inspect", "model", tmp_path)) == "MODEL_MISSING"


def test_an_export_is_downloaded_and_verified(steer, recording_hub, tmp_path):
    recording_hub.answers["/audit/export"] = [jsonl(EVENTS)]
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


def test_jobs_are_listed_shown_and_cancelled(steer, recording_hub):
    recording_hub.answers |= {
        "/jobs": [{"results": [job("running", 4)]}],
        f"/jobs/{JOB}": [job("running", 4)],
        f"/jobs/{JOB}/cancel": [job("running")],
    }
    listed = steer("job", "list").output
    assert JOB in listed
    assert "4/10" in listed
    assert json.loads(steer("job", "show", JOB, "--json").output)["stage"] == "sweep"
    assert "cancellation requested" in steer("job", "cancel", JOB).output


def test_a_failed_search_is_shown_with_what_stops_each_cell(steer, recording_hub):
    gates = [{"metric": "facts", "verdict": "pass", "value": "0"}, {"metric": "perplexity_ratio", "verdict": "fail", "value": "1.182"}]
    cells = [{"layer": None, "alpha": "0"}, {"layer": 16, "alpha": "0.85", "perplexity_ratio": "1.182", "gates": gates}]
    search = {"nearest": {"layer": 16, "alpha": "0.85", "sentence": "only perplexity_ratio stops layer 16"}, "cells": cells, "replies": []}
    recording_hub.answers |= {f"/jobs/{JOB}": [job("failed", search=search)]}
    shown = steer("job", "show", JOB).output
    assert "search: only perplexity_ratio stops layer 16" in shown
    assert "perplexity_ratio (1.182)" in shown
    assert "facts (0)" not in shown


def test_a_token_is_issued_alone_on_standard_output_and_revoked(steer, recording_hub):
    issued = {"id": JOB, "prefix": "sht_abcdefgh", "name": "ci", "expires_at": "2026-12-01T00:00:00Z", "token": "sht_the-secret"}
    recording_hub.answers |= {
        "/tokens": [{"results": [issued | {"scopes": ["read", "author"], "tenant": None}]}],
        f"/tokens/{JOB}": [b""],
    }
    assert "read, author" in steer("token", "list").output
    recording_hub.answers["/tokens"] = [issued]
    result = steer("token", "issue", "ci", "--scope", "read", "--scope", "author", "--tenant", "harbor", "--days", 7)
    assert result.stdout == "sht_the-secret\n"
    assert recording_hub.bodies()[-1] == {"name": "ci", "days": 7, "scopes": ["read", "author"], "tenant": "harbor"}
    assert steer("token", "revoke", JOB).exit_code == 0
    assert recording_hub.sent[-1][:2] == ("DELETE", f"/tokens/{JOB}")


def test_a_job_is_watched_to_its_end(steer, recording_hub):
    recording_hub.answers[f"/jobs/{JOB}"] = [job("queued"), job("running", 4), job("running", 9), job("succeeded", 10)]
    result = steer("job", "watch", JOB, "--interval", "0.05")
    assert result.exit_code == 0
    assert "succeeded" in result.output
    assert len(recording_hub.sent) == 4


def test_a_running_job_says_how_long_it_will_take(steer, recording_hub):
    running = [job("running", 4), job("running", 5, seconds_left=95, tokens_per_second=41.26), job("running", 6, seconds_left=9000)]
    recording_hub.answers["/jobs"] = [{"results": running}]
    listed = steer("job", "list").output
    assert [words in listed for words in ("no estimate yet", "about 95 s left", "about 2.5 h left")] == [True] * 3
    assert [describe_job(each) for each in (*running[:2], job("queued"))] == [
        "extraction running sweep, no estimate yet",
        "extraction running sweep, about 95 s left, 41.26 tokens/s",
        "extraction queued sweep",
    ]


def test_a_chain_is_watched_to_its_draft(steer, recording_hub):
    following = "11111111-2222-4333-8444-555555555555"
    recording_hub.answers[f"/jobs/{JOB}"] = [job("succeeded", 10, profile="harbor-empathy", followed_by=following)]
    drafted = {"profile": "harbor-empathy", "number": 2}
    recording_hub.answers[f"/jobs/{following}"] = [job("queued"), job("succeeded", 9, profile="harbor-empathy", drafted_revision=drafted)]
    result = steer("job", "watch", JOB, "--interval", "0.05")
    assert result.exit_code == 0
    assert f"job {JOB} succeeded, and goes on as job {following}" in result.output
    assert f"job {following} succeeded, and drafted harbor-empathy@2" in result.output


def test_a_chain_that_ends_without_a_draft_says_why(steer, recording_hub):
    note = "no draft of harbor-empathy: gates failed on facts"
    recording_hub.answers[f"/jobs/{JOB}"] = [job("succeeded", 10, profile="harbor-empathy", note=note)]
    assert note in steer("job", "watch", JOB, "--interval", "0.05").output


def test_a_job_that_fails_or_is_cancelled_fails_the_watch(steer, recording_hub):
    recording_hub.answers[f"/jobs/{JOB}"] = [job("failed", error_code="NON_FINITE", error_message="layer 6 overflows")]
    result = steer("job", "watch", JOB)
    assert error_of(result) == "NON_FINITE"
    assert "layer 6 overflows" in result.stderr
    recording_hub.answers[f"/jobs/{JOB}"] = [job("cancelled")]
    assert error_of(steer("job", "watch", JOB)) == "JOB_CANCELLED"
    recording_hub.answers[f"/jobs/{JOB}"] = [{"surprise": 1}]
    assert error_of(steer("job", "watch", JOB)) == "HUB_ANSWER"


def test_a_trust_file_is_read_strictly(steer, tmp_path):
    for name, text in (("token", TOKEN), ("trust", '{"schema":"steerhub.trust/1","keys":[]}')):
        (tmp_path / name).write_text(text)
    serve = ["node", "serve", "--name", "n", "--enrolment-token-file", tmp_path / "token", "--trust", tmp_path / "trust"]
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
from tests.support.hub_simulator import FakeEngine, NODE_KEY, NODE_TOKEN, Signer, trust
from steernode.hub.client import FleetClient
from steernode.node.follower import Follower
from steernode.node.responder import Responder
from steernode.node.runner import NodeRunner
from steernode.node.serve import serve

client = FleetClient("http://127.0.0.1:9", "production", "node-1", NODE_TOKEN, NODE_KEY)
engine, keys = FakeEngine(), trust(Signer())
follower = Follower(environment="production", name="node-1", store=Path(sys.argv[1]), client=client, keys=keys, engine=engine)
responder = Responder(follower, engine)
follower.start()
serve(responder, NodeRunner(follower, responder), model_name="m", port=int(sys.argv[2]))
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
    program = f"import sys, steernode.cli, steernode.node.follower; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
