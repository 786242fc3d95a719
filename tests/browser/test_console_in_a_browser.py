"""The short paths of an approver and of an operator, clicked through."""

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import expect

from registry.models import Approval, Kill, ProfileRevision, RiskPolicy, TenantFlag
from registry.services.jobs import fail_job, report_progress
from registry.services.profiles import draft_revision
from tests.support import story
from tests.support.browser import PASSWORD
from tests.support.families import add_form

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_an_approver_sees_the_evidence_and_approves(open_as, grace, submitted):
    page = open_as(grace)
    page.get_by_role("link", name="Review").click()
    for metric in ("Behaviour", "Facts", "Refusals", "Perplexity ratio"):
        expect(page.get_by_role("img", name=f"{metric} over α")).to_be_visible()
    expect(page.get_by_text(story.REPLIES[0][2])).to_be_visible()
    page.locator("#id_comment").fill("Warm, and the facts are still right.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Your approval is recorded.")).to_be_visible()
    expect(page.get_by_text("approved", exact=True).first).to_be_visible()
    assert ProfileRevision.objects.get().state == "approved"
    assert Approval.objects.get().comment == "Warm, and the facts are still right."
    assert page.errors == []


def test_an_author_finds_no_button_to_approve_with(open_as, ada, submitted):
    page = open_as(ada)
    page.goto(f"/console/revisions/{submitted.pk}/")
    expect(page.get_by_text("You wrote this revision. Somebody else must decide.")).to_be_visible()
    assert page.get_by_role("button", name="Approve").count() == 0


def test_an_operator_flips_a_flag_and_kills(open_as, oscar, production, harbor, approved):
    page = open_as(oscar)
    page.locator("#nav-sidebar-apps").get_by_role("link", name="Flags").click()
    page.get_by_label("Tenant").select_option(label="harbor")
    page.get_by_role("button", name="Open the flag").click()
    page.get_by_role("combobox", name="Revision").select_option(label="harbor-empathy r1")
    page.locator("[name=enabled]").check()
    page.locator("form[action$='/set/'] [name=reason]").last.fill("Pilot with the night team.")
    page.get_by_role("button", name="Set the flag").click()
    expect(page.get_by_text("newly steered: harbor")).to_be_visible()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("harbor is on at α scale 1.")).to_be_visible()
    page.get_by_role("button", name="Turn off").click()
    expect(page.get_by_text("harbor is off")).to_be_visible()
    page.get_by_role("button", name="Turn on").click()
    page.get_by_label("Reason").fill("The complaint is answered.")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("button", name="Turn off")).to_be_visible()
    assert TenantFlag.objects.get().enabled

    page.goto("/admin/")
    page.get_by_label("What to stop").select_option("everything:")
    page.get_by_placeholder("What is going wrong").fill("Wrong tone in a complaint.")
    page.get_by_role("button", name="Stop steering now").click()
    expect(page.get_by_text("Kill in force: everything.")).to_be_visible()
    assert Kill.objects.get().reason == "Wrong tone in a complaint."
    assert page.errors == []


def test_a_job_page_follows_its_job_without_being_reloaded(open_as, ada, base_model, contrast_set, suites):
    job = story.start_job(base_model=base_model, contrast_set=contrast_set, suites=suites, author=ada)
    page = open_as(ada)
    page.goto(f"/console/jobs/{job.pk}/")
    report_progress(job, stage="sweeping", progress_done=30, progress_total=120, note="30 of 120 replies")
    expect(page.get_by_text("30 of 120 replies")).to_be_visible()
    assert page.locator("progress").first.evaluate("bar => bar.position") == 0.25
    fail_job(job, code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    expect(page.get_by_text("NO_CELL_PASSES")).to_be_visible()
    assert page.errors == []


# What is wider than the page is cut off, but for tables and charts, which scroll along. A label of many lines has no room.
_CUT_OFF = """() => {
  const page = document.querySelector(".sh-page"), edge = page.getBoundingClientRect().right + 1;
  const seen = [...page.querySelectorAll("*")].filter((each) => !each.closest(".sh-scroll, svg"));
  const wide = seen.filter((each) => each.getBoundingClientRect().right > edge);
  const tall = seen.filter((each) => each.matches("label, button, dt") && each.getBoundingClientRect().height > 160);
  return [...wide, ...tall].map((each) => each.outerHTML.slice(0, 120));
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_on_the_pages_from_a_job_to_its_base_model(
    open_as, person, ada, base_model, model_root, vector, profile, component, evaluation, production, width
):
    long = "harbor-support-q4-k-m-of-the-operations-team"
    form = add_form(base_model, long, model_root, ada, verdict="quantised", worst="0.0714285714")
    RiskPolicy.objects.filter(name="low").update(coverable_forms="any")
    revision = draft_revision(profile, components=[component], author=ada, covers=[form])
    page = open_as(person("vera", "author", "operator", "admin"))
    page.set_viewport_size({"width": width, "height": 900})
    for where in (
        f"/console/jobs/{vector.job_id}/",
        f"/console/vectors/{vector.pk}/",
        f"/console/revisions/{revision.pk}/",
        f"/console/base-models/{base_model.pk}/",
        f"/console/base-models/{form.pk}/",
        "/console/risk-policies/low/",
        "/console/extractions/new/",
    ):
        page.goto(where)
        assert page.evaluate(_CUT_OFF) == [], where
    assert page.errors == []


def test_a_kill_pressed_after_the_session_ended_is_confirmed_after_the_login(open_as, oscar, production, harbor):
    page = open_as(oscar)
    page.get_by_label("What to stop").select_option("everything:")
    page.get_by_placeholder("What is going wrong").fill("Wrong tone in a complaint.")
    # As when it ended while the page was open: the browser still shows the form, and the hub knows the session no more.
    Session.objects.all().delete()
    page.get_by_role("button", name="Stop steering now").click()
    expect(page.get_by_text("Nothing was done.")).to_be_visible()
    assert not Kill.objects.exists()
    page.fill("[name=login]", oscar.username)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    expect(page.get_by_text("The kill is not in force. Steering goes on")).to_be_visible()
    assert not Kill.objects.exists()
    page.get_by_role("button", name="Stop steering now").click()
    expect(page.get_by_text("Kill in force: everything.")).to_be_visible()
    assert Kill.objects.get().reason == "Wrong tone in a complaint."
    assert page.errors == []
