"""A form whose session had ended is not lost: nothing is done, the person signs in, sees what was about to happen, and confirms."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from registry.console import kept, urls
from registry.models import Kill, Tenant, TenantFlag
from registry.services.people import change_access

KILL = {"target": "tenant:harbor", "environment": "", "reason": "Promises refunds.", "next": "/console/fleet/"}
RESUME = "/console/resume/"
ANY_ID = UUID("0190a000-0000-7000-8000-000000000001")
ACTIONS = [pattern for pattern in urls.urlpatterns if getattr(pattern.callback, "is_action", False)]


@pytest.fixture(autouse=True)
def _no_login_before():
    """Logins are counted by address."""
    cache.clear()


def address(pattern: URLPattern) -> str:
    values = {"slug": "harbor", "uuid": ANY_ID}
    found = {
        name: values[type(converter).__name__.removesuffix("Converter").lower()] for name, converter in pattern.pattern.converters.items()
    }
    return reverse(f"console:{pattern.name}", kwargs=found)


def sign_in(browser: Client, user) -> None:
    """As the login does: the session of nobody becomes that of the user."""
    user.set_password("steer-harbor-42")
    user.save()
    answer = browser.post(f"/accounts/login/?next={RESUME}", {"login": user.username, "password": "steer-harbor-42", "next": RESUME})
    assert answer.url == RESUME


def confirm(browser: Client, page: str):
    """Press the button of the page: send what its form holds to where it says."""
    form = re.search(r'<form method="post" action="(/console/(?!resume)[^"]+)">(.*?)</form>', page, re.DOTALL)
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[2]))
    return browser.post(form[1], {name: value for name, value in fields.items() if name != "csrfmiddlewaretoken"})


def test_there_are_actions_to_test():
    assert len(ACTIONS) > 25


@pytest.mark.parametrize("pattern", ACTIONS, ids=lambda pattern: pattern.name)
def test_every_form_is_kept_while_its_person_signs_in(pattern, oscar, harbor, production):
    browser = Client()
    answer = browser.post(address(pattern), {"reason": "because of that"})
    assert answer.url == f"/accounts/login/?next={RESUME}"
    assert "Nothing was done." in browser.get(answer.url).text
    sign_in(browser, oscar)
    page = browser.get(RESUME).text
    assert "because of that" in page
    assert f'action="{address(pattern)}"' in page


@pytest.mark.parametrize("pattern", ACTIONS, ids=lambda pattern: pattern.name)
def test_every_form_whose_token_is_too_old_is_asked_about_again(pattern, oscar, harbor, production):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(oscar)
    answer = browser.post(address(pattern), {"reason": "because of that"}, headers={"Origin": "http://testserver"})
    assert answer.status_code == 403
    assert "because of that" in answer.text
    assert "not in force" in answer.text or "Nothing was done" in answer.text


@pytest.mark.parametrize("pattern", ACTIONS, ids=lambda pattern: pattern.name)
def test_no_address_of_a_form_is_a_bare_page(pattern, as_person, oscar):
    answer = as_person(oscar).get(address(pattern))
    assert (answer.status_code, "takes a form" in answer.text) == (405, True)
    assert as_person().get(address(pattern)).url == "/accounts/login/?next=/admin/"


def test_a_kill_pressed_after_the_session_ended_is_said_not_to_be_in_force_and_is_once_confirmed(oscar, harbor, production):
    browser = Client()
    browser.post(reverse("console:engage-kill"), KILL)
    assert not Kill.objects.exists()
    sign_in(browser, oscar)
    page = browser.get(RESUME).text
    assert "The kill is not in force. Steering goes on" in page
    assert "tenant harbor" in page
    assert confirm(browser, page).url == "/console/fleet/"
    kill = Kill.objects.get()
    assert (kill.tenant, kill.reason, kill.engaged_by) == (harbor, "Promises refunds.", oscar)
    assert "kept_form" not in browser.session


def test_a_session_that_ended_meanwhile_is_one_that_ended(as_person, oscar, harbor, production):
    browser = as_person(oscar)
    session = browser.session
    session.set_expiry(timezone.now() - timedelta(minutes=1))
    session.save()
    assert browser.post(reverse("console:engage-kill"), KILL).url == f"/accounts/login/?next={RESUME}"


def test_whoever_confirms_may_do_it_or_is_refused(iris, harbor, production):
    browser = Client()
    browser.post(reverse("console:engage-kill"), KILL)
    sign_in(browser, iris)
    answer = confirm(browser, browser.get(RESUME).text)
    assert (answer.status_code, Kill.objects.exists()) == (403, False)


def test_what_is_not_wanted_any_more_is_forgotten(oscar, harbor, production):
    browser = Client()
    browser.post(reverse("console:engage-kill"), KILL)
    sign_in(browser, oscar)
    browser.post(reverse("console:discard-form"))
    assert "not done" in browser.get(RESUME, follow=True).text
    assert not Kill.objects.exists()


def test_another_form_leaves_the_kept_one_and_every_page_tells_of_it(oscar, harbor, production):
    browser = Client()
    browser.post(reverse("console:engage-kill"), KILL)
    sign_in(browser, oscar)
    browser.post(reverse("console:create-tenant"), {"name": "atlas"})
    assert Tenant.objects.filter(name="atlas").exists()
    assert RESUME in browser.get(reverse("console:fleet")).text
    assert "Promises refunds." in browser.get(RESUME).text


def test_records_are_named_and_nobody_reads_of_what_they_do_not_see(as_person, person, root, harbor, atlas, production):
    """The form names atlas by its key, and a person who sees harbor alone gets no more than they sent."""
    limited = change_access(person("lina", "operator"), roles=["operator"], tenants=[harbor], is_active=True, actor=root)
    for tenant, shown in ((harbor, "harbor"), (atlas, str(atlas.pk))):
        browser = Client()
        browser.post(reverse("console:set-flag", args=["production"]), {"tenant": str(tenant.pk), "reason": "x"})
        sign_in(browser, limited)
        assert shown in browser.get(RESUME).text
        assert tenant != atlas or "atlas" not in browser.get(RESUME).text


def test_no_password_no_file_and_no_flood_is_kept(oscar, settings, tmp_path):
    browser = Client()
    browser.post(reverse("console:create-tenant"), {"name": "x", "password": "hunter2-hunter2"})
    assert browser.session["kept_form"]["fields"] == [["name", "x"]]
    assert browser.session["kept_form"]["left_out"] == ["password"]
    with (tmp_path / "pairs.jsonl").open("w+b") as file:
        file.write(b"{}")
        file.seek(0)
        browser.post(reverse("console:upload-contrast-set"), {"name": "x", "file": file})
    sign_in(browser, oscar)
    assert "What cannot be kept: file" in browser.get(RESUME).text
    late = Client()
    late.post(reverse("console:create-tenant"), {"name": "x" * (kept.MOST_BYTES + 1)})
    assert late.session["kept_form"]["fields"] == []


def test_what_waited_for_more_than_an_hour_is_said_not_to_be_done(oscar, harbor, production, monkeypatch):
    browser = Client()
    browser.post(reverse("console:engage-kill"), KILL)
    sign_in(browser, oscar)
    monkeypatch.setattr(kept, "KEPT_SECONDS", -1)
    assert "was not done" in browser.get(RESUME, follow=True).text
    assert not Kill.objects.exists()


@pytest.mark.parametrize("origin", [{"Origin": "https://evil.example"}, {"Referer": "https://evil.example/x"}, {}])
def test_a_form_of_another_site_is_not_even_shown(oscar, production, origin):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(oscar)
    answer = browser.post(reverse("console:engage-kill"), KILL, headers=origin)
    assert answer.status_code == 403
    assert "Promises refunds." not in answer.text
    assert "did not come from a page of ours" in answer.text
    assert not TenantFlag.objects.exists()


def test_a_session_lasts_as_long_after_a_kept_form_as_after_any_login(oscar, harbor, production):
    browser, other = Client(), Client()
    browser.post(reverse("console:engage-kill"), KILL)
    for each in (browser, other):
        sign_in(each, oscar)
        each.get(RESUME)
    assert browser.session.get_expire_at_browser_close() == other.session.get_expire_at_browser_close()
    assert abs(browser.session.get_expiry_age() - other.session.get_expiry_age()) < 5
