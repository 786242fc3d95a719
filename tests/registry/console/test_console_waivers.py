"""Waivers on the page of a revision: asked for, confirmed and withdrawn there, and said where somebody decides."""

import pytest
from django.urls import reverse

from registry.manifests.export import export_manifests
from registry.models import Waiver
from registry.services.profiles import draft_revision, submit_revision
from registry.services.waivers import withdraw_waiver
from tests.support.components import add
from tests.support.waiving import age, approve, submit, waive

ASKED = {"metric": "slope", "kind": "above_low", "threshold": "0", "reason": "One kind of request.", "days": "30"}


@pytest.fixture
def evaluation(vector, evaluate):
    return evaluate(vector, undecidable=["slope"])


@pytest.fixture
def here(draft):
    return reverse("console:revision", args=[draft.pk])


def test_two_approvers_waive_on_the_page_and_the_third_sees_on_what_they_decide(as_person, ada, grace, mary, draft, evaluation, here):
    asking = reverse("console:ask-waiver", args=[draft.pk, evaluation.pk])
    assert "Ask for a waiver" not in as_person(ada).get(here).text
    assert "more items are needed for slope (ITEMS_FEW)" in as_person(grace).get(here).text.replace("\n", " ")
    page = as_person(grace).post(asking, ASKED, follow=True)
    waiver = Waiver.objects.get()
    confirming = reverse("console:confirm-waiver", args=[draft.pk, waiver.pk])
    assert confirming not in page.text
    assert confirming in as_person(mary).get(here).text
    as_person(mary).post(confirming)
    submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    text = as_person(grace).get(here).text
    assert "You also decide on a gate that nobody could show: slope above_low 0, waived by grace and mary until" in text
    assert "but for what is waived" in text
    (profile,) = export_manifests(kinds=["SteeringProfile"], with_status=True)
    (complete,) = [each for each in profile["status"]["conditions"] if each["type"] == "EvidenceComplete"]
    assert (complete["status"], complete["reason"], "One kind of request." in complete["message"]) == ("True", "GatesWaived", True)
    as_person(grace).post(reverse("console:withdraw-waiver", args=[draft.pk, waiver.pk]), {"reason": "No longer."})
    draft.refresh_from_db()
    assert draft.state == "draft"
    assert "Withdrawn by grace" in as_person(mary).get(here).text


def test_a_refusal_is_told_on_the_page(as_person, grace, draft, evaluation):
    asking = reverse("console:ask-waiver", args=[draft.pk, evaluation.pk])
    page = as_person(grace).post(asking, {**ASKED, "days": "4000"}, follow=True)
    assert "WAIVER_END" in page.text


def test_what_the_author_gave_is_said_to_count_elsewhere_and_others_may_ask(as_person, person, grace, mary, profile, component, evaluation):
    cid = person("cid", "author", "approver")
    own = draft_revision(profile, components=[component], author=cid)
    here = reverse("console:revision", args=[own.pk])
    assert "Ask for a waiver" not in as_person(cid).get(here).text
    waive(evaluation, "slope", asked_by=cid, confirmed_by=grace, days=366)
    assert "It does not count here: cid wrote the revision." in as_person(mary).get(here).text
    assert "Ask for a waiver" in as_person(mary).get(here).text
    assert "Ask for a waiver" not in as_person(grace).get(here).text
    as_person(mary).post(reverse("console:ask-waiver", args=[own.pk, evaluation.pk]), ASKED)
    assert Waiver.objects.filter(asked_by=mary).exists()


def test_the_gates_of_a_part_are_waived_on_the_page_of_the_whole(
    as_person, grace, mary, profile, component, brevity, evaluation, compose, ada
):
    given = waive(evaluation, "slope", asked_by=grace, confirmed_by=mary)
    combined = draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)
    submit(combined, compose(combined))
    text = as_person(mary).get(reverse("console:revision", args=[combined.pk])).text
    assert f"of {evaluation} alone:" in text
    assert reverse("console:withdraw-waiver", args=[combined.pk, given.pk]) in text
    assert f"slope above_low 0 of {evaluation} alone, waived by grace and mary until" in text


def complete():
    (profile,) = export_manifests(kinds=["SteeringProfile"], with_status=True)
    (found,) = [each for each in profile["status"]["conditions"] if each["type"] == "EvidenceComplete"]
    return found["status"], found["reason"]


def test_evidence_is_complete_no_longer_than_its_waivers_stand(draft, evaluation, grace, mary, oscar):
    waiver = waive(evaluation, "slope", asked_by=grace, confirmed_by=mary)
    submitted = submit(draft, evaluation)
    assert complete() == ("True", "GatesWaived")
    grace.groups.clear()
    assert complete() == ("False", "WaiverEnded")
    grace.groups.set(mary.groups.all())
    approve(submitted, mary)
    grace.groups.clear()
    assert complete() == ("True", "GatesWaived")
    age(waiver, days=31)
    assert complete() == ("False", "WaiverEnded")


def test_evidence_is_not_complete_after_its_waiver_was_withdrawn(draft, evaluation, grace, mary, oscar):
    waiver = waive(evaluation, "slope", asked_by=grace, confirmed_by=mary)
    approve(submit(draft, evaluation), mary)
    withdraw_waiver(waiver.pk, reason="No longer.", actor=oscar)
    assert complete() == ("False", "WaiverEnded")
