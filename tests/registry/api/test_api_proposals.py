"""Proposals through the API and the console."""

import pytest
from django.test import Client

from registry.models import Job, Proposal
from registry.services.base_model_moves import move_environment
from tests.support.api import ANY_ID, code_of


@pytest.fixture
def proposal(extract, base_model, production, new_files, oscar) -> Proposal:
    extract(base_model)
    (proposal,) = move_environment(production, base_model=new_files, actor=oscar).proposals
    return proposal


def test_a_proposal_is_listed_read_and_accepted_once(api, ada, iris, proposal, new_files):
    (row,) = api(iris).get("/api/v1/proposals?state=proposed&base_model=harbor-support").json()["results"]
    assert (row["id"], row["state"], row["job"]) == (str(proposal.pk), "proposed", None)
    assert (row["vector"]["name"], row["base_model"]["fingerprint"]) == ("empathy", new_files.fingerprint)
    first = api(ada).post(f"/api/v1/proposals/{proposal.pk}/accept").json()
    assert (first["state"], first["accepted_by"]) == ("accepted", "ada")
    assert api(ada).post(f"/api/v1/proposals/{proposal.pk}/accept").json()["job"] == first["job"]
    assert api(iris).get(f"/api/v1/proposals/{proposal.pk}").json()["job"] == first["job"]
    assert api(iris).get("/api/v1/proposals?state=proposed").json()["results"] == []


def test_a_proposal_is_declined_for_a_reason(api, ada, iris, proposal):
    where = f"/api/v1/proposals/{proposal.pk}"
    assert code_of(api(ada).post(f"{where}/decline")) == (400, "VALIDATION")
    declined = api(ada).post(f"{where}/decline", {"reason": "not worth the hours"}).json()
    assert (declined["state"], declined["declined_by"], declined["declined_reason"]) == ("declined", "ada", "not worth the hours")
    listed = {state: api(iris).get(f"/api/v1/proposals?state={state}").json()["results"] for state in ("proposed", "declined", "accepted")}
    assert listed == {"proposed": [], "declined": [declined], "accepted": []}
    assert api(ada).post(f"{where}/accept").json()["state"] == "accepted"
    assert code_of(api(ada).post(f"{where}/decline", {"reason": "late"})) == (409, "PROPOSAL_ACCEPTED")


def test_bad_questions_about_proposals_are_refused(api, ada, proposal):
    assert code_of(api(ada).get("/api/v1/proposals?state=maybe")) == (400, "VALIDATION")
    assert code_of(api(ada).get(f"/api/v1/proposals/{ANY_ID}")) == (404, "PROPOSAL_NOT_FOUND")
    assert code_of(api(ada).post(f"/api/v1/proposals/{ANY_ID}/accept")) == (404, "PROPOSAL_NOT_FOUND")
    assert code_of(api(ada).post(f"/api/v1/proposals/{proposal.pk}/accept", {"job": ANY_ID})) == (400, "UNKNOWN_FIELD")


def test_an_author_accepts_with_one_click(ada, oscar, proposal):
    client = Client()
    client.force_login(oscar)
    page = client.get("/console/proposals/").content.decode()
    assert "empathy v1" in page
    assert "Extract again" not in page
    assert client.post(f"/console/proposals/{proposal.pk}/accept/").status_code == 403
    client.force_login(ada)
    assert "Extract again" in client.get("/console/proposals/").content.decode()
    answer = client.post(f"/console/proposals/{proposal.pk}/accept/")
    assert answer["Location"] == f"/console/jobs/{Job.objects.get(proposal=proposal).pk}/"
    assert "Nothing is proposed" in client.get("/console/proposals/").content.decode()


def test_an_author_declines_on_the_page(ada, proposal):
    client = Client()
    client.force_login(ada)
    where = f"/console/proposals/{proposal.pk}/decline/"
    client.post(where)
    assert "Extract again" in client.get("/console/proposals/").content.decode()
    client.post(where, {"reason": "not worth the hours"})
    assert "Nothing is proposed" in client.get("/console/proposals/").content.decode()


def test_the_notification_of_a_proposal_leads_to_the_page(ada, proposal):
    client = Client()
    client.force_login(ada)
    assert "/console/proposals/" in client.get("/console/notifications/").content.decode()
