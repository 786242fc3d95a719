"""Decisions through the API: on what was read, once, by those who may; and what they rest on."""

import pytest

from registry.models import ProfileRevision

REVISION = "/api/v1/profiles/harbor-empathy/revisions/1"


def read(revision: ProfileRevision) -> dict[str, str]:
    return {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}


def test_a_reviewer_asks_for_changes_and_the_author_submits_again(api, ada, grace, submitted):
    answer = api(grace).post(f"{REVISION}/request-changes", {**read(submitted), "comment": "Say why."})
    assert (answer.status_code, answer.json()["state"], answer.json()["digest"]) == (200, "draft", "")
    (decision,) = answer.json()["approvals"]
    assert (decision["decision"], decision["comment"], decision["is_current"], decision["roles"]) == (
        "request_changes",
        "Say why.",
        False,
        ["approver"],
    )
    again = api(ada).post(f"{REVISION}/submit", {}).json()
    assert (again["state"], again["submission"]) == ("submitted", 2)
    assert again["digest"] != submitted.digest


@pytest.mark.parametrize("decision", ["reject", "request-changes"])
def test_a_refusal_without_a_word_is_refused(api, grace, submitted, decision):
    for comment, status in (("", 400), (None, 400)):
        assert api(grace).post(f"{REVISION}/{decision}", {**read(submitted), "comment": comment}).status_code == status
    assert api(grace).get(REVISION).json()["state"] == "submitted"


@pytest.mark.parametrize("decision", ["approve", "reject", "request-changes"])
def test_a_decision_on_another_state_or_on_ones_own_work_is_refused(api, person, ada, grace, submitted, decision):
    stale = {**read(submitted), "revision_digest": "0" * 64, "comment": "as read"}
    answer = api(grace).post(f"{REVISION}/{decision}", stale)
    assert (answer.status_code, answer.json()["code"]) == (409, "DIGEST_MISMATCH")
    robot = person("ada-robot", "approver", acts_for=ada)
    answer = api(robot).post(f"{REVISION}/{decision}", {**read(submitted), "comment": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (409, "SELF_APPROVAL")


@pytest.mark.parametrize("field", ["state", "roles", "reviewer", "author", "decided_at", "review_due_at"])
def test_a_decision_assigns_nothing_else(api, grace, submitted, field):
    answer = api(grace).post(f"{REVISION}/approve", {**read(submitted), field: "approved"})
    assert (answer.status_code, answer.json()["code"]) == (400, "UNKNOWN_FIELD")
    assert api(grace).get(REVISION).json()["state"] == "submitted"


def test_what_people_say_is_shown_to_everybody_with_the_state_it_was_said_of(api, iris, ada, submitted, person):
    answer = api(iris).post(f"{REVISION}/comments", {"text": "<b>Which tickets?</b>"})
    assert answer.status_code == 201
    (comment,) = api(ada).get(REVISION).json()["comments"]
    assert (comment["author"], comment["text"], comment["revision_digest"]) == ("iris", "<b>Which tickets?</b>", submitted.digest)
    assert api(person("guest")).post(f"{REVISION}/comments", {"text": "hello"}).status_code == 403
    assert api(iris).post(f"{REVISION}/comments", {"text": ""}).status_code == 400


def test_the_checklist_shows_each_demand_and_who_is_missing(api, grace, draft, ada):
    shown = api(grace).get(f"{REVISION}/checklist").json()
    lacking = [row for row in shown["requirements"] if not row["is_met"]]
    assert {row["code"] for row in lacking} == {"EVIDENCE_MISSING"}
    assert "at least 2 contrast pairs" in {row["demand"] for row in lacking}
    assert shown["waits_for"] == ["1 more approval"]


def test_the_checklist_of_what_is_submitted_is_met_but_for_the_approvals(api, grace, submitted):
    shown = api(grace).get(f"{REVISION}/checklist").json()
    assert all(row["is_met"] for row in shown["requirements"])
    assert shown["waits_for"] == ["1 more approval", "an approval by somebody with the role approver"]
    assert api(grace).get("/api/v1/profiles/harbor-empathy/revisions/9/checklist").status_code == 404


def test_the_checklist_shows_every_other_look_at_its_vectors(api, grace, draft, vector, evaluation, evaluate, ada):
    """The author chooses which evidence to submit: a look that failed stands beside it, whatever its suites are called."""
    evaluate(vector, alpha="0.4")
    failed = evaluate(vector, passed=False)
    author = api(ada)
    author.post(f"{REVISION}/submit", {"evaluation": str(evaluation.pk)})
    shown = api(grace).get(f"{REVISION}/checklist").json()
    assert shown["looks"] == {"behaviour": 3, "factual": 3, "safety": 3}
    assert [(row["vector"], row["alpha"], row["verdict"]) for row in shown["other_looks"]] == [
        ("empathy@1", "0.5", "fail"),
        ("empathy@1", "0.4", "pass"),
    ]
    assert author.get(f"/api/v1/evaluations/{failed.pk}").json()["looks"] == shown["looks"]


def test_an_approved_revision_says_what_it_was_held_to_and_until_when(api, grace, approved):
    shown = api(grace).get(REVISION).json()
    assert shown["demands"]["gate_set"] == "selection"
    assert shown["review_due_at"] > shown["decided_at"]
    assert api(grace).get(f"{REVISION}/checklist").json()["waits_for"] == []
