"""What somebody sends who means harm or is careless: ids of others, odd times, text that is code elsewhere."""

import csv
import io
from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.utils import timezone

from registry.models import AuditEvent, Tenant
from registry.services.kills import engage_kill
from tests.support.api import code_of

EVENTS = "/api/v1/audit/events"


# -- Ids ------------------------------------------------------------------------------------------------------------------------


def test_an_id_in_other_letters_or_of_another_kind_tells_nothing(api, oscar, production, evaluation, ada):
    """What exists and what does not are one answer wherever the address is not the record's own."""
    kill = engage_kill("everything", reason="x", actor=oscar)
    for path, known in (("kills", kill.pk), ("jobs", evaluation.job_id), ("evaluations", evaluation.pk)):
        bodies = set()
        for wrong in (str(known).upper(), str(uuid4()).upper(), known.hex, uuid4().hex, f"{{{known}}}", "7", str(2**70), "-1", "null"):
            if wrong == str(known):  # a UUID without letters has no other case
                continue
            answer = api(ada).get(f"/api/v1/{path}/{wrong}")
            assert code_of(answer) == (404, "NOT_FOUND"), wrong
            bodies.add(answer.content)
        assert len(bodies) == 1, path


def test_an_id_of_another_record_is_not_this_kind_of_record(api, ada, evaluation, vector):
    for foreign in (vector.pk, evaluation.job_id, ada.pk, UUID(int=0)):
        assert code_of(api(ada).get(f"/api/v1/evaluations/{UUID(int=foreign) if isinstance(foreign, int) else foreign}"))[0] == 404


def test_a_revoked_token_is_revoked_once_more_without_a_word(api, ada):
    made = api(ada).post("/api/v1/tokens", {"name": "t"}).json()
    for _ in range(2):
        assert api(ada).delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert AuditEvent.objects.filter(action="token.revoked").count() == 1


@pytest.mark.parametrize(
    ("path", "body", "item"),
    [
        ("tenants", {"name": "x", "status": "active"}, "status"),
        ("profiles", {"name": "p", "intent": "x", "axis": "a", "risk_class": "low", "owner": "grace"}, "owner"),
        ("kills", {"kind": "everything", "reason": "x", "lifted_by": "oscar"}, "lifted_by"),
        ("nodes", {"name": "n", "environment": "production", "token_sha256": "0" * 64}, "token_sha256"),
        ("tokens", {"name": "t", "user": "grace"}, "user"),
        ("tokens", {"name": "t", "expires_at": None}, "expires_at"),
        ("profiles/harbor-empathy/revisions/1/approve", {"approved_by": "mary", "revision_digest": "0" * 64}, "approved_by"),
        ("profiles/harbor-empathy/revisions/1/reject", {"comment": "x", "decided_at": "2020-01-01"}, "decided_at"),
    ],
)
def test_nobody_assigns_who_did_something_or_when(api, person, submitted, production, unchanged, path, body, item):
    before = unchanged()
    everything = person("everything", "author", "approver", "operator", "admin")
    before = unchanged()
    answer = api(everything).post(f"/api/v1/{path}", body)
    assert code_of(answer) == (400, "UNKNOWN_FIELD")
    assert answer.json()["item"] == item
    # The client's own token is the one thing that was added.
    assert unchanged()[:-1] == before[:-1]


# -- Times ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-02-30T00:00:00Z",
        "since=10000-01-01T00:00:00Z",
        "since=2026-08-01T00:00:00",
        "since=2026-08-01",
        "since=2026-08-02T00:00:00Z&until=2026-08-01T00:00:00Z",
        "since=1026-08-01T00:00:00Z&until=2026-08-01T00:00:00Z",
        "since=yesterday",
        "since=",
        "until=1754000000",
        "until=2026-08-01T00:00:00%00Z",
        "until=2026-08-01T25:00:00Z",
        "until=2026-08-01T00:00:00%2B99:00",
        "untill=2026-08-01T00:00:00Z",
    ],
)
def test_a_time_that_is_none_is_refused(api, iris, query):
    assert code_of(api(iris).get(f"{EVENTS}?{query}"))[0] == 400


def test_events_are_found_by_their_time(api, iris, oscar, ada):
    from registry.services.tenants import create_tenant

    create_tenant("harbor", actor=oscar)
    moment = timezone.now()
    create_tenant("atlas", actor=oscar)

    def found(**period: datetime) -> set[str]:
        query = "&".join(f"{name}={quote(value.isoformat())}" for name, value in period.items())
        return {row["object"]["name"] for row in api(iris).get(f"{EVENTS}?action=tenant.created&{query}").json()["results"]}

    assert found(since=moment) == {"atlas"}
    assert found(until=moment) == {"harbor"}
    assert found(since=moment - timedelta(days=1), until=moment + timedelta(days=1)) == {"harbor", "atlas"}
    assert found(until=datetime(1, 1, 1, tzinfo=UTC)) == set()
    # A plus sign that nobody escaped arrives as a space.
    assert api(iris).get(f"{EVENTS}?until=2020-01-01T00:00:00+02:00").json()["results"] == []


# -- Text -----------------------------------------------------------------------------------------------------------------------

NASTY = {
    "a formula": '=HYPERLINK("http://evil.example","x")',
    "another formula": "@SUM(1+1)*cmd|' /C calc'!A0",
    "a script": "<script>alert(1)</script>",
    "an attribute": '" onmouseover="alert(1)',
    "a terminal sequence": "\x1b[2J\x1b]0;owned\x07",
    "a forged log line": "fine\nCEF:0|evil|hub|1|100|everything approved|10|",
    "a text turned round": "\u202egnp.exe\u2066",
    "a template": "{{ 7*7 }}{% debug %}",
}


@pytest.mark.parametrize("row", NASTY)
def test_text_is_kept_as_written_and_shown_inert(api, oscar, iris, production, row, caplog):
    reason = f"because {NASTY[row]}" if "formula" not in row else NASTY[row]
    caplog.set_level("INFO")
    answer = api(oscar).post("/api/v1/kills", {"kind": "everything", "reason": reason})
    assert answer.json()["reason"] == reason
    event = next(e for e in api(iris).get(EVENTS).json()["results"] if e["action"] == "kill.engaged")
    assert event["details"]["reason"] == reason
    # In the console it is text, in a spreadsheet no formula, and in no log at all.
    browser = Client()
    browser.force_login(oscar)
    page = browser.get("/console/kills/").content.decode()
    assert "<script>alert" not in page
    assert 'onmouseover="alert' not in page
    assert ">49<" not in page
    export = b"".join(api(iris).get("/api/v1/audit/export?format=csv")).decode()
    for cells in csv.reader(io.StringIO(export)):
        assert not any(cell.startswith(("=", "@", "+", "-", "\t", "\r")) for cell in cells)
    assert NASTY[row] not in caplog.text


def test_text_past_its_limit_is_refused_whole(api, oscar, ada, production, unchanged):
    before = unchanged()
    assert code_of(api(oscar).post("/api/v1/kills", {"kind": "everything", "reason": "x" * 65_536})) == (400, "VALIDATION")
    long_intent = {"name": "p", "intent": "x" * 65_536, "axis": "a", "risk_class": "low"}
    assert code_of(api(ada).post("/api/v1/profiles", long_intent))[1] in ("VALIDATION", "UNKNOWN_FIELD")
    assert unchanged()[:-1] == before[:-1]


@pytest.mark.parametrize("key", ["__proto__", "constructor", "prototype"])
def test_a_key_that_is_special_elsewhere_is_an_unknown_field_here(api, oscar, key):
    answer = api(oscar).post("/api/v1/tenants", {"name": "x", key: {"admin": True}})
    assert code_of(answer) == (400, "UNKNOWN_FIELD")
    assert not Tenant.objects.exists()


def test_one_object_is_exported_by_its_name_whatever_kinds_of_name_there_are(api, ada, flag_on):
    def names(query: str) -> list[str]:
        documents = api(ada).get(f"/api/v1/manifests/export?{query}").json()["documents"]
        return [document["metadata"]["name"] for document in documents]

    assert names("name=harbor-empathy") == ["harbor-empathy"]
    assert names("name=production/harbor") == ["production/harbor"]
    assert names("name=nothing") == names("kind=TenantFlag&name=nothing") == names("name=%01") == []


# -- Models ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "../../etc",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "org/name@main",
        "\\\\server\\share",
        "a" * 300,
        "hаrbor",  # with a Cyrillic а
        "harbor/../../secret",
        "",
    ],
)
def test_a_model_is_a_folder_below_the_model_root_and_nothing_else(api, ada, unchanged, source):
    api(ada)
    before = unchanged()
    status, code = code_of(api(ada).post("/api/v1/base-models", {"name": "m", "source": source}))
    assert (status, code) in ((422, "MODEL_ID"), (422, "MODEL_MISSING"), (400, "VALIDATION"))
    assert unchanged() == before
