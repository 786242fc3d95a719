"""Getting in by password: wrong passwords lock a name from an address and nothing else; a second factor is asked for once set up."""

import re
from datetime import timedelta

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from axes.models import AccessAttempt
from django.core.cache import cache
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from registry.console import login
from registry.models import AuditEvent, Kill, User
from registry.web.addresses import client_address
from registry.web.alarms import Alarm

PASSWORD = "steer-harbor-42"
LOGIN = "/accounts/login/"
ATTACKER, OFFICE = "198.51.100.7", "203.0.113.5"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    cache.clear()
    monkeypatch.setattr(login, "_alarm", Alarm(every_seconds=60))


@pytest.fixture
def oscar(oscar):
    oscar.set_password(PASSWORD)
    oscar.save()
    return oscar


def sign_in(browser: Client, password: str, *, name: str = "oscar", address: str = OFFICE, **headers):
    return browser.post(LOGIN, {"login": name, "password": password}, REMOTE_ADDR=address, **headers)


def who(browser: Client) -> str:
    answer = browser.get("/api/v1/whoami")
    return answer.json()["name"] if answer.status_code == 200 else ""


def test_a_person_signs_in_and_lands_where_they_were_going(oscar):
    browser = Client()
    to_login = browser.get(reverse("console:kills"), follow=True)
    assert to_login.redirect_chain[-1][0].startswith(LOGIN)
    answer = browser.post(to_login.redirect_chain[-1][0], {"login": "oscar", "password": PASSWORD, "next": reverse("console:kills")})
    assert answer.url == reverse("console:kills")
    assert who(browser) == "oscar"


def test_a_session_begins_with_the_login_and_ends_with_the_logout(oscar):
    browser, thief = Client(), Client()
    browser.cookies["sessionid"] = planted = "x" * 32
    sign_in(browser, PASSWORD)
    assert who(browser) == "oscar"
    thief.cookies["sessionid"] = planted
    assert who(thief) == ""
    thief.cookies["sessionid"] = browser.cookies["sessionid"].value
    assert who(thief) == "oscar"
    browser.post("/accounts/logout/")
    assert (who(browser), who(thief)) == ("", "")


def test_a_session_does_nothing_for_somebody_who_left(oscar, api, root):
    browser = Client()
    sign_in(browser, PASSWORD)
    left = api(root).put("/api/v1/users/oscar", {"roles": [], "tenants": [], "is_active": False})
    assert (left.status_code, who(browser)) == (200, "")
    assert browser.get(reverse("console:kills"), follow=True).redirect_chain[-1][0].startswith(LOGIN)


def test_nobody_is_sent_to_another_site_after_the_login(oscar):
    answer = Client().post(LOGIN, {"login": "oscar", "password": PASSWORD, "next": "https://evil.example/"})
    assert answer.url == reverse("admin:index")


def test_signing_up_is_closed(db):
    form = {"username": "mallory", "password1": PASSWORD, "password2": PASSWORD}
    for answer in (Client().get("/accounts/signup/"), Client().post("/accounts/signup/", form)):
        assert "closed" in answer.content.decode().lower()
    assert not User.objects.exists()


def test_there_is_one_way_in(oscar):
    """The admin's own form, which knows neither second factors nor locks, is not served."""
    answer = Client().post("/admin/login/", {"username": "oscar", "password": PASSWORD})
    assert answer.status_code == 302
    assert answer.url.startswith(LOGIN)


def test_five_wrong_passwords_lock_the_name_from_the_address(oscar):
    browser = Client()
    for _ in range(4):
        assert sign_in(browser, "wrong").status_code == 200
    assert sign_in(browser, "wrong").status_code == 429
    answer = sign_in(browser, PASSWORD)
    assert answer.status_code == 429
    assert answer["Retry-After"] == "900"
    assert who(browser) == ""
    # The same person from elsewhere, and somebody else from there.
    assert sign_in(Client(), PASSWORD, address=ATTACKER).status_code == 302
    assert sign_in(Client(), "wrong", name="ada").status_code == 200


def test_a_lock_ends_by_itself(oscar):
    for _ in range(6):
        sign_in(Client(), "wrong")
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=15, seconds=1))
    assert sign_in(Client(), PASSWORD).status_code == 302


def test_guessing_an_operators_password_does_not_keep_the_operator_from_the_kill_switch(api, oscar, production):
    for _ in range(30):
        sign_in(Client(), "wrong", address=ATTACKER)
    browser = Client()
    assert sign_in(browser, PASSWORD, address=OFFICE).status_code == 302
    browser.post(reverse("console:engage-kill"), {"target": "everything:", "reason": "now"})
    assert Kill.objects.count() == 1
    # Nor is a token any concern of the lock's, not even from the attacker's address.
    answer = api(oscar).post("/api/v1/kills", {"kind": "environment", "target": "production", "reason": "now"}, REMOTE_ADDR=ATTACKER)
    assert answer.status_code == 201


def test_a_name_in_other_letters_is_another_name_and_gets_nobody_in(oscar):
    assert sign_in(Client(), PASSWORD, name="Oscar").status_code == 200
    assert sign_in(Client(), PASSWORD, name="oscar ").status_code in (200, 302)
    assert sign_in(Client(), PASSWORD, name="oſcar").status_code == 200


def test_a_lock_is_one_audit_event_and_an_unknown_name_is_none(oscar):
    before = AuditEvent.objects.count()
    for _ in range(12):
        sign_in(Client(), "wrong")
        sign_in(Client(), "wrong", name="nobody")
    (event,) = AuditEvent.objects.filter(seq__gt=before)
    assert (event.action, event.object_name) == ("login.locked", "oscar")


def test_passwords_are_in_no_log_and_in_no_table(oscar, caplog):
    caplog.set_level("DEBUG")
    for _ in range(7):
        sign_in(Client(), "my wrong password")
    assert "my wrong password" not in caplog.text + str(list(AccessAttempt.objects.values_list()))


# -- Behind proxies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "", "10.0.0.9"),
        (0, "198.51.100.7", "10.0.0.9"),
        (1, "198.51.100.7", "198.51.100.7"),
        (1, "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        (2, "1.1.1.1, 198.51.100.7, 10.0.0.8", "198.51.100.7"),
        (2, "198.51.100.7", "10.0.0.9"),
        (1, "", "10.0.0.9"),
        (1, "not an address", "10.0.0.9"),
        (1, "2001:DB8::7", "2001:db8::7"),
    ],
)
def test_the_address_is_what_the_last_trusted_proxy_says(settings, proxies, forwarded, address):
    settings.STEERHUB_PROXIES = proxies
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="10.0.0.9", **headers)) == address


def test_a_claimed_address_neither_evades_a_lock_nor_locks_others(oscar, settings):
    settings.STEERHUB_PROXIES = 1
    for turn in range(6):
        answer = sign_in(Client(), "wrong", address="10.0.0.9", HTTP_X_FORWARDED_FOR=f"1.1.1.{turn}, {ATTACKER}")
    assert answer.status_code == 429
    assert sign_in(Client(), PASSWORD, address="10.0.0.9", HTTP_X_FORWARDED_FOR=f"{ATTACKER}, {OFFICE}").status_code == 302


def reauthenticate(browser: Client) -> None:
    """Whoever changes how they get in says their password again."""
    assert browser.post(reverse("account_reauthenticate"), {"password": PASSWORD}).status_code == 302


# -- A second factor ------------------------------------------------------------------------------------------------------------


def code_for(secret: str, *, steps_ago: int = 0) -> str:
    _before, now, _after = yield_hotp_counters_from_time()
    return format_hotp_value(hotp_value(secret, now - steps_ago))


@pytest.fixture
def with_totp(oscar):
    """Set an authenticator app up on the page for it; its secret."""
    browser = Client()
    sign_in(browser, PASSWORD)
    reauthenticate(browser)
    page = browser.get(reverse("mfa_activate_totp")).content.decode()
    secret = re.search(r"\b[A-Z2-7]{32}\b", page)[0]
    assert browser.post(reverse("mfa_activate_totp"), {"code": code_for(secret)}).status_code == 302
    cache.clear()  # remembers the code that was just used
    return secret


def test_a_password_alone_no_longer_lets_in(oscar, with_totp):
    browser = Client()
    answer = sign_in(browser, PASSWORD)
    assert answer.url.startswith(reverse("mfa_authenticate"))
    assert who(browser) == ""
    assert browser.get(reverse("console:kills")).status_code == 302
    assert browser.post(reverse("mfa_authenticate"), {"code": "000000"}).status_code == 200
    assert who(browser) == ""
    assert browser.post(reverse("mfa_authenticate"), {"code": code_for(with_totp)}).status_code == 302
    assert who(browser) == "oscar"


def test_a_code_is_good_once(oscar, with_totp):
    first, second = Client(), Client()
    for browser in (first, second):
        sign_in(browser, PASSWORD)
    code = code_for(with_totp)
    assert first.post(reverse("mfa_authenticate"), {"code": code}).status_code == 302
    second.post(reverse("mfa_authenticate"), {"code": code})
    assert who(second) == ""


@pytest.mark.parametrize(("steps_ago", "is_in"), [(1, True), (3, False)])
def test_a_code_is_good_a_moment_longer_than_it_is_shown(oscar, with_totp, steps_ago, is_in):
    browser = Client()
    sign_in(browser, PASSWORD)
    browser.post(reverse("mfa_authenticate"), {"code": code_for(with_totp, steps_ago=steps_ago)})
    assert (who(browser) == "oscar") is is_in


def test_codes_cannot_be_tried_for_long(oscar, with_totp):
    browser = Client()
    sign_in(browser, PASSWORD)
    for _ in range(6):
        browser.post(reverse("mfa_authenticate"), {"code": "000000"})
    browser.post(reverse("mfa_authenticate"), {"code": code_for(with_totp)})
    assert who(browser) == ""


def test_second_factors_are_stored_encrypted(oscar, with_totp, settings):
    stored = Authenticator.objects.get(user=oscar, type="totp")
    assert with_totp not in str(stored.data)
    assert stored.wrap().validate_code(code_for(with_totp))
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "a new key"
    cache.clear()
    assert stored.wrap().validate_code(code_for(with_totp))


def test_the_pages_of_second_factors_open(oscar):
    browser = Client()
    sign_in(browser, PASSWORD)
    assert browser.get(reverse("mfa_activate_totp")).url.startswith(reverse("account_reauthenticate"))
    reauthenticate(browser)
    for page in (
        "mfa_index",
        "mfa_activate_totp",
        "mfa_add_webauthn",
        "account_change_password",
        "account_logout",
        "socialaccount_connections",
    ):
        assert browser.get(reverse(page)).status_code == 200, page


# -- What browsers are told -----------------------------------------------------------------------------------------------------


def test_every_page_says_what_it_may_do(oscar):
    browser = Client()
    for path in (LOGIN, "/api/v1/healthz", "/api/v1/nothing"):
        answer = browser.get(path)
        assert "script-src 'self'" in answer["Content-Security-Policy"], path
        assert "'unsafe-inline'" not in answer["Content-Security-Policy"].split("script-src")[1].split(";")[0]
        assert (answer["X-Content-Type-Options"], answer["X-Frame-Options"]) == ("nosniff", "DENY")
        assert answer["Referrer-Policy"] == "same-origin"
    sign_in(browser, PASSWORD)
    assert "frame-ancestors 'none'" in browser.get("/admin/")["Content-Security-Policy"]


def test_a_download_keeps_its_own_stricter_policy(api, ada):
    digest = api(ada).upload(b"<script>")
    assert api(ada).get(f"/api/v1/blobs/{digest}")["Content-Security-Policy"] == "default-src 'none'"
