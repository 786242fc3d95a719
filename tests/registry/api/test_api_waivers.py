"""Waivers over the API and the command: asked by one approver, confirmed by another, shown wherever the revision is."""

import pytest
from click.testing import CliRunner

from registry.services.people import issue_token
from steernode.cli import main
from tests.support.api import code_of

BODY = {"metric": "slope", "reason": "We serve one kind of request.", "days": 30}


@pytest.fixture
def evaluation(vector, evaluate):
    return evaluate(vector, undecidable=["slope"])


def test_two_approvers_waive_and_every_answer_says_so(api, ada, grace, mary, draft, evaluation):
    author, here = api(ada), f"/api/v1/profiles/{draft.profile.name}/revisions/{draft.number}"
    assert code_of(author.post(f"{here}/submit", {})) == (409, "GATES_UNDECIDABLE")
    asked = api(grace).post(f"/api/v1/evaluations/{evaluation.pk}/waivers", BODY)
    assert (asked.status_code, asked.json()["state"], asked.json()["asked_by"]) == (201, "asked", "grace")
    address = f"/api/v1/waivers/{asked.json()['id']}"
    assert code_of(api(grace).post(f"{address}/confirm", {})) == (409, "WAIVER_NEEDS_TWO")
    assert api(mary).post(f"{address}/confirm", {}).json()["state"] == "in force"
    checklist = author.get(f"{here}/checklist").json()
    assert all(row["is_met"] for row in checklist["requirements"])
    assert [row["confirmed_by"] for row in checklist["waivers"]] == ["mary"]
    submitted = author.post(f"{here}/submit", {}).json()
    assert (submitted["state"], submitted["waivers"][0]["reason"]) == ("submitted", BODY["reason"])
    assert author.get("/api/v1/waivers?metric=slope").json()["results"] == [author.get(address).json()]
    withdrawn = api(grace).post(f"{address}/withdraw", {"reason": "No longer."}).json()
    assert (withdrawn["state"], withdrawn["withdrawn_by"]) == ("withdrawn", "grace")
    assert author.get(here).json()["state"] == "draft"


def test_what_may_not_be_waived_is_refused_by_its_code(api, ada, grace, oscar, evaluation):
    address = f"/api/v1/evaluations/{evaluation.pk}/waivers"
    for change, expected in [
        ({"metric": "facts"}, (422, "WAIVER_GATE")),
        ({"days": 0}, (422, "WAIVER_END")),
        ({"days": 4000}, (422, "WAIVER_END")),
        ({"reason": ""}, (400, "VALIDATION")),
        ({"days": "soon"}, (400, "VALIDATION")),
        ({"until": "2027-01-01"}, (400, "UNKNOWN_FIELD")),
    ]:
        assert code_of(api(grace).post(address, BODY | change)) == expected, change
    assert code_of(api(grace).post(address, {name: BODY[name] for name in ("metric", "reason")})) == (422, "WAIVER_END")
    assert code_of(api(ada).post(address, BODY)) == (403, "PERMISSION_DENIED")
    assert code_of(api(oscar).post(address, BODY)) == (403, "PERMISSION_DENIED")


def test_the_command_asks_confirms_lists_and_withdraws(hub, grace, mary, ada, draft, evaluation, monkeypatch):
    monkeypatch.setenv("STEERHUB_URL", hub)

    def steer(person, *arguments):
        monkeypatch.setenv("STEERHUB_TOKEN", issue_token(person, name="tests", actor="tests")[1])
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    asked = steer(grace, "waiver", "ask", evaluation.pk, "slope", "--reason", "One kind of request.", "--days", "30")
    assert asked.exit_code == 0, asked.output
    key = str(evaluation.waivers.get().pk)
    assert steer(mary, "waiver", "confirm", key).exit_code == 0
    assert "in force" in steer(ada, "waiver", "list", "--evidence-digest", evaluation.digest).output
    assert steer(ada, "profile", "submit", f"{draft.profile.name}@{draft.number}").exit_code == 0
    approved = steer(grace, "profile", "approve", f"{draft.profile.name}@{draft.number}", "--yes")
    assert "not shown, and waived: slope above_low 0, by grace and mary until" in approved.output
    withdrawn = steer(mary, "waiver", "withdraw", key, "--reason", "No longer.")
    assert withdrawn.exit_code == 0, withdrawn.output
    draft.refresh_from_db()
    assert draft.state == "invalidated"
