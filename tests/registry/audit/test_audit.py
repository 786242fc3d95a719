"""Everything that happened is in the log, in order, and the log proves itself without this server."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.audit import Action, append_events, link_events, make_entry, record
from registry.audit.export import open_export
from registry.models import AuditEvent
from registry.services.profiles import retire_revision
from registry.services.transition import transition
from steernode.canonical import canonical_json
from steernode.errors import CanonicalError, VerificationFailed
from steernode.proof.events import INFERENCE_CONFIGURATION
from steernode.proof.export import CSV_COLUMNS
from steernode.proof.verify import verify_export


@pytest.fixture
def story(flag_on, approved, oscar) -> None:
    """A whole life of a revision, to its retirement."""
    retire_revision(approved.pk, reason="superseded", actor=oscar)


def write_export(tmp_path, export_format: str, actor):
    export = open_export(export_format, actor=actor)
    path = tmp_path / f"audit.{export_format}"
    path.write_bytes(b"".join(export.chunks()))
    return export, path


@pytest.mark.parametrize("export_format", ["jsonl", "csv"])
def test_an_export_is_proved_offline(story, iris, tmp_path, export_format):
    export, path = write_export(tmp_path, export_format, iris)
    report = verify_export(path)
    assert (report.events, report.head, report.is_from_start) == (AuditEvent.objects.count(), export.to_digest, True)


def test_an_export_tells_of_itself(story, iris, tmp_path):
    _, path = write_export(tmp_path, "jsonl", iris)
    last = json.loads(json.loads(path.read_text().splitlines()[-1])["body"])
    assert (last["action"], last["actor"]) == ("audit.exported", {"type": "person", "name": "iris"})


def test_an_export_is_streamed_in_chunks_and_holds_nothing_later(story, iris, oscar, tmp_path, monkeypatch):
    monkeypatch.setattr("registry.audit.export._EVENTS_PER_CHUNK", 3)
    export = open_export("jsonl", actor=iris)
    chunks = export.chunks()
    first = next(chunks)
    transition(record)(Action.USER_CREATED, actor=oscar, subject=oscar)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(first + b"".join(chunks))
    assert verify_export(path).to_seq == export.to_seq < AuditEvent.objects.count()


def test_one_changed_byte_is_found(story, iris, tmp_path):
    _, path = write_export(tmp_path, "jsonl", iris)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"flag.changed", b"flag.chanted", 1))
    with pytest.raises(VerificationFailed, check=lambda error: error.code == "E_DIGEST"):
        verify_export(path)


def test_a_spreadsheet_runs_nothing_from_an_export(production, oscar, iris, tmp_path, person):
    person("=HYPERLINK", "author")
    _, path = write_export(tmp_path, "csv", iris)
    rows = list(csv.reader(io.StringIO(path.read_text())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row)
    assert verify_export(path).events == AuditEvent.objects.count()


def test_every_event_says_what_steering_is_and_numbers_have_no_gaps(story):
    versions: dict[tuple[str, str], list[int]] = {}
    for position, event in enumerate(AuditEvent.objects.order_by("seq"), start=1):
        body = json.loads(bytes(event.body))
        assert event.seq == body["seq"] == position
        # Nobody looked at the weights in any of these.
        assert body["inference_configuration"] == INFERENCE_CONFIGURATION == "inference configuration"
        assert canonical_json(body) == bytes(event.body)
        assert (body["action"], body["object"]["version"]) == (event.action, event.object_version)
        versions.setdefault((event.object_type, event.object_id), []).append(event.object_version)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in versions.values())


def test_what_a_revision_went_through_is_in_the_log(story, approved):
    events = AuditEvent.objects.filter(object_type="profilerevision", object_id=str(approved.pk)).order_by("seq")
    assert list(events.values_list("action", "actor_name")) == [
        ("revision.drafted", "ada"),
        ("revision.submitted", "ada"),
        ("revision.approval_given", "grace"),
        ("revision.approved", "grace"),
        ("revision.retired", "oscar"),
    ]
    assert {event.base_model_fingerprint for event in events} == {approved.base_model.fingerprint}


def test_an_event_outside_the_catalogue_or_with_a_float_is_not_recorded(oscar):
    before = AuditEvent.objects.count()
    with pytest.raises(ValueError, match="not an audit action"):
        transition(record)("user.promoted", actor=oscar, subject=oscar)
    with pytest.raises(CanonicalError, check=lambda error: error.code == "FLOAT_IN_DIGEST"):
        transition(record)(Action.USER_CREATED, actor=oscar, subject=oscar, details={"alpha": 0.5})
    assert AuditEvent.objects.count() == before


def test_an_event_gets_its_time_with_its_place(oscar):
    """What was said first and committed last is last, by its number and by its time: a reader who was there in between misses nothing."""
    slow = make_entry(Action.USER_CREATED, actor=oscar, subject=oscar)
    (quick,) = append_events([make_entry(Action.USER_ACCESS_CHANGED, actor=oscar, subject=oscar)])
    (late,) = append_events([slow])
    assert late.seq == quick.seq + 1
    assert late.occurred_at > quick.occurred_at


def test_no_event_is_earlier_than_the_one_before_it_even_if_the_clock_is_set_back(oscar):
    entry = make_entry(Action.USER_CREATED, actor=oscar, subject=oscar)
    (before,) = append_events([entry])
    tomorrow = timezone.now() + timedelta(days=1)
    key = (before.object_type, before.object_id)
    ahead = link_events(
        [make_entry(Action.USER_CREATED, actor=oscar, subject=oscar)],
        after=(before.seq, before.digest),
        at=tomorrow,
        versions={key: before.object_version},
    )
    AuditEvent.objects.bulk_create(ahead)
    (event,) = append_events([make_entry(Action.USER_CREATED, actor=oscar, subject=oscar)])
    assert event.occurred_at == tomorrow
    assert json.loads(bytes(event.body))["ts"] == tomorrow.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
