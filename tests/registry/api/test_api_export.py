"""The audit log over HTTP: read in pages, and taken away as a stream that proves itself offline."""

import json
from pathlib import Path

import httpx
import pytest

from registry.models import AuditEvent
from registry.services.people import issue_token
from registry.services.tenants import create_tenant
from steernode.hub.client import HubClient
from steernode.proof.verify import verify_export
from tests.support.api import code_of


def read_stream(answer) -> bytes:
    return b"".join(answer.streaming_content)


@pytest.mark.parametrize(
    ("query", "kind"), [("", "application/jsonl"), ("?format=jsonl", "application/jsonl"), ("?format=csv", "text/csv")]
)
def test_an_auditor_takes_the_log_away(api, iris, flag_on, tmp_path: Path, query, kind):
    answer = api(iris).get(f"/api/v1/audit/export{query}")
    assert answer["Content-Type"].startswith(kind)
    assert "attachment" in answer["Content-Disposition"]
    target = tmp_path / "audit"
    target.write_bytes(read_stream(answer))
    assert verify_export(target).events == AuditEvent.objects.count()
    assert AuditEvent.objects.order_by("-seq").values_list("action", "actor_name").first() == ("audit.exported", "iris")


@pytest.mark.parametrize("export_format", ["jsonl", "csv"])
def test_an_export_streams_from_a_real_server(hub, iris, flag_on, tmp_path: Path, monkeypatch, export_format):
    monkeypatch.setattr("registry.audit.export._EVENTS_PER_CHUNK", 5)
    client = HubClient(hub, issue_token(iris, name="t", actor="tests")[1])
    target = tmp_path / f"audit.{export_format}"
    client.download(f"/audit/export?format={export_format}", target)
    client.close()
    assert verify_export(target).to_seq == AuditEvent.objects.count()


def test_a_real_server_refuses_in_problem_documents_too(hub, ada):
    token = issue_token(ada, name="t", actor="tests")[1]
    answer = httpx.post(f"{hub}/api/v1/tenants", content=b"{", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "PERMISSION_DENIED")
    two = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer sht_other")]
    assert httpx.get(f"{hub}/api/v1/whoami", headers=two).json()["code"] == "NOT_AUTHENTICATED"


def test_events_are_filtered_by_what_they_tell_of(api, iris, flag_on, approved):
    auditor = api(iris)

    def actions(query: str) -> list[str]:
        return [event["action"] for event in auditor.get(f"/api/v1/audit/events?{query}").json()["results"]]

    assert actions("action=flag.changed") == ["flag.changed"]
    assert actions(f"object={approved.pk}")[0] == "revision.approved"
    assert set(actions("actor=grace")) == {"revision.approval_given", "revision.approved"}
    assert "flag.changed" in actions("tenant=harbor&environment=production")
    assert actions("object=profile") == ["profile.created"]
    assert actions("action=nothing") == []


def test_an_event_shows_what_was_hashed(api, iris, flag_on):
    (event,) = api(iris).get("/api/v1/audit/events?action=flag.changed").json()["results"]
    row = AuditEvent.objects.get(seq=event["seq"])
    assert event["inference_configuration"] == "inference configuration"
    assert event["details"] == json.loads(bytes(row.body))["details"]
    assert (event["digest"], event["previous_digest"]) == (row.digest, row.previous_digest)
    assert event["actor"] == {"type": "person", "name": "oscar"}


def test_lists_come_in_pages(api, iris, flag_on):
    auditor = api(iris)
    first = auditor.get("/api/v1/audit/events?size=5").json()
    assert (len(first["results"]), first["previous"]) == (5, None)
    second = auditor.get(first["next"]).json()
    assert second["results"][0]["seq"] == first["results"][-1]["seq"] - 1


def test_whoever_follows_the_log_by_its_numbers_misses_nothing(api, iris, oscar, flag_on):
    auditor = api(iris)
    first = auditor.get("/api/v1/audit/events?from_seq=1&size=5").json()
    assert [event["seq"] for event in first["results"]] == [1, 2, 3, 4, 5]
    assert [event["seq"] for event in auditor.get(first["next"]).json()["results"]] == [6, 7, 8, 9, 10]
    last = AuditEvent.objects.latest("seq").seq
    assert auditor.get(f"/api/v1/audit/events?from_seq={last + 1}").json()["results"] == []
    create_tenant("later", actor=oscar)
    (event,) = auditor.get(f"/api/v1/audit/events?from_seq={last + 1}").json()["results"]
    assert (event["seq"], event["action"]) == (last + 1, "tenant.created")


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.0", "²", "9" * 19, ""])
def test_a_number_that_no_event_has_is_refused(api, iris, number):
    answer = api(iris).get(f"/api/v1/audit/events?from_seq={number}")
    assert code_of(answer) == (400, "VALIDATION")


def test_only_an_auditor_reads_or_exports(api, root, ada):
    before = AuditEvent.objects.filter(action="audit.exported").count()
    for somebody in (root, ada):
        assert code_of(api(somebody).get("/api/v1/audit/export")) == (403, "PERMISSION_DENIED")
    assert AuditEvent.objects.filter(action="audit.exported").count() == before
