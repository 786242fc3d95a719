"""Every page opens for those it is for, and no page is a way around a login, a role or CSRF."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from registry.models import JobState, Kill, ProfileRevision, RevisionState, User

OPEN_LISTS = [
    "basemodel", "contrastset", "evalsuite", "job", "steeringvector", "evaluation", "profile", "profilerevision", "environment", "tenant",
    "riskpolicy", "tenantflag", "declaration", "kill", "snapshot", "servingnode", "nodereport",
]  # fmt: skip


@pytest.fixture
def pages(running_job, vector, approved, profile, flag_on, node) -> list[str]:
    """Every page that whoever may log in can look at, in a world that has something on each."""
    return [
        reverse("admin:index"),
        reverse("console:job", args=[running_job.pk]),
        reverse("console:job", args=[vector.job_id]),
        reverse("console:vector", args=[vector.pk]),
        reverse("console:profile", args=[profile.name]),
        reverse("console:policy", args=["low"]),
        reverse("console:approvals"),
        reverse("console:revision", args=[approved.pk]),
        reverse("console:environment-flags", args=["production"]),
        reverse("console:flag", args=["production", "harbor"]),
        reverse("console:kills"),
        reverse("console:fleet"),
        *[reverse(f"admin:registry_{name}_changelist") for name in OPEN_LISTS],
    ]


def test_every_page_opens_for_every_role(pages, as_person, ada, grace, oscar, iris, root):
    for person in (ada, grace, oscar, iris, root):
        client = as_person(person)
        for page in pages:
            assert client.get(page).status_code == 200, (person, page)


def test_nobody_sees_a_page_without_logging_in(pages, as_person):
    client = as_person()
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 302, page
        assert answer.url.startswith(reverse("admin:login")), page


def test_only_authors_are_asked_what_to_make(as_person, ada, grace, suites):
    for view in ("console:new-extraction", "console:new-contrast-set", "console:new-eval-suite", "console:new-profile"):
        assert as_person(ada).get(reverse(view)).status_code == 200
        refused = as_person(grace).get(reverse(view))
        assert refused.status_code == 403
        assert "author role" in refused.text


def test_a_superuser_holds_no_role_and_so_may_change_nothing(as_person, production, submitted):
    chief = User.objects.create_superuser("chief", password="not-a-role-12")
    client = as_person(chief)
    assert client.get(reverse("admin:index")).status_code == 200
    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    tries = [
        ("console:engage-kill", [], {"target": "everything:", "reason": "bored"}),
        ("console:decide-revision", [submitted.pk], {"decision": "approve", "comment": "fine", **digests}),
        ("console:create-tenant", [], {"name": "mine"}),
        ("console:create-profile", [], {"name": "mine", "intent": "x", "purpose": "tone", "axis": "x", "risk_class": "low"}),
    ]
    for view, arguments, data in tries:
        assert client.post(reverse(view, args=arguments), data).status_code == 403, view
    assert not Kill.objects.exists()
    assert ProfileRevision.objects.get().state == RevisionState.SUBMITTED
    assert client.get(reverse("admin:registry_auditevent_changelist")).status_code == 403


def test_a_change_without_a_csrf_token_is_refused(oscar, production):
    client = Client(enforce_csrf_checks=True)
    client.force_login(oscar)
    answer = client.post(reverse("console:engage-kill"), {"target": "everything:", "reason": "forged"})
    assert answer.status_code == 403
    assert not Kill.objects.exists()


def test_no_change_is_made_by_looking(as_person, oscar, running_job):
    for view, arguments in (("console:engage-kill", []), ("console:cancel-job", [running_job.pk])):
        assert as_person(oscar).get(reverse(view, args=arguments)).status_code == 405
    running_job.refresh_from_db()
    assert running_job.state == JobState.RUNNING


def test_registries_offer_no_way_to_add_change_or_delete(as_person, ada, vector):
    chief = User.objects.create_superuser("chief", password="not-a-role-12")
    client = as_person(chief)
    for model in admin.site._registry:
        if model._meta.app_label == "registry":
            name = f"admin:registry_{model._meta.model_name}"
            assert client.get(reverse(f"{name}_add")).status_code == 403, model
    assert client.post(reverse("admin:registry_steeringvector_change", args=[vector.pk]), {"name": "other"}).status_code == 403
    assert client.post(reverse("admin:registry_steeringvector_delete", args=[vector.pk]), {"post": "yes"}).status_code == 403


def test_audit_log_is_for_auditors_and_shows_the_exact_body(as_person, ada, iris, submitted):
    from registry.models import AuditEvent

    event = AuditEvent.objects.filter(action="revision.submitted").get()
    assert as_person(ada).get(reverse("admin:registry_auditevent_changelist")).status_code == 403
    listed = as_person(iris).get(reverse("admin:registry_auditevent_changelist"), {"action": "revision.submitted"})
    assert listed.status_code == 200
    assert event.digest in listed.text
    shown = as_person(iris).get(reverse("admin:registry_auditevent_change", args=[event.pk]))
    assert "inference configuration" in shown.text
    assert "weights unchanged" not in shown.text
    assert submitted.digest in shown.text


def test_tokens_of_nodes_are_shown_nowhere_but_at_enrolment(as_person, oscar, production):
    from registry.models import ServingNode

    enrolled = as_person(oscar).post(reverse("console:invite-node"), {"name": "node-7", "environment": production.pk})
    node = ServingNode.objects.get()
    assert re.search(r"she_[\w-]{43}", enrolled.text)
    shown = as_person(oscar).get(reverse("admin:registry_servingnode_change", args=[node.pk]))
    assert node.enrolment_sha256 not in shown.text
    assert not re.search(r"sh[en]_[\w-]{20}", shown.text)


def test_templates_hold_no_script_and_no_handler_in_line():
    folder = Path(settings.BASE_DIR) / "templates"
    for template in folder.rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"\son\w+\s*=|\sstyle\s*=|javascript:|<script(?![^>]*\ssrc=)|\|safe|autoescape off|https?://", text), template
