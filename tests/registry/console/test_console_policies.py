"""Risk policies in the console, and what a reviewer sees of them on the page of a revision."""

import pytest
from django.urls import reverse

from registry.models import ProfileRevision, RevisionComment, RevisionState, RiskPolicy
from registry.services.approvals import approve_revision
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, submit_revision
from tests.support.components import restate

FIELDS = {
    "alpha_cap_absolute": "100",
    "alpha_cap_mean_difference": "1",
    "alpha_cap_residual": "0.5",
    "composition_budget": "0.6",
    "gate_set": "default",
    "suite_kinds": ["factual", "safety"],
    "locales": "en-US, de-DE",
    "minimum_pairs": "500",
    "coverable_forms": "none",
    "evidence_max_age_days": "30",
    "approvals_needed": "2",
    "reviewer_roles": ["approver", "auditor"],
    "approval_valid_days": "14",
    "review_after_days": "90",
    "reason": "Replies to people in distress.",
}


def page_of(client, revision) -> str:
    return client.get(reverse("console:revision", args=[revision.pk])).text


def test_a_policy_is_declared_and_then_shows_what_it_demands(as_person, root):
    client = as_person(root)
    page = client.post(reverse("console:create-policy"), {**FIELDS, "name": "wellbeing"}, follow=True).text
    for words in (
        "at most 0.6 of the mean residual norm",
        "at least 500",
        "de-DE, en-US",
        "2, held by approver and auditor",
        "in distress",
    ):
        assert words in page
    policy = RiskPolicy.objects.get(name="wellbeing")
    assert (policy.changed_by, policy.review_after_days, policy.locales) == (root, 90, ["de-DE", "en-US"])
    assert policy.coverable_forms == "none"


def test_a_change_is_typed_over_what_holds_and_sends_back_what_waits(as_person, grace, submitted):
    client = as_person(grace)
    page = client.get(reverse("console:policy", args=["low"])).text
    assert str(submitted) in page
    assert 'name="minimum_pairs" value="2"' in page
    changed = client.post(reverse("console:change-policy", args=["low"]), FIELDS, follow=True).text
    assert "The log has what held before." in changed
    submitted.refresh_from_db()
    assert submitted.state == RevisionState.DRAFT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha_cap_residual": "2"}, "POLICY_CAP"),
        ({"minimum_pairs": "x"}, "Contrast pairs, at least"),
        ({"reason": ""}, "Reason"),
        ({"coverable_forms": "some"}, "Forms that may be covered"),
        ({"coverable_forms": ""}, "Forms that may be covered"),
    ],
)
def test_terms_that_make_no_sense_are_refused_and_still_on_the_page(as_person, grace, change, words):
    page = as_person(grace).post(reverse("console:change-policy", args=["low"]), {**FIELDS, **change}).text
    assert words in page
    assert "Replies to people in distress." in page or not change.get("reason", "x")
    assert RiskPolicy.objects.get(name="low").minimum_pairs == 2


def test_only_admins_and_approvers_change_policies(as_person, ada, oscar, iris):
    for person in (ada, oscar, iris):
        client = as_person(person)
        assert client.get(reverse("console:policy", args=["low"])).status_code == 200
        assert "Change</button>" not in client.get(reverse("console:policy", args=["low"])).text
        assert client.get(reverse("console:new-policy")).status_code == 403
        assert client.post(reverse("console:change-policy", args=["low"]), FIELDS).status_code == 403


def test_a_reviewer_sees_each_demand_and_what_is_missing(as_person, grace, draft, root, policy_terms):
    change_policy("low", terms=policy_terms(minimum_pairs=500), reason="More pairs.", actor=root)
    page = page_of(as_person(grace), draft)
    assert "At least 500 contrast pairs" in page
    assert "EVIDENCE_MISSING" in page


def test_a_reviewer_sees_who_is_still_missing(as_person, grace, submitted):
    page = page_of(as_person(grace), submitted)
    assert "1 more approval" in page
    assert "An approval by somebody with the role approver" in page
    assert 'sh-badge sh-bad"' not in page.split('id="checklist"')[1].split("</section>")[0]


def test_a_reviewer_asks_for_changes_with_a_button(as_person, grace, submitted):
    data = {
        "decision": "request_changes",
        "revision_digest": submitted.digest,
        "evidence_digest": submitted.evaluation.digest,
        "comment": "Say why α is 0.5.",
    }
    page = as_person(grace).post(reverse("console:decide-revision", args=[submitted.pk]), data, follow=True).text
    assert "It is a draft again" in page
    assert "Say why α is 0.5." in page
    assert ProfileRevision.objects.get().state == RevisionState.DRAFT


def test_anybody_with_a_role_comments_and_what_they_write_is_inert(as_person, iris, person, submitted):
    where = reverse("console:comment-revision", args=[submitted.pk])
    page = as_person(iris).post(where, {"text": "<script>alert(1)</script>"}, follow=True).text
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page
    assert as_person(person("guest")).post(where, {"text": "x"}).status_code == 403
    assert RevisionComment.objects.count() == 1


def test_the_page_says_in_words_when_and_how_a_component_acts(as_person, grace, ada, profile, component, vector):
    sometimes = restate(
        component, schedule={"kind": "linear", "tokens": 32}, condition={"kind": "intent", "labels": ["refund", "complaint"]}
    )
    clamped = restate(component, operator="clamp", bound=component.alpha, preserve_norm=True)
    override = [{"kind": "attribute", "name": "channel", "values": ["phone"]}]
    revision = draft_revision(profile, components=[sometimes, clamped], author=ada, safety_override=override)
    page = page_of(as_person(grace), revision)
    for words in (
        "falling to nothing over 32 tokens",
        "if the intent is refund or complaint",
        "clamp at 0.5, norm preserved",
        "for every request",
        "Forced neutral if channel is phone.",
    ):
        assert words in page


def test_an_approved_revision_shows_when_it_is_reviewed(as_person, grace, approved):
    assert f"{approved.review_due_at:%Y-%m-%d}" in page_of(as_person(grace), approved)


def test_a_reviewer_is_told_that_they_decided(as_person, grace, ada, draft, evaluation, policy_terms, root):
    change_policy("low", terms=policy_terms(approvals_needed=2), reason="Two.", actor=root)
    revision = submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": evaluation.digest}
    approve_revision(revision.pk, reviewer=grace, comment="1", **digests)
    assert "You have decided on this state" in page_of(as_person(grace), revision)
