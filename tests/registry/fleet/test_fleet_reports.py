"""Vector files, reports and events: what else a node and the hub tell each other."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from registry.audit import Action
from registry.models import AuditEvent, NodeReport, ServingNode
from registry.reads.fleet import SILENT_AFTER, convergence_of
from steernode.canonical import sha256_hex
from tests.support.api import code_of
from tests.support.files import pairs_file, vector_file
from tests.support.nodes import applied, enroll, report, signed
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


def test_a_report_is_the_nodes_last_word_and_one_audit_event(pull, node):
    assert pull.post(REPORT, content=signed(report())).status_code == 204
    assert pull.post(REPORT, content=signed(report())).status_code == 204
    record, _ = node
    record.refresh_from_db()
    assert (record.last_result, record.applied_revision, record.engine) == ("ACK", 1, "transformers 5")
    assert NodeReport.objects.count() == 1
    assert AuditEvent.objects.filter(action=Action.NODE_ACKED, actor_type="node", actor_name="node-1").count() == 1
    assert pull.post(f"/fleet/v1/nodes/{record.pk}/report", content=signed(report())).status_code == 204


def test_weights_unchanged_stands_on_what_a_node_checked_and_says_which_files(pull, node, base_model):
    pull.post(REPORT, content=signed(report(fingerprint=base_model.fingerprint)))
    pull.post(REPORT, content=signed(report(fingerprint=base_model.fingerprint, result="NACK", code="BLOB_DIGEST", revision=2)))
    pull.post(REPORT, content=signed(report(fingerprint="ab" * 32)))
    bodies = [
        json.loads(bytes(event.body))
        for event in AuditEvent.objects.filter(object_type="servingnode", actor_type="node").exclude(action="node.enrolled").order_by("seq")
    ]
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
    pull.post(REPORT, content=signed(report()))
    assert convergence() == "SYNCED"
    publish_again(production)
    assert convergence() == "BEHIND"
    pull.post(REPORT, content=signed(report(result="NACK", code="BLOB_DIGEST", revision=2)))
    assert convergence() == "NACKED"
    pull.post(REPORT, content=signed(report(revision=2)))
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
    ({"result": "MAYBE"}, (422, "REPORT_RESULT")),
    ({"result": "NACK"}, (422, "REPORT_CODE")),
    ({"is_admin": True}, (422, "REPORT_FIELD")),
    ({"revision": "1"}, (422, "REPORT_FIELD")),
    ({"revision": -1}, (422, "REPORT_FIELD")),
    ({"slots": {}}, (422, "REPORT_FIELD")),
    ({"seq": 0}, (422, "REPORT_FIELD")),
    ({"seq": 2**53}, (422, "REPORT_FIELD")),
    ({"boot_id": ""}, (422, "REPORT_FIELD")),
    ({"applied": None}, (422, "REPORT_FIELD")),
    ({"revision": 7}, (422, "REPORT_FIELD")),
    ({"applied": {"revision": 1}}, (422, "REPORT_FIELD")),
    ({"capabilities": "all"}, (422, "REPORT_FIELD")),
    ({"highest_revision": 2**53}, (422, "REPORT_FIELD")),
    ({"stop": {"sequence": 1}}, (422, "REPORT_FIELD")),
    ({"stop": {"sequence": 2**53, "digest": "ab" * 32, "held": 1, "surplus": []}}, (422, "REPORT_FIELD")),
    ({"stop": {"sequence": 1, "digest": "ab" * 32, "held": 1, "surplus": ["a" * 32] * 51}}, (422, "REPORT_FIELD")),
    ({"stop": {"sequence": 1, "digest": "ab" * 32, "held": 1, "surplus": ["k"]}}, (422, "REPORT_FIELD")),
    ({"unservable": [{"profile": "p"}]}, (422, "REPORT_FIELD")),
    ({"unservable": [{"profile": "p", "revision": 1, "code": "CAPABILITY", "message": "m"}] * 51}, (422, "REPORT_FIELD")),
    ({"node": "node-2"}, (403, "NODE")),
    ({"environment": "staging"}, (403, "ENVIRONMENT")),
    ({"message": "x" * 1_100_000}, (413, "REPORT_TOO_LARGE")),
]


def test_a_bad_report_is_refused_and_nothing_of_it_kept(pull):
    for wrong, expected in BAD_REPORTS:
        document = wrong if isinstance(wrong, bytes) else report(applied=applied()) | wrong
        assert code_of(pull.post(REPORT, content=signed(document))) == expected, str(wrong)[:200]
    assert NodeReport.objects.count() == 0


def test_a_report_lacks_no_field(pull):
    for name in report():
        document = report()
        del document[name]
        assert code_of(pull.post(REPORT, content=signed(document))) == (422, "REPORT_FIELD"), name


def test_a_report_is_signed_with_the_nodes_own_key(pull, node):
    stranger = Ed25519PrivateKey.generate()
    document = report()
    assert code_of(pull.post(REPORT, json=document)) == (422, "REPORT_UNSIGNED")
    assert code_of(pull.post(REPORT, content=b"nothing")) == (422, "REPORT_UNSIGNED")
    assert code_of(pull.post(REPORT, content=signed(document, payload_type="text/plain"))) == (422, "REPORT_UNSIGNED")
    assert code_of(pull.post(REPORT, content=signed(document, stranger))) == (403, "REPORT_SIGNATURE")
    record, _ = node
    record.refresh_from_db()
    assert record.last_seen_at is None
    assert pull.post(REPORT, content=signed(document)).status_code == 204


def test_a_node_of_before_keys_pulls_and_must_enrol_to_report(pull, node):
    ServingNode.objects.update(public_key="")
    assert pull.get("/fleet/v1/environments/production/snapshot").status_code == 200
    assert code_of(pull.post(REPORT, content=signed(report()))) == (403, "REPORT_SIGNATURE")


def test_a_node_reports_as_itself_only(pull, production, oscar):
    enroll("node-2", environment=production, actor=oscar)
    assert code_of(pull.post("/fleet/v1/nodes/node-2/report", content=signed(report(node="node-2")))) == (403, "NODE")


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
