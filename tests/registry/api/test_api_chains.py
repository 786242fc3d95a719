"""A chain as the API and the console show it."""

import pytest
from django.test import Client

from registry.models import Job
from tests.support.api import code_of
from tests.support.working import extract, validate

BODY = {
    "kind": "extraction",
    "base_model": "harbor-support",
    "contrast_set": "empathy",
    "suites": ["tickets", "facts", "refusals"],
    "recipe": {"vector": "empathy"},
    "profile": "harbor-empathy",
}


@pytest.fixture
def world(base_model, contrast_set, suites, profile):
    """Everything a recipe names."""


def test_each_job_says_where_the_chain_stands(api, ada, world):
    author = api(ada)
    asked = author.post("/api/v1/jobs", BODY).json()
    assert (asked["profile"], asked["follows"], asked["followed_by"], asked["drafted_revision"]) == ("harbor-empathy", None, None, None)
    job = Job.objects.get()
    extract(job)
    validate(job.followed_by)
    first = author.get(f"/api/v1/jobs/{job.pk}").json()
    second = author.get(f"/api/v1/jobs/{first['followed_by']}").json()
    assert (second["follows"], second["drafted_revision"]) == (str(job.pk), {"profile": "harbor-empathy", "number": 1})
    rows = author.get("/api/v1/jobs").json()["results"]
    assert [row["drafted_revision"] for row in rows] == [{"profile": "harbor-empathy", "number": 1}, None]


def test_the_page_of_either_job_shows_the_whole_chain(api, ada, world):
    api(ada).post("/api/v1/jobs", BODY)
    client = Client()
    client.force_login(ada)
    job = Job.objects.get()
    assert "Validation, when the extraction succeeds" in client.get(f"/console/jobs/{job.pk}/").content.decode()
    extract(job)
    validate(job.followed_by)
    for link in Job.objects.all():
        page = client.get(f"/console/jobs/{link.pk}/").content.decode()
        assert "harbor-empathy r1" in page
        assert page.count("succeeded</span>") >= 2


def test_an_extraction_is_started_for_a_profile_in_the_console(ada, world, base_model, contrast_set, suites, profile):
    client = Client()
    client.force_login(ada)
    data = {"vector": "empathy", "base_model": base_model.pk, "contrast_set": contrast_set.pk, "layers": "all", "alphas": ""}
    data |= {suite.kind: suite.pk for suite in suites} | {"profile": profile.pk}
    assert client.post("/console/extractions/", data).status_code == 302
    assert Job.objects.get().draft_for == profile


def test_a_chain_to_nowhere_is_refused(api, ada, world):
    author = api(ada)
    assert code_of(author.post("/api/v1/jobs", BODY | {"profile": "nobody"})) == (404, "PROFILE_NOT_FOUND")
    author.post("/api/v1/profiles", {"name": "curt", "intent": "Curt.", "purpose": "tone", "axis": "brevity", "risk_class": "low"})
    assert code_of(author.post("/api/v1/jobs", BODY | {"profile": "curt"})) == (422, "RECIPE_PROFILE_AXIS")
    assert code_of(author.post("/api/v1/jobs", BODY | {"profile": None})) == (400, "VALIDATION")
    assert code_of(author.post("/api/v1/jobs", BODY | {"draft_for": "harbor-empathy"})) == (400, "UNKNOWN_FIELD")
    assert not Job.objects.exists()
