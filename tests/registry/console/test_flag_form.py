"""The form of a flag changes what was changed in it, and nothing that was not touched."""

from decimal import Decimal
from html import unescape
from html.parser import HTMLParser

import pytest
from django.urls import reverse

from registry.models import TenantFlag
from registry.services.flags import ArmSpec, set_flag
from steernode.snapshot.records import AlphaBounds
from tests.support.confirming import send

SET = "/console/flags/production/set/"
PAGE = "/console/flags/production/tenants/harbor/"


class Fields(HTMLParser):
    """What a browser would send of the form that sets a flag, had nobody touched it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sent: dict[str, list[str]] = {}
        self.inside, self.select, self.area = False, "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form":
            self.inside = given.get("action") == SET
        if not self.inside:
            return
        if tag == "input" and given.get("name") and (given.get("type") != "checkbox" or "checked" in given):
            self.sent.setdefault(given["name"], []).append(given.get("value") or ("on" if given.get("type") == "checkbox" else ""))
        if tag == "select":
            self.select = given["name"]
        if tag == "option" and self.select and "selected" in given:
            self.sent.setdefault(self.select, []).append(given["value"])
        if tag == "textarea":
            self.area = given["name"]
            self.sent[self.area] = [""]

    def handle_data(self, data):
        if self.area:
            self.sent[self.area] = [unescape(data).strip("\n").replace("\n", "\r\n")]

    def handle_endtag(self, tag):
        if tag in ("select", "textarea"):
            self.select = self.area = ""


def opened(client, page: str = PAGE) -> dict[str, list[str]]:
    sent = Fields(client.get(page).text).sent
    assert "csrfmiddlewaretoken" in sent
    return sent


@pytest.fixture
def full(production, harbor, approved, oscar):
    """A flag that states something of everything."""
    arms = [ArmSpec("now", 1), ArmSpec("next", 1, approved, Decimal("0.5"))]
    stated = {"rollout": Decimal("12.5"), "arms": arms, "override": AlphaBounds(Decimal(0), Decimal("0.5"))}
    return set_flag(production, harbor, revision=approved, enabled=True, reason="go", actor=oscar, **stated)


def says(flag: TenantFlag) -> dict:
    flag = TenantFlag.objects.get(pk=flag.pk)
    names = ("enabled", "revision_id", "alpha_scale", "rollout", "override_min", "override_max", "inherits")
    arms = [(arm.name, arm.weight, arm.revision_id, arm.alpha_scale) for arm in flag.arms.all()]
    return {name: getattr(flag, name) for name in names} | {"arms": arms}


def test_sent_as_it_opened_it_changes_nothing(as_person, oscar, full):
    client, before = as_person(oscar), says(full)
    client.post(SET, opened(client) | {"reason": ["looked"]})
    assert says(full) == before
    assert TenantFlag.objects.get().reason == "looked"


@pytest.mark.parametrize(
    ("name", "typed", "column", "value"),
    [
        ("alpha_scale", "0.8", "alpha_scale", Decimal("0.8")),
        ("rollout", "10", "rollout", Decimal(10)),
        ("arms", "none", "arms", []),
        ("override", "none", "override_max", None),
        ("enabled", None, "enabled", False),
    ],
)
def test_one_field_changed_changes_that_field(as_person, oscar, full, name, typed, column, value):
    client, before = as_person(oscar), says(full)
    sent = opened(client) | {"reason": ["less"]}
    sent = {key: values for key, values in sent.items() if key != name} | ({name: [typed]} if typed else {})
    assert send(client, SET, sent).status_code == 302
    after = says(full)
    assert after[column] == value
    assert {key for key in after if after[key] != before[key]} <= {column, "override_min"}


def test_a_form_over_a_flag_that_was_changed_meanwhile_does_nothing_and_shows_what_changed(as_person, production, harbor, oscar, full):
    client = as_person(oscar)
    sent = opened(client) | {"reason": ["fewer"], "rollout": ["5"]}
    set_flag(production, harbor, enabled=False, reason="stop", actor=oscar, alpha_scale=Decimal("0.5"))
    answer = client.post(SET, sent)
    assert answer.status_code == 409
    for words in ("Nothing was done", "FLAG_CHANGED", "On: on → off", "α scale: 1 → 0.5"):
        assert words in answer.text, words
    assert says(full)["rollout"] == Decimal("12.5")
    again = Fields(answer.text).sent
    assert (again["rollout"], again["reason"], again["alpha_scale"]) == (["5"], ["fewer"], ["0.5"])
    assert "enabled" not in again
    # What came back holds one change, and is off as the flag is.
    assert client.post(SET, again).status_code == 302
    after = says(full)
    assert (after["enabled"], after["alpha_scale"], after["rollout"]) == (False, Decimal("0.5"), 5)


def test_a_flag_made_meanwhile_is_a_flag_changed_meanwhile(as_person, production, harbor, oscar, approved):
    client = as_person(oscar)
    sent = opened(client) | {"reason": ["go"], "revision": [str(approved.pk)], "alpha_scale": ["1"], "enabled": ["on"]}
    set_flag(production, harbor, revision=approved, enabled=False, reason="not yet", actor=oscar)
    assert "FLAG_CHANGED" in client.post(SET, sent).text
    assert not TenantFlag.objects.get().enabled


def test_what_is_refused_comes_back_as_it_was_typed(as_person, oscar, full):
    client = as_person(oscar)
    answer = client.post(SET, opened(client) | {"reason": ["more"], "alpha_scale": ["3"], "rollout": ["7"]})
    assert "ALPHA_RANGE" in answer.text
    again = Fields(answer.text).sent
    assert (again["alpha_scale"], again["rollout"], again["reason"]) == (["3"], ["7"], ["more"])


def test_choosing_a_tenant_turns_nobody_off(as_person, oscar, full, harbor):
    client = as_person(oscar)
    text = client.get(reverse("console:environment-flags", args=["production"])).text
    assert SET not in text
    answer = client.get(reverse("console:open-flag", args=["production"]), {"tenant": harbor.pk, "route": "chat/2"})
    assert answer.url == f"{PAGE}?route=chat%2F2"
    assert client.get(reverse("console:open-flag", args=["production"]), {"tenant": harbor.pk}).url == PAGE
    assert TenantFlag.objects.get().enabled


def test_a_new_flag_of_a_route_states_what_was_typed_and_inherits_all_else(as_person, oscar, full):
    client = as_person(oscar)
    client.post(SET, opened(client, f"{PAGE}?route=chat") | {"reason": ["softer"], "alpha_scale": ["0.5"], "enabled": ["on"]})
    flag = TenantFlag.objects.get(route="chat")
    assert (flag.enabled, flag.alpha_scale, flag.inherits) == (True, Decimal("0.5"), ["revision", "rollout", "arms", "override"])


def test_what_raises_is_shown_with_who_is_steered_anew_and_takes_a_reason(as_person, oscar, production, harbor, approved):
    set_flag(production, harbor, revision=approved, enabled=False, reason="ready", actor=oscar)
    client, switch = as_person(oscar), reverse("console:switch-flag", args=["production"])
    page = client.post(switch, {"tenant": harbor.pk, "route": "", "enabled": "on"})
    for words in ("It raises steering:", "harbor would get steering, and gets none", "newly steered: harbor"):
        assert words in page.text
    assert not TenantFlag.objects.get().enabled
    digest = page.context["plan"].digest
    unsaid = client.post(switch, {"tenant": harbor.pk, "route": "", "enabled": "on", "confirm": digest})
    assert unsaid.context["plan"].digest == digest
    client.post(switch, {"tenant": harbor.pk, "route": "", "enabled": "on", "confirm": digest, "reason": "the pilot begins"})
    assert (TenantFlag.objects.get().enabled, TenantFlag.objects.get().reason) == (True, "the pilot begins")


def test_turning_off_is_one_click(as_person, oscar, full, harbor):
    as_person(oscar).post(reverse("console:switch-flag", args=["production"]), {"tenant": harbor.pk, "route": ""})
    assert (TenantFlag.objects.get().enabled, TenantFlag.objects.get().reason) == (False, "Turned off in the console")


def test_a_plan_that_is_stale_is_shown_again(as_person, oscar, full):
    client = as_person(oscar)
    sent = opened(client) | {"reason": ["more"], "rollout": ["50"]}
    digest = client.post(SET, sent).context["plan"].digest
    page = client.post(SET, sent | {"confirm": ["0" * 64]})
    assert "PLAN_STALE" in page.text
    assert page.context["plan"].digest == digest
    assert client.post(SET, sent | {"confirm": [digest]}).status_code == 302
    assert TenantFlag.objects.get().rollout == 50
