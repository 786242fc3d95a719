"""Idempotency-Key and If-Match: what is sent twice is done once, and nobody's change is lost under another's."""

import time
from contextlib import nullcontext
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError
from django.utils import timezone

from registry.models import ApiToken, AuditEvent, IdempotentAnswer, Kill, ServingNode, Tenant, TenantFlag
from registry.services.idempotency import forget_old_answers, hold_key
from registry.services.people import issue_token
from steernode.errors import SteerError
from steernode.hub.client import HubClient
from tests.support.api import code_of, keyed
from tests.support.racing import at_once

TENANTS, REVISION = "/api/v1/tenants", "/api/v1/profiles/harbor-empathy/revisions/1"


def read_of(revision) -> dict[str, str]:
    return {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest, "comment": "Read it."}


def test_the_same_request_under_the_same_key_gets_the_stored_answer(api, grace, submitted):
    first = api(grace).post(f"{REVISION}/approve", read_of(submitted), **keyed("decision-1"))
    events = AuditEvent.objects.count()
    again = api(grace).post(f"{REVISION}/approve", read_of(submitted), **keyed("decision-1"))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert (again["Content-Type"], again["Idempotency-Replayed"]) == (first["Content-Type"], "true")
    assert "Idempotency-Replayed" not in first
    assert AuditEvent.objects.count() == events


def test_a_key_names_one_request_and_no_other(api, oscar):
    operator = api(oscar)
    assert operator.post(TENANTS, {"name": "one"}, **keyed("k")).status_code == 201
    assert code_of(operator.post(TENANTS, {"name": "two"}, **keyed("k"))) == (409, "IDEMPOTENCY_MISMATCH")
    assert code_of(operator.post("/api/v1/environments", {"name": "one"}, **keyed("k"))) == (409, "IDEMPOTENCY_MISMATCH")
    assert not Tenant.objects.filter(name="two").exists()


def test_a_refusal_is_stored_too(api, oscar):
    operator = api(oscar)
    first = operator.post(TENANTS, {"name": "a/b"}, **keyed("k"))
    again = operator.post(TENANTS, {"name": "a/b"}, **keyed("k"))
    assert code_of(first) == code_of(again) == (400, "VALIDATION")
    assert again["Idempotency-Replayed"] == "true"


def test_a_key_is_its_actors_own(api, oscar, person):
    olga = person("olga", "operator")
    assert api(oscar).post(TENANTS, {"name": "one"}, **keyed("k")).status_code == 201
    assert api(olga).post(TENANTS, {"name": "two"}, **keyed("k")).status_code == 201


def test_another_token_of_the_same_person_gets_no_stored_answer(api, oscar):
    assert api(oscar).post(TENANTS, {"name": "one"}, **keyed("k")).status_code == 201
    narrow = api()
    narrow.credentials(HTTP_AUTHORIZATION=f"Bearer {issue_token(oscar, name='n', actor='tests', scopes=['operator'])[1]}")
    assert code_of(narrow.post(TENANTS, {"name": "one"}, **keyed("k"))) == (409, "IDEMPOTENCY_MISMATCH")


@pytest.mark.parametrize("key", ["k" * 256, "", "with space", "ümlaut", "line\tbreak"])
def test_a_key_past_its_limits_is_refused(api, oscar, key):
    assert code_of(api(oscar).post(TENANTS, {"name": "one"}, **keyed(key))) == (400, "IDEMPOTENCY_KEY")
    assert not Tenant.objects.exists()


def test_the_longest_key_will_do(api, oscar):
    assert api(oscar).post(TENANTS, {"name": "one"}, **keyed("k" * 255)).status_code == 201


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_decision_takes_a_key(client, ada, grace, submitted, decision):
    secret = issue_token(grace, name="t", actor="tests")[1]
    path, body = f"{REVISION}/{decision}", read_of(submitted)
    answer = client.post(path, body, content_type="application/json", headers={"Authorization": f"Bearer {secret}"})
    assert code_of(answer) == (428, "IDEMPOTENCY_KEY_REQUIRED")
    submitted.refresh_from_db()
    assert submitted.state == "submitted"


def test_stopping_takes_no_key(client, oscar, flag_on):
    secret = issue_token(oscar, name="t", actor="tests")[1]
    plain = {"content_type": "application/json", "headers": {"Authorization": f"Bearer {secret}"}}
    off = {"enabled": False, "reason": "complaint"}
    assert client.put("/api/v1/environments/production/flags/harbor", off, **plain).status_code == 200
    assert client.post("/api/v1/kills", {"kind": "everything", "reason": "now"}, **plain).status_code == 201


@pytest.mark.parametrize("first", ["the same", "another", "running"])
def test_a_kill_is_in_force_whatever_its_key(api, oscar, grace, flag_on, first):
    operator, body = api(oscar), {"kind": "everything", "reason": "alert 7"}
    if first == "the same":
        kill = operator.post("/api/v1/kills", body, **keyed("alert-7")).json()["id"]
        operator.post(f"/api/v1/kills/{kill}/request-lift", {"reason": "over"})
        assert api(grace).post(f"/api/v1/kills/{kill}/confirm-lift").status_code == 200
    elif first == "another":
        operator.post(TENANTS, {"name": "one"}, **keyed("alert-7"))
    with hold_key(oscar, "alert-7") if first == "running" else nullcontext():
        again = operator.post("/api/v1/kills", body, **keyed("alert-7"))
    assert (again.status_code, again.json()["is_engaged"]) == (201, True)
    assert Kill.objects.filter(lifted_at=None).count() == 1


def test_a_flag_is_off_whatever_was_answered_under_its_key(api, oscar, flag_on):
    path, off = "/api/v1/environments/production/flags/harbor", {"enabled": False, "reason": "alert 7"}
    operator = api(oscar)
    assert operator.put(path, off, **keyed("alert-7")).status_code == 200
    plan = operator.post(f"{path}/plan", {"enabled": True}).json()
    assert operator.put(path, {"enabled": True, "reason": "over", "confirm": plan["digest"]}).status_code == 200
    assert operator.put(path, off, **keyed("alert-7")).json()["enabled"] is False
    assert not TenantFlag.objects.get().enabled


@pytest.mark.parametrize("reason", ["\u200b", " \u2060\u00a0", "\n\t"])
def test_a_reason_that_nobody_can_see_is_none(api, oscar, flag_on, reason):
    answer = api(oscar).post("/api/v1/kills", {"kind": "everything", "reason": reason})
    assert (answer.status_code, "blank" in answer.text) == (400, True), answer.text
    assert not Kill.objects.exists()


def test_a_secret_is_not_kept_for_a_repeat(api, oscar, production, ada):
    body = {"name": "node-7", "environment": "production"}
    secret = api(oscar).post("/api/v1/nodes", body, **keyed("n")).json()["enrolment_token"]
    assert code_of(api(oscar).post("/api/v1/nodes", body, **keyed("n"))) == (409, "IDEMPOTENCY_SECRET")
    assert ServingNode.objects.count() == 1
    api(ada).post("/api/v1/tokens", {"name": "t"}, **keyed("t"))
    assert [answer.body for answer in IdempotentAnswer.objects.all()] == [None, None]
    assert secret not in str(list(IdempotentAnswer.objects.values_list()))


def test_answers_are_forgotten_after_a_day(api, oscar):
    operator = api(oscar)
    operator.post(TENANTS, {"name": "one"}, **keyed("old"))
    operator.post(TENANTS, {"name": "one"}, **keyed("new"))
    IdempotentAnswer.objects.filter(key="old").update(answered_at=timezone.now() - timedelta(hours=24, seconds=1))
    # Too old to be given again, swept or not.
    assert operator.post(TENANTS, {"name": "other"}, **keyed("old")).status_code == 201
    IdempotentAnswer.objects.filter(key="old").update(answered_at=timezone.now() - timedelta(hours=24, seconds=1))
    assert forget_old_answers() == 1
    assert IdempotentAnswer.objects.get().key == "new"


@pytest.mark.django_db(transaction=True)
def test_twenty_duplicates_at_once_run_once(api, grace, submitted):
    read, client = read_of(submitted), api(grace)
    answers = at_once(*(lambda: client.post(f"{REVISION}/approve", read, **keyed("once")) for _ in range(20)))
    outcomes = [answer.status_code if answer.status_code == 200 else code_of(answer) for answer in answers]
    assert set(outcomes) <= {200, (409, "IDEMPOTENCY_IN_PROGRESS")}
    assert 200 in outcomes
    assert submitted.approvals.count() == 1
    assert AuditEvent.objects.filter(action="revision.approved").count() == 1
    # Whoever was told to wait gets the answer then.
    assert client.post(f"{REVISION}/approve", read, **keyed("once")).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_key_is_free_again_when_its_connection_dies(ada):
    from django.db import connection

    def die_holding():
        with hold_key(ada, "k"):
            connection.close()

    assert at_once(die_holding) == [None]

    def hold():
        with hold_key(ada, "k"):
            return "held"

    # The pool gives the dead one's locks back in a thread of its own.
    until = time.monotonic() + 5
    while at_once(hold) != ["held"]:
        assert time.monotonic() < until
    with hold_key(ada, "k"):
        (refused,) = at_once(hold)
        assert isinstance(refused, SteerError)
        assert refused.code == "IDEMPOTENCY_IN_PROGRESS"


def test_what_was_done_is_answered_though_the_answer_could_not_be_kept(api, oscar, monkeypatch, caplog):
    def fail(*_: object, **__: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr("registry.api.idempotency.keep_answer", fail)
    answer = api(oscar).post(TENANTS, {"name": "one"}, **keyed("k"))
    assert (answer.status_code, answer.json()["name"]) == (201, "one")
    assert "an answer was not kept for a repeat" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_key_whose_connection_died_unnoticed_is_given_back_without_a_word(ada):
    from django.db import connection

    def terminate(process: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [process])

    def hold() -> str:
        with hold_key(ada, "k"):
            process = connection.connection.info.backend_pid
            assert at_once(lambda: terminate(process)) == [None]
        return "given back"

    assert at_once(hold) == ["given back"]
    until = time.monotonic() + 5
    while at_once(hold) != ["given back"]:
        assert time.monotonic() < until


# -- If-Match -------------------------------------------------------------------------------------------------------------------

COMPONENT = {"vector": "empathy@1", "alpha": "0.4", "alpha_min": "0", "alpha_max": "0.5", "unit": "mean_difference"}


def test_an_edit_is_of_the_revision_that_was_read(api, ada, draft):
    author = api(ada)
    tag = author.get(REVISION)["ETag"]
    first = author.put(REVISION, {"components": [COMPONENT]}, headers={"If-Match": tag, "Idempotency-Key": str(uuid4())})
    assert first.status_code == 200
    assert first["ETag"] != tag
    stale = author.put(REVISION, {"components": [COMPONENT | {"alpha": "0.1"}]}, headers={"If-Match": tag, "Idempotency-Key": str(uuid4())})
    assert code_of(stale) == (412, "REVISION_CHANGED")
    assert author.get(REVISION).json()["components"][0]["alpha"] == "0.4"
    assert author.get(REVISION)["ETag"] == first["ETag"]


def test_an_edit_says_which_revision_it_is_of(api, ada, draft):
    assert code_of(api(ada).put(REVISION, {"components": [COMPONENT]})) == (428, "IF_MATCH_REQUIRED")
    assert api(ada).put(REVISION, {"components": [COMPONENT]}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("tag", ['W/"{}"', '"{}", "other"', "other", '""', '"'])
def test_a_tag_that_names_no_single_state_matches_none(api, ada, draft, tag):
    shown = api(ada).get(REVISION)["ETag"].strip('"')
    answer = api(ada).put(REVISION, {"components": [COMPONENT]}, headers={"If-Match": tag.format(shown)})
    assert code_of(answer) == (412, "REVISION_CHANGED")


def test_a_submission_in_between_makes_an_edit_stale(api, ada, draft, evaluation):
    tag = api(ada).get(REVISION)["ETag"]
    assert api(ada).post(f"{REVISION}/submit", {"evaluation": str(evaluation.pk)}).status_code == 200
    assert code_of(api(ada).put(REVISION, {"components": [COMPONENT]}, headers={"If-Match": tag})) == (412, "REVISION_CHANGED")
    assert api(ada).get(REVISION).json()["state"] == "submitted"


def test_tokens_are_issued_once_per_key(api, ada):
    api(ada).post("/api/v1/tokens", {"name": "t"}, **keyed("t"))
    api(ada).post("/api/v1/tokens", {"name": "t"}, **keyed("t"))
    assert ApiToken.objects.filter(name="t").count() == 1


def test_the_command_lines_client_decides_and_edits_over_a_socket(hub, ada, grace, submitted, harbor):
    """Through the server as it runs, where each request has a thread of its own and the key's lock its connection."""
    client = HubClient(hub, issue_token(grace, name="t", actor="tests")[1])
    assert client.post("/profiles/harbor-empathy/revisions/1/approve", read_of(submitted))["state"] == "approved"
    author = HubClient(hub, issue_token(ada, name="t", actor="tests")[1])
    author.post("/profiles/harbor-empathy/revisions", {"components": [COMPONENT]})
    _, tag = author.get_tagged("/profiles/harbor-empathy/revisions/2")
    assert author.put("/profiles/harbor-empathy/revisions/2", {"components": [COMPONENT]}, if_match=tag)["state"] == "draft"
    token = author.post("/tokens", {"name": "t"})
    author.delete(f"/tokens/{token['id']}")
    assert IdempotentAnswer.objects.count() == 5
    client.close()
    author.close()
