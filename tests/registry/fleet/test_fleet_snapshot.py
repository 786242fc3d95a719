"""Pulling snapshots: from memory, conditionally, patiently, and only one's own."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest
from django.db import connection

from registry.models import Snapshot, StopStatement
from registry.services.flags import set_flag
from registry.services.nodes import withdraw_node
from registry.services.stops import tend_stop
from registry.services.tenants import create_environment
from registry.snapshots import read_envelope, trust_document
from steernode.dsse import TrustedKeys, open_envelope
from steernode.hub.client import Fetched, FleetClient, NotModified
from steernode.snapshot.document import PAYLOAD_TYPE
from tests.support.api import code_of
from tests.support.hub import serve_hub
from tests.support.nodes import KEY, enroll, report
from tests.support.serving import wait_until
from tests.support.steering import publish_again

SNAPSHOT = "/fleet/v1/environments/production/snapshot"


def test_a_node_pulls_the_exact_signed_bytes(pull, production):
    answer = pull.get(SNAPSHOT)
    stored = Snapshot.objects.get(environment=production)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (
        200,
        read_envelope(stored.payload_zlib, stored.signatures),
        stored.etag,
    )
    assert answer.headers["cache-control"] == "private, no-cache"
    keys = TrustedKeys.from_document(pull.get("/fleet/v1/trust").json())
    payload = open_envelope(answer.content, keys=keys, payload_type=PAYLOAD_TYPE, now=datetime.now(UTC))
    assert json.loads(payload)["revision"] == 1


def test_trust_is_public_and_says_when_keys_count(hub):
    answer = httpx.get(f"{hub}/fleet/v1/trust")
    assert answer.json() == trust_document()


def test_the_clients_of_steernode_understand_the_hub(hub, node):
    client = FleetClient(hub, "production", "node-1", node[1], KEY)
    fetched = client.snapshot(None)
    assert isinstance(fetched, Fetched)
    assert isinstance(client.snapshot(fetched.etag), NotModified)
    client.report(report())
    client.close()


def test_a_known_etag_is_answered_304_that_repeats_it(pull):
    etag = pull.get(SNAPSHOT).headers["etag"]
    for known in (etag, f"W/{etag}", etag.strip('"'), f'"other", {etag}', "*"):
        answer = pull.get(SNAPSHOT, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert pull.get(SNAPSHOT, headers={"If-None-Match": '"r0-000000000000"'}).status_code == 200


def test_head_tells_the_etag_without_a_body(pull):
    answer = pull.head(SNAPSHOT)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 100


def test_neither_the_orm_nor_django_is_asked_for_a_200_or_a_304(hub, node, monkeypatch, production):
    from django.db.backends.base.base import BaseDatabaseWrapper

    def refuse(*args: object) -> None:
        raise AssertionError("the ORM was used")

    def pull() -> list[int]:
        with httpx.Client(base_url=hub, headers={"Authorization": f"Bearer {node[1]}"}) as client:
            first = client.get(SNAPSHOT)
            return [first.status_code, client.get(SNAPSHOT, headers={"If-None-Match": first.headers["etag"]}).status_code]

    assert pull() == [200, 304]
    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "cursor", refuse)
        patch.setattr(BaseDatabaseWrapper, "ensure_connection", refuse)
        assert pull() == [200, 304]


def test_wrong_missing_and_withdrawn_tokens_are_401(hub, node, oscar):
    record, token = node
    refused = (401, "NOT_AUTHENTICATED")
    for headers in ({}, {"Authorization": "Bearer shn_wrong"}, {"Authorization": f"Basic {token}"}, {"Authorization": "Bearer ä".encode()}):
        answer = httpx.get(f"{hub}{SNAPSHOT}", headers=headers)
        assert code_of(answer) == refused
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "shn_" not in answer.text
    assert code_of(httpx.get(f"{hub}{SNAPSHOT}?token={token}")) == refused
    assert httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    withdraw_node(record, reason="Its machine is gone.", actor=oscar)
    wait_until(lambda: httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {token}"}).status_code == 401, seconds=2.5)
    assert code_of(httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {token}"})) == (401, "NODE_WITHDRAWN")


def test_a_node_enrolled_a_moment_ago_need_not_wait_for_the_tick(hub, production, oscar):
    assert httpx.get(f"{hub}/fleet/v1/trust").status_code == 200
    time.sleep(0.3)
    _, token = enroll("late", environment=production, actor=oscar)
    assert httpx.get(f"{hub}{SNAPSHOT}", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_node_of_another_environment_is_refused_whether_or_not_that_exists(pull, oscar):
    create_environment("staging", actor=oscar)
    for environment in ("staging", "nowhere"):
        assert code_of(pull.get(f"/fleet/v1/environments/{environment}/snapshot")) == (403, "ENVIRONMENT")
        assert code_of(pull.get(f"/fleet/v1/environments/{environment}/events")) == (403, "ENVIRONMENT")


ELSEWHERE = [
    ("GET", "/fleet/v1/", (404, "NOT_FOUND")),
    ("GET", "/fleet/v1/environments/../snapshot", (404, "NOT_FOUND")),
    ("POST", SNAPSHOT, (405, "METHOD_NOT_ALLOWED")),
    ("DELETE", "/fleet/v1/trust", (405, "METHOD_NOT_ALLOWED")),
    ("GET", "/fleet/v1/nodes/node-1/report", (405, "METHOD_NOT_ALLOWED")),
]


def test_other_addresses_and_methods_are_problem_documents(pull):
    for method, path, expected in ELSEWHERE:
        assert code_of(pull.request(method, path)) == expected, path


def test_other_addresses_go_to_django(hub):
    assert httpx.get(f"{hub}/api/v1/healthz").json() == {"status": "ok", "database": "ok"}


def flip_later(seconds: float, flip) -> threading.Thread:
    def run() -> None:
        time.sleep(seconds)
        flip()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_flag_flip_answers_a_long_poll_well_within_a_second_and_a_half(pull, production, harbor, approved, oscar, settled):
    etag = pull.get(SNAPSHOT).headers["etag"]
    flipped: list[float] = []

    def flip() -> None:
        set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
        flipped.append(time.monotonic())

    thread = flip_later(0.4, flip)
    answer = pull.get(SNAPSHOT, headers={"If-None-Match": etag, "Prefer": "wait=10"})
    waited = time.monotonic() - flipped[0]
    thread.join()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=10"
    assert waited < 1.5


@pytest.fixture
def settled(pull, production):
    """Nothing is news any more: the process has told of the first stop statement, which it issues by itself."""
    tend_stop()
    newest = f'"{StopStatement.objects.first().digest}"'
    wait_until(lambda: pull.get(SNAPSHOT.replace("snapshot", "stop")).headers.get("etag") == newest, seconds=5)


def test_a_long_poll_without_news_is_answered_304_when_its_time_is_up(pull, settled):
    etag = pull.get(SNAPSHOT).headers["etag"]
    started = time.monotonic()
    answer = pull.get(SNAPSHOT, headers={"If-None-Match": etag, "Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - started < 5
    assert (answer.status_code, answer.headers["etag"], answer.headers["preference-applied"]) == (304, etag, "wait=1")


def has_listener(cursor) -> bool:
    cursor.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = 'steerhub-fleet' AND query LIKE 'LISTEN%'")
    return cursor.fetchone() is not None


def test_a_dead_listener_only_costs_the_second_of_the_tick(pull, production, settled):
    etag = pull.get(SNAPSHOT).headers["etag"]
    with connection.cursor() as cursor:
        wait_until(lambda: has_listener(cursor), seconds=3)
        # It listens again only after a second; until then there is the tick alone.
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'steerhub-fleet' AND query LIKE 'LISTEN%'"
        )
        assert cursor.fetchone()[0] >= 1
    started = time.monotonic()
    publish_again(production)
    answer = pull.get(SNAPSHOT, headers={"If-None-Match": etag, "Prefer": "wait=10"})
    assert answer.status_code == 200
    assert time.monotonic() - started < 5


def test_a_lost_database_connection_serves_the_last_known_heads(pull, production):
    etag = pull.get(SNAPSHOT).headers["etag"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'steerhub-fleet'")
    assert pull.get(SNAPSHOT, headers={"If-None-Match": etag}).status_code == 304
    publish_again(production)
    wait_until(lambda: pull.get(SNAPSHOT).headers["etag"] != etag, seconds=4)


def test_a_snapshot_past_half_its_life_is_issued_again(hub, settings, oscar):
    settings.STEERHUB_SNAPSHOT_SECONDS = 3
    environment = create_environment("short", actor=oscar)
    wait_until(lambda: environment.snapshots.count() > 1, seconds=5)
    first, second = environment.snapshots.order_by("revision")[:2]
    assert first.content_digest == second.content_digest
    assert second.rollback_of is None
    assert second.expires_at > first.expires_at - timedelta(seconds=2)


@pytest.mark.django_db(transaction=True)
def test_past_the_cap_waiting_is_503_and_plain_polls_go_on(node, production):
    with serve_hub(max_held=1) as url, httpx.Client(base_url=url, headers={"Authorization": f"Bearer {node[1]}"}) as client:
        # The first stop statement of all ends a poll that is held.
        wait_until(lambda: "stop-sequence" in client.get(SNAPSHOT).headers)
        etag = client.get(SNAPSHOT).headers["etag"]
        waiting = {"If-None-Match": etag, "Prefer": "wait=1"}
        held = threading.Thread(target=lambda: httpx.get(f"{url}{SNAPSHOT}", headers={**client.headers, **waiting}, timeout=10))
        held.start()
        time.sleep(0.3)
        refused = client.get(SNAPSHOT, headers=waiting)
        assert code_of(refused) == (503, "TOO_MANY_HELD")
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.headers["connection"] == "close"
        assert code_of(client.get("/fleet/v1/environments/production/events")) == (503, "TOO_MANY_HELD")
        assert client.get(SNAPSHOT, headers={"If-None-Match": etag}).status_code == 304
        held.join()
        assert client.get(SNAPSHOT, headers={**waiting, "Prefer": "wait=1"}).status_code == 304


@pytest.mark.django_db(transaction=True)
def test_a_node_that_hangs_up_gives_its_place_back(node, production):
    with serve_hub(max_held=1) as url, httpx.Client(base_url=url, headers={"Authorization": f"Bearer {node[1]}"}) as client:
        etag = client.get(SNAPSHOT).headers["etag"]
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}{SNAPSHOT}", headers={**client.headers, "If-None-Match": etag, "Prefer": "wait=30"}, timeout=0.3)
        waiting = {"If-None-Match": etag, "Prefer": "wait=1"}
        wait_until(lambda: client.get(SNAPSHOT, headers=waiting).status_code == 304, seconds=15)
