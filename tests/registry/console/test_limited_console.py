"""The console of somebody who is limited to harbor: no page shows atlas, and what reaches further is refused."""

from decimal import Decimal

import pytest
from django.contrib import admin
from django.urls import reverse

from registry.console.urls import urlpatterns
from registry.models import AuditEvent, Kill, Role
from registry.services.flags import set_flag
from registry.services.kills import engage_kill
from registry.services.people import change_access

OPEN = {"console:kills", "console:tokens"}


@pytest.fixture
def limited(as_person, person, harbor, atlas, flag_on, production, approved, oscar):
    """Every role, and harbor only; atlas is steered and killed."""
    set_flag(production, atlas, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="atlas too", actor=oscar)
    engage_kill("tenant", target="atlas", reason="noise at atlas", actor=oscar)
    user = person("everything", *Role.values)
    change_access(user, roles=Role.values, tenants=[harbor], is_active=True, actor="tests")
    return as_person(user)


def test_no_page_shows_another_tenant(limited, node, evaluation, vector, approved):
    lists = [f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist" for model in admin.site._registry]
    own = [f"console:{pattern.name}" for pattern in urlpatterns if not pattern.pattern.converters]
    pages = [reverse(name) for name in ("admin:index", *lists, *own)]
    pages += [reverse("console:environment-flags", args=["production"]), reverse("console:vector", args=[vector.pk])]
    for page in pages:
        answer = limited.get(page)
        assert "atlas" not in answer.content.decode(), page
        if answer.status_code == 200:
            assert page in {reverse("admin:index"), *(reverse(name) for name in OPEN)}, f"{page} is open to people limited to tenants"


def test_they_stop_their_own_tenant_and_nobody_elses(limited):
    engage = reverse("console:engage-kill")
    before = Kill.objects.count()
    for target in ("tenant:atlas", "everything:", "environment:production", "profile:harbor-empathy"):
        limited.post(engage, {"target": target, "reason": "x"})
    assert Kill.objects.count() == before
    limited.post(engage, {"target": "tenant:harbor", "reason": "x"})
    assert Kill.objects.filter(tenant__name="harbor").count() == 1


def test_what_is_not_theirs_to_change_is_refused(limited):
    events = AuditEvent.objects.count()
    for name, arguments in (("set-flag", ["production"]), ("invite-node", []), ("start-extraction", [])):
        assert limited.post(reverse(f"console:{name}", args=arguments), {}).status_code == 403, name
    assert AuditEvent.objects.count() == events


def test_the_page_of_tokens_leads_to_what_the_api_is(as_person, ada):
    browser = as_person(ada)
    assert f'href="{reverse("api-schema")}"' in browser.get(reverse("console:tokens")).content.decode()
    document = browser.get(reverse("api-schema"), headers={"accept": "text/html,*/*;q=0.8"})
    assert (document.status_code, document.content.startswith(b"openapi: 3")) == (200, True)


def test_ones_own_tokens_have_a_page(as_person, ada, grace):
    browser = as_person(ada)
    issued = browser.post(reverse("console:issue-token"), {"name": "laptop", "days": 7, "scopes": ["read"]})
    assert issued.status_code == 200
    token = ada.api_tokens.get(name="laptop")
    assert token.scopes == ["read"]
    assert f"{token.prefix}" in issued.content.decode()
    page = browser.get(reverse("console:tokens")).content.decode()
    assert "laptop" in page
    assert "sh-token" not in page
    # Another person's button finds nothing to revoke.
    as_person(grace).post(reverse("console:revoke-token", args=[token.pk]))
    token.refresh_from_db()
    assert token.revoked_at is None
    browser.post(reverse("console:revoke-token", args=[token.pk]))
    token.refresh_from_db()
    assert token.revoked_at is not None
