"""The approval page: what it shows, who may answer, and that an answer is of the state that was on the screen."""

import pytest
from django.urls import reverse

from registry.models import Approval, ProfileRevision, RevisionState
from registry.services.job_requests import request_validation
from registry.services.jobs import claim_job
from registry.services.profiles import create_profile, draft_revision, submit_revision
from registry.services.results import complete_validation
from steernode.records.evidence import read_evidence
from tests.support import story
from tests.support.families import add_form

ATTACK = '<script>alert("x")</script><img src=x onerror=alert(1)>'


def decide(client, revision, *, decision="approve", follow=True, **changes):
    data = {
        "decision": decision,
        "revision_digest": revision.digest,
        "evidence_digest": revision.evaluation.digest,
        "comment": "Read the replies.",
        **changes,
    }
    return client.post(reverse("console:decide-revision", args=[revision.pk]), data, follow=follow)


def state_of(revision) -> str:
    return ProfileRevision.objects.get(pk=revision.pk).state


def test_approval_page_shows_all_that_a_decision_rests_on(as_person, grace, submitted, contrast_set):
    text = as_person(grace).get(reverse("console:revision", args=[submitted.pk])).text
    assert text.count('<svg class="sh-panel') == 4
    assert "proposed α = 0.5" in text
    assert "Select split: 1.42 at α 0" in text
    for words in ("change of at least -0.02", "ratio of at most 1.1", "Numbers of the test split", "1.061 to 1.116"):
        assert words in text
    for _, baseline, steered in story.REPLIES:
        assert baseline in text
        assert steered in text
    for digest in (submitted.digest, submitted.evaluation.digest, contrast_set.digest, submitted.base_model.fingerprint):
        assert digest in text


def test_an_approver_sees_what_the_candidate_was_compared_with(as_person, grace, submitted):
    page = as_person(grace).get(reverse("console:revision", args=[submitted.pk])).text
    for title in ("Random directions", "Shuffled labels", "The negated vector", "The positive system message instead"):
        assert title in page
    assert "2.89" in page


def test_undecidable_evidence_is_neither_passed_nor_failed_on_any_page(as_person, grace, vector, draft, evaluate):
    evaluation = evaluate(vector, undecidable=["slope"])
    client, badge = as_person(grace), '<span class="sh-badge sh-wait">undecidable</span>'
    pages = [("vector", vector), ("revision", draft), ("job", evaluation.job)]
    texts = [client.get(reverse(f"console:{name}", args=[row.pk])).text for name, row in pages]
    texts.append(client.get(reverse("admin:registry_evaluation_changelist")).text)
    assert all(badge in text for text in texts)
    assert "nothing can be concluded on slope (more items are needed for slope). (GATES_UNDECIDABLE)" in texts[1]


def test_an_approver_sees_every_other_look_at_the_vectors(as_person, grace, vector, submitted, evaluate):
    client, here = as_person(grace), reverse("console:revision", args=[submitted.pk])
    assert 'id="other-looks"' not in client.get(here).text
    failed = evaluate(vector, passed=False)
    page = client.get(here).text
    section = page.split('id="other-looks"')[1].split("</section>")[0]
    assert "empathy v1 at α = 0.5 mean_difference" in section
    assert failed.digest in section
    assert "behaviour 2, factual 2, safety 2" in page


def test_what_the_prompt_alone_does_stands_beside_what_steering_does(as_person, grace, vector, suites, ada, draft):
    job = request_validation(vector=vector, suites=suites, actor=ada, alpha="0.5")
    evidence = story.make_evidence(vector)
    evidence["metrics"]["facts"]["prompt"] = story.make_estimate("0.873", "0.8", "0.9")
    here = reverse("console:revision", args=[draft.pk])
    complete_validation(claim_job(job.pk, worker="w"), read_evidence(evidence))
    text = as_person(grace).get(here).text
    assert "<th>Prompt alone</th>" in text
    assert "0.873" in text


def test_a_policy_that_demands_no_locale_is_no_demand(as_person, grace, submitted):
    assert submitted.demands["locales"] == []
    page = as_person(grace).get(reverse("console:revision", args=[submitted.pk])).text
    assert "Evidence of exactly these components" in page
    assert "locales" not in page


def test_a_form_that_is_equal_is_not_off_by_nothing_and_the_list_of_approvals_counts_it(
    as_person, ada, grace, submitted, base_model, model_root, profile, component
):
    equal = add_form(base_model, "harbor-equal", model_root, ada, verdict="equal", worst="0")
    revision = draft_revision(profile, components=[component], author=ada, covers=[equal])
    revision = submit_revision(revision.pk, evaluation=submitted.evaluation, actor=ada)
    page = as_person(grace).get(reverse("console:revision", args=[revision.pk])).text
    assert f"nothing was measured: {equal} (equal)." in page
    listed = as_person(grace).get(reverse("console:approvals")).text
    assert "on harbor-support and 1 form of it, unmeasured, submitted" in listed
    assert "on harbor-support, submitted" in listed


def test_another_person_approves(as_person, grace, submitted):
    answer = decide(as_person(grace), submitted)
    assert "Your approval is recorded." in answer.text
    assert state_of(submitted) == RevisionState.APPROVED
    assert "Read the replies." in answer.text


def test_an_author_who_is_also_approver_sees_why_not_and_is_refused(as_person, person, suites, evaluation, vector, component):
    both = person("boris", "author", "approver")
    profile = create_profile("own", intent="Mine.", purpose="tone", axis="empathy", risk_class="low", owner=both)
    revision = draft_revision(profile, components=[component], author=both)
    submit_revision(revision.pk, evaluation=evaluation, actor=both)
    revision.refresh_from_db()
    page = as_person(both).get(reverse("console:revision", args=[revision.pk]))
    assert "You wrote this revision. Somebody else must decide." in page.text
    assert reverse("console:decide-revision", args=[revision.pk]) not in page.text
    answer = decide(as_person(both), revision)
    assert "SELF_APPROVAL" in answer.text
    assert state_of(revision) == RevisionState.SUBMITTED


def test_an_author_without_the_role_is_refused_before_the_service(as_person, ada, submitted):
    assert decide(as_person(ada), submitted, follow=False).status_code == 403
    assert not Approval.objects.exists()


@pytest.mark.parametrize("field", ["revision_digest", "evidence_digest"])
def test_a_decision_on_another_state_is_refused(as_person, grace, submitted, field):
    answer = decide(as_person(grace), submitted, **{field: "0" * 64})
    assert "DIGEST_MISMATCH" in answer.text
    assert state_of(submitted) == RevisionState.SUBMITTED


def test_a_second_decision_of_the_same_person_is_refused(as_person, grace, approved):
    assert "ALREADY_DECIDED" in decide(as_person(grace), approved).text


def test_a_rejection_needs_a_comment_and_is_final(as_person, grace, mary, submitted):
    assert "Comment: This field is required." in decide(as_person(grace), submitted, decision="reject", comment="").text
    assert state_of(submitted) == RevisionState.SUBMITTED
    decide(as_person(grace), submitted, decision="reject", comment="Too familiar for a complaint.")
    assert state_of(submitted) == RevisionState.REJECTED
    assert "REVISION_STATE" in decide(as_person(mary), submitted).text


def test_a_high_risk_profile_waits_for_a_second_approver(as_person, ada, grace, mary, evaluation, component):
    profile = create_profile("risky", intent="Careful.", purpose="tone", axis="empathy", risk_class="high", owner=ada)
    revision = draft_revision(profile, components=[component], author=ada)
    submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    revision.refresh_from_db()
    assert "1 of 2" in decide(as_person(grace), revision).text
    assert "You have decided on this state" in as_person(grace).get(reverse("console:revision", args=[revision.pk])).text
    decide(as_person(mary), revision)
    assert state_of(revision) == RevisionState.APPROVED


def test_an_author_submits_a_draft_with_its_evidence(as_person, ada, draft, evaluation):
    page = as_person(ada).get(reverse("console:revision", args=[draft.pk]))
    assert "Submit for approval" in page.text
    answer = as_person(ada).post(reverse("console:submit-revision", args=[draft.pk]), {"evaluation": evaluation.pk}, follow=True)
    assert "Somebody else must approve it." in answer.text
    assert state_of(draft) == RevisionState.SUBMITTED


def test_a_draft_beyond_its_evidence_is_refused_with_the_reason(as_person, ada, draft, evaluation):
    draft.components.update(alpha="0.4")
    answer = as_person(ada).post(reverse("console:submit-revision", args=[draft.pk]), {"evaluation": evaluation.pk}, follow=True)
    assert "EVIDENCE_MISMATCH" in answer.text
    assert state_of(draft) == RevisionState.DRAFT


def test_approvers_and_operators_retire_what_was_approved(as_person, oscar, ada, approved):
    where = reverse("console:retire-revision", args=[approved.pk])
    assert as_person(ada).post(where, {"reason": "old"}).status_code == 403
    as_person(oscar).post(where, {"reason": "Replaced by another."})
    assert state_of(approved) == RevisionState.RETIRED


def test_evidence_is_downloaded_byte_for_byte(as_person, grace, submitted):
    from steernode.canonical import sha256_hex

    answer = as_person(grace).get(reverse("console:evidence", args=[submitted.pk]))
    assert sha256_hex(answer.content) == submitted.evaluation.digest
    assert "attachment" in answer.headers["Content-Disposition"]


def test_lost_evidence_is_told_and_the_page_still_opens(as_person, grace, submitted, settings, tmp_path):
    settings.STEERHUB_BLOB_URL = (tmp_path / "elsewhere").as_uri()
    page = as_person(grace).get(reverse("console:revision", args=[submitted.pk]))
    assert page.status_code == 200
    assert "BLOB_MISSING" in page.text
    assert "sh-tested" in page.text
    assert as_person(grace).get(reverse("console:evidence", args=[submitted.pk])).status_code == 404


def test_text_from_people_and_models_is_inert(as_person, ada, grace, vector, suites, component):
    evaluation = story.validate_vector(vector, suites=suites, author=ada, replies=[(ATTACK, ATTACK, ATTACK)])
    profile = create_profile("attack", intent=ATTACK, purpose="tone", axis="empathy", risk_class="low", owner=ada)
    revision = draft_revision(profile, components=[component], author=ada, rationale=ATTACK)
    submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    revision.refresh_from_db()
    decide(as_person(grace), revision, comment=ATTACK)
    where = [
        reverse("console:revision", args=[revision.pk]),
        reverse("console:profile", args=["attack"]),
        reverse("console:approvals"),
        reverse("admin:registry_profile_changelist"),
        reverse("admin:index"),
    ]
    for page in where:
        text = as_person(grace).get(page).text
        assert "<script>alert" not in text, page
        assert "<img src=x" not in text, page
    assert "&lt;script&gt;alert" in as_person(grace).get(where[0]).text
