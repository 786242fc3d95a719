"""Vector files, reports and events: what else a node and the hub tell each other."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from django.utils import timezone

from registry.audit import Action
from registry.models import AuditEvent, NodeReport
from registry.reads.fleet import SILENT_AFTER, convergence_of
from registry.services.nodes import enroll_node
from steernode.canonical import sha256_hex
from tests.support.api import code_of
from tests.support.files import pairs_file, vector_file
from tests.support.steering import publish_again

EVENTS = "/fleet/v1/environments/production/events"
REPORT = "/fleet/v1/nodes/node-1/report"


@pytest.fixture
def blob(vector, base_model, contrast_set) -> tuple[str, bytes]:
    return f"/fleet/v1/blobs/sha256/{vector.digest}", vector_file(base_model.fingerprint, contrast_set.digest)


def test_a_vector_file_is_served_whole_and_for_ever(pull, blob):
    path, data = blob
    answer = pull.get(path)
    assert (answer.status_code, answer.content) == (200, data)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["etag"] == f'"{sha256_hex(data)}"'
    assert pull.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_a_part_of_a_vector_file_is_served(pull, blob):
    path, data = blob
    for asked, first, end in (("bytes=0-9", 0, 10), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=5-99999999", 5, None)):
        answer = pull.get(path, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, data[first:end]), asked
        assert answer.headers["content-range"].endswith(f"/{len(data)}")


def test_a_range_nobody_can_serve_is_refused_and_one_not_understood_ignored(pull, blob):
    for asked, status in (("bytes=999999-", 416), ("bytes=-0", 416), ("bytes=9-5", 200), ("lines=1-2", 200), ("bytes=1-2,4-5", 200)):
        assert pull.get(blob[0], headers={"Range": asked}).status_code == status, asked


def test_only_vector_files_leave_the_store_by_this_door(pull, hub, blob, contrast_set):
    assert contrast_set.digest == sha256_hex(pairs_file())
    for digest in (contrast_set.digest, "0" * 64):
        assert code_of(pull.get(f"/fleet/v1/blobs/sha256/{digest}")) == (404, "BLOB_MISSING")
    assert code_of(pull.get("/fleet/v1/blobs/sha256/../../etc/passwd")) == (404, "NOT_FOUND")
    assert code_of(httpx.get(f"{hub}{blob[0]}")) == (401, "NOT_AUTHENTICATED")


def report(**changes: object) -> dict[str, object]:
    full = {
        "result": "ACK",
        "code": "",
        "message": "",
        "revision": 1,
        "seq": 1,
        "node": "node-1",
        "environment": "production",
        "boot_id": "b" * 32,
        "engine": "transformers 5",
        "fingerprint": "ab" * 32,
        "applied": {"revision": 1},
        "slots": [{"tenant": "harbor", "route": "", "reason": "no_flag", "steering": None}],
        "counters": {"requests": 3},
        "node_utc": "2026-11-22T10:00:00Z",
    }
    return full | changes


def test_a_report_is_the_nodes_last_word_and_one_audit_event(pull, node):
    assert pull.post(REPORT, json=report()).status_code == 204
    assert pull.post(REPORT, json=report(seq=2)).status_code == 204
    record, _ = node
    record.refresh_from_db()
    assert (record.last_result, record.applied_revision, record.engine) == ("ACK", 1, "transformers 5")
    assert NodeReport.objects.count() == 1
    assert AuditEvent.objects.filter(action=Action.NODE_ACKED, actor_type="node", actor_name="node-1").count() == 1
    assert pull.post(f"/fleet/v1/nodes/{record.pk}/report", json=report()).status_code == 204


def test_weights_unchanged_stands_on_what_a_node_checked_and_says_which_files(pull, node, base_model):
    pull.post(REPORT, json=report(fingerprint=base_model.fingerprint))
    pull.post(REPORT, json=report(fingerprint=base_model.fingerprint, result="NACK", code="BLOB_DIGEST", revision=2))
    pull.post(REPORT, json=report(fingerprint="ab" * 32, revision=3))
    bodies = [json.loads(bytes(event.body)) for event in AuditEvent.objects.filter(actor_type="node").order_by("seq")]
    checked, refused, of_other_files = bodies
    assert checked["inference_configuration"] == "inference configuration, weights unchanged"
    assert checked["details"]["weights_checked_by"] == "node-1"
    assert checked["base_model_fingerprint"] == base_model.fingerprint
    assert checked["details"]["weights_checked_files"] == [file["name"] for file in base_model.manifest["files"]]
    assert "model.safetensors" in checked["details"]["weights_checked_files"]
    assert {body["inference_configuration"] for body in (refused, of_other_files)} == {"inference configuration"}


def test_convergence_is_judged_when_it_is_read(pull, node, production, api, iris):
    def convergence() -> str:
        return api(iris).get("/api/v1/nodes/node-1").json()["convergence"]

    assert convergence() == "NEVER"
    pull.post(REPORT, json=report())
    assert convergence() == "SYNCED"
    publish_again(production)
    assert convergence() == "BEHIND"
    pull.post(REPORT, json=report(result="NACK", code="BLOB_DIGEST", revision=2))
    assert convergence() == "NACKED"
    pull.post(REPORT, json=report(revision=2))
    assert convergence() == "SYNCED"
    record, _ = node
    record.refresh_from_db()
    record.environment.refresh_from_db()
    assert convergence_of(record, timezone.now() + SILENT_AFTER + timedelta(seconds=1)) == "SILENT"


BAD_REPORTS = [
    (b"", (400, "JSON_SYNTAX")),
    (b"[]", (422, "REPORT_SHAPE")),
    (b'{"result":"ACK","result":"NACK"}', (400, "JSON_DUPLICATE_KEY")),
    (b'{"result":"ACK","revision":NaN}', (400, "JSON_NUMBER")),
    (b'{"result":"ACK","engine":"\\u0000"}', (400, "JSON_NUL")),
    (json.dumps(report(result="MAYBE")).encode(), (422, "REPORT_RESULT")),
    (json.dumps(report(result="NACK")).encode(), (422, "REPORT_CODE")),
    (json.dumps(report(is_admin=True)).encode(), (422, "REPORT_FIELD")),
    (json.dumps(report(revision="1")).encode(), (422, "REPORT_FIELD")),
    (json.dumps(report(revision=-1)).encode(), (422, "REPORT_FIELD")),
    (json.dumps(report(slots={})).encode(), (422, "REPORT_FIELD")),
    (json.dumps(report(node="node-2")).encode(), (403, "NODE")),
    (json.dumps(report(environment="staging")).encode(), (403, "ENVIRONMENT")),
    (json.dumps(report(message="x" * 1_100_000)).encode(), (413, "REPORT_TOO_LARGE")),
]


def test_a_bad_report_is_refused_and_nothing_of_it_kept(pull):
    for body, expected in BAD_REPORTS:
        assert code_of(pull.post(REPORT, content=body)) == expected, body[:200]
    assert NodeReport.objects.count() == 0


def test_a_node_reports_as_itself_only(pull, production, oscar):
    enroll_node("node-2", environment=production, actor=oscar)
    assert code_of(pull.post("/fleet/v1/nodes/node-2/report", json=report(node="node-2"))) == (403, "NODE")


def test_events_tell_of_the_present_head_and_of_every_later_one(hub, node, production):
    seen: list[dict[str, object]] = []

    def listen() -> None:
        with httpx.stream("GET", f"{hub}{EVENTS}", headers={"Authorization": f"Bearer {node[1]}"}, timeout=5) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            assert stream.headers["x-accel-buffering"] == "no"
            for line in stream.iter_lines():
                if line.startswith("data: ") and "revision" in line:
                    seen.append({"at": time.monotonic(), **json.loads(line.removeprefix("data: "))})
                if len(seen) == 2:
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(0.8)
    publish_again(production)
    flipped = time.monotonic()
    thread.join(5)
    assert [event["revision"] for event in seen] == [1, 2]
    assert seen[1]["etag"] == production.snapshots.get(revision=2).etag
    assert seen[1]["at"] - flipped < 1.5


def test_a_quiet_stream_says_that_it_lives(hub, node, monkeypatch):
    monkeypatch.setattr("registry.fleet.events.HEARTBEAT_SECONDS", 0.2)
    with httpx.stream("GET", f"{hub}{EVENTS}", headers={"Authorization": f"Bearer {node[1]}"}, timeout=5) as stream:
        lines = stream.iter_lines()
        assert any(line.startswith(":") for line in (next(lines) for _ in range(12)))


def test_times_of_the_trust_document_cover_now(hub):
    keys = httpx.get(f"{hub}/fleet/v1/trust").json()["keys"]
    assert [key["purposes"] for key in keys] == [["snapshot"], ["stop"]]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert all(key["not_before"] < now < key["not_after"] for key in keys)
