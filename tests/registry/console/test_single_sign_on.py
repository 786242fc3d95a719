"""Single sign-on against an OpenID provider that runs: who gets in, as whom, and with which roles (none)."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from django.test import Client
from django.urls import reverse

from registry.models import AuditEvent, User
from tests.support.openid_provider import CLIENT_ID, CLIENT_SECRET, STRANGERS_KEY, OpenIDProvider

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def provider(settings) -> Iterator[OpenIDProvider]:
    with OpenIDProvider() as provider:
        app = {
            "provider_id": "oidc",
            "name": "Harbor login",
            "client_id": CLIENT_ID,
            "secret": CLIENT_SECRET,
            "settings": {"server_url": provider.url, "oauth_pkce_enabled": True},
        }
        settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
        yield provider


@pytest.fixture
def sign_on(provider) -> Callable[..., tuple[Client, object]]:
    """Go through the provider and back; the browser and the last answer."""

    def run(browser: Client | None = None, *, change_callback: Callable[[str], str] = str):
        browser = browser or Client()
        away = browser.post(reverse("openid_connect_login", args=["oidc"]))
        assert away.url.startswith(f"{provider.url}/authorize")
        back = httpx.get(away.url).headers["location"]
        parts = urlsplit(change_callback(back))
        return browser, browser.get(f"{parts.path}?{parts.query}")

    return run


def who(browser: Client) -> str:
    answer = browser.get("/api/v1/whoami")
    return answer.json()["name"] if answer.status_code == 200 else ""


def test_the_login_page_offers_what_the_settings_name(provider):
    assert "Harbor login" in Client().get(reverse("account_login")).content.decode()


def test_without_settings_there_is_no_single_sign_on(db):
    assert "sso/oidc" not in Client().get(reverse("account_login")).content.decode()
    assert Client().post(reverse("openid_connect_login", args=["oidc"])).status_code == 404


def test_somebody_new_gets_in_with_no_role_and_no_tenant(sign_on, harbor):
    browser, answer = sign_on()
    assert answer.status_code == 302
    assert browser.get("/api/v1/whoami").json() == {"name": "nina", "roles": [], "tenants": [], "acts_for": None}
    assert browser.get("/api/v1/tenants").json()["results"] == []
    assert browser.get(reverse("admin:index")).status_code == 200
    assert browser.post(reverse("console:issue-token"), {"name": "t", "days": 1}).status_code == 403
    nina = User.objects.get(username="nina")
    assert not nina.has_usable_password()
    assert not nina.is_superuser
    event = AuditEvent.objects.get(action="user.created", object_name="nina")
    assert (event.actor_type, event.actor_name) == ("system", "single sign-on")


def test_the_same_person_comes_back_as_the_same_user(sign_on, provider):
    sign_on()
    provider.person |= {"preferred_username": "nina-renamed"}
    browser, _ = sign_on()
    assert who(browser) == "nina"
    assert User.objects.count() == 1


def test_a_name_or_address_that_is_taken_is_not_taken_over(sign_on, provider, ada):
    User.objects.filter(pk=ada.pk).update(email="ada@harbor.example")
    provider.person |= {"preferred_username": "ada", "email": "ada@harbor.example", "email_verified": True}
    browser, _ = sign_on()
    assert who(browser) not in ("", "ada")
    assert browser.get("/api/v1/whoami").json()["roles"] == []


def test_whoever_left_does_not_get_in(sign_on):
    sign_on()
    User.objects.filter(username="nina").update(is_active=False)
    browser, _ = sign_on()
    assert who(browser) == ""


@pytest.mark.parametrize("row", ["another audience", "another issuer", "expired", "a stranger's signature", "two people"])
def test_a_token_that_is_not_for_us_lets_nobody_in(sign_on, provider, row):
    if row == "a stranger's signature":
        provider.key = STRANGERS_KEY
    elif row == "two people":
        provider.userinfo_sub = "p-2"
    else:
        provider.changes = {"another audience": {"aud": "x"}, "another issuer": {"iss": "https://x"}, "expired": {"exp": 1}}[row]
    browser, answer = sign_on()
    assert answer.status_code in (401, 403)
    assert who(browser) == ""
    assert not User.objects.exists()


def test_an_answer_to_somebody_elses_question_lets_nobody_in(sign_on, provider):
    browser, _ = sign_on(change_callback=lambda url: url.replace("state=", "state=x"))
    assert who(browser) == ""
    first = Client()
    away = first.post(reverse("openid_connect_login", args=["oidc"]))
    parts = urlsplit(httpx.get(away.url).headers["location"])
    victim = Client()
    victim.get(f"{parts.path}?{parts.query}")
    assert who(victim) == ""


def test_the_way_out_starts_with_a_form_and_not_with_a_link(provider):
    assert Client().get(reverse("openid_connect_login", args=["oidc"])).status_code == 200


def test_roles_come_from_a_claim_only_where_the_settings_say_so(sign_on, provider, settings, person):
    person("somebody", "author")  # makes the groups
    provider.person["groups"] = ["ml", "ml-approvers", "canteen"]
    browser, _ = sign_on()
    assert browser.get("/api/v1/whoami").json()["roles"] == []
    settings.STEERHUB_OIDC_ROLES_CLAIM = "groups"
    settings.STEERHUB_OIDC_ROLES = [("ml", "author"), ("ml-approvers", "approver"), ("ops", "operator")]
    browser, _ = sign_on()
    assert browser.get("/api/v1/whoami").json()["roles"] == ["approver", "author"]
    provider.person["groups"] = "ml"
    browser, _ = sign_on()
    assert browser.get("/api/v1/whoami").json()["roles"] == ["author"]
    changed = AuditEvent.objects.filter(action="user.access_changed").values_list("actor_name", flat=True)
    assert list(changed) == ["single sign-on", "single sign-on"]
