"""What the hub tells a person, through the API and on the console's page."""

import pytest
from django.db import transaction
from django.test import Client

from registry.services.notifications import notify
from tests.support.api import code_of


@pytest.fixture
def told(ada, grace, profile, vector):
    with transaction.atomic():
        notify([ada, grace], "harbor-empathy <b>changed</b>", about=profile)
        notify([ada], "empathy v1 was looked at", about=vector)


def test_a_person_hears_what_is_theirs_and_nothing_else(api, told, ada, grace, oscar):
    heard = [row["text"] for row in api(ada).get("/api/v1/notifications").json()["results"]]
    assert sorted(heard) == ["empathy v1 was looked at", "harbor-empathy <b>changed</b>"]
    (row,) = api(grace).get("/api/v1/notifications").json()["results"]
    assert (row["about"]["type"], row["about"]["name"], row["read_at"]) == ("profile", "harbor-empathy", None)
    assert api(oscar).get("/api/v1/notifications").json()["results"] == []
    assert code_of(api().get("/api/v1/notifications")) == (401, "NOT_AUTHENTICATED")


def test_notifications_are_marked_as_read_one_by_one_or_all(api, told, ada, grace):
    author = api(ada)
    first = author.get("/api/v1/notifications?unread=true&about=steeringvector").json()["results"][0]
    assert author.post("/api/v1/notifications/read", {"ids": [first["id"]]}).json() == {"read": 1}
    assert len(author.get("/api/v1/notifications?unread=true").json()["results"]) == 1
    assert author.post("/api/v1/notifications/read", {}).json() == {"read": 1}
    assert author.get("/api/v1/notifications?unread=true").json()["results"] == []
    assert len(author.get("/api/v1/notifications").json()["results"]) == 2
    assert code_of(api(grace).post("/api/v1/notifications/read", {"ids": [first["id"]]})) == (404, "NOTIFICATION_NOT_FOUND")


def test_bad_questions_about_notifications_are_refused(api, told, ada):
    assert code_of(api(ada).get("/api/v1/notifications?unread=perhaps")) == (400, "VALIDATION")
    assert code_of(api(ada).get("/api/v1/notifications?person=grace")) == (400, "UNKNOWN_FIELD")
    assert code_of(api(ada).post("/api/v1/notifications/read", {"ids": ["x"]})) == (400, "VALIDATION")
    assert code_of(api(ada).post("/api/v1/notifications/read", {"person": "grace"})) == (400, "UNKNOWN_FIELD")


def test_the_page_shows_them_and_the_bell_counts_them(told, ada, vector):
    client = Client()
    client.force_login(ada)
    page = client.get("/console/notifications/").content.decode()
    assert "harbor-empathy &lt;b&gt;changed&lt;/b&gt;" in page
    assert f"/console/vectors/{vector.pk}/" in page
    assert "Mark all 2 as read" in page
    client.post("/console/notifications/read/")
    assert "Mark all" not in client.get("/console/notifications/").content.decode()
