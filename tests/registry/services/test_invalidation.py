"""A revision that loses its ground stops steering, for good, and its owners hear why."""

import pytest
from django.core import mail
from django.db import transaction

from registry.audit import Action
from registry.errors import NotFound
from registry.models import AuditEvent, Notification, ProfileRevision
from registry.services.invalidation import invalidate_revisions, lock_revisions
from registry.services.notifications import notify, read_notifications
from registry.services.profiles import draft_revision
from registry.services.transition import all_or_nothing, transition
from steernode.errors import SteerError
from tests.support.refusals import refuses

OVERDUE = "its review was due on 1 October"


@transition
def invalidate(revision: ProfileRevision, actor: object, reason: str = OVERDUE) -> list[ProfileRevision]:
    found = lock_revisions(ProfileRevision.objects.filter(pk=revision.pk))
    invalidate_revisions(found, reason=reason, actor=actor)
    return found


def test_an_approved_revision_is_invalidated_with_its_reason_on_record(approved, oscar):
    assert [revision.pk for revision in invalidate(approved, oscar)] == [approved.pk]
    approved.refresh_from_db()
    assert (approved.state, approved.invalidated_reason) == ("invalidated", OVERDUE)
    event = AuditEvent.objects.get(action="revision.invalidated")
    assert event.actor_name == "oscar"
    assert b'"was":"approved"' in bytes(event.body)


def test_invalidating_again_changes_and_says_nothing(approved, oscar):
    invalidate(approved, oscar)
    assert invalidate(approved, oscar, "another reason") == []
    approved.refresh_from_db()
    assert approved.invalidated_reason == OVERDUE
    assert Notification.objects.count() == 1


def test_a_draft_stays_a_draft_because_nothing_was_approved_yet(draft, oscar):
    assert invalidate(draft, oscar) == []
    draft.refresh_from_db()
    assert draft.state == "draft"


def test_author_and_owner_are_each_told_once(approved, component, ada, oscar, person):
    invalidate(approved, oscar)
    told = Notification.objects.get()
    assert (told.person, told.object_name) == (ada, "harbor-empathy r1")
    assert told.text == f"harbor-empathy r1 is invalidated: {OVERDUE}"


def test_what_a_service_account_wrote_is_told_to_its_person(profile, component, ada, person):
    robot = person("robot", "author", acts_for=ada)
    revision = draft_revision(profile, components=[component], author=robot)
    with transaction.atomic():
        notify([revision.author, ada], "hello", about=revision)
    assert [told.person for told in Notification.objects.all()] == [ada]


def test_database_refuses_a_notification_that_says_nothing(ada):
    with refuses("notification_says_something"):
        Notification.objects.create(person=ada, text="", object_type="job", object_id="x", object_name="x")


def test_nothing_is_told_when_the_change_does_not_happen(approved, oscar):
    with pytest.raises(NotFound), all_or_nothing(cause=Action.REVISION_INVALIDATED, actor=oscar):  # noqa: PT012  (the change comes first)
        invalidate(approved, oscar)
        raise NotFound("NOBODY", "nobody")
    assert not Notification.objects.exists()


def test_mail_is_sent_once_for_each_person_after_the_commit(approved, ada, grace, oscar, settings, django_capture_on_commit_callbacks):
    settings.EMAIL_HOST = "mail.example"
    for who in (ada, grace):
        who.email = f"{who.username}@harbor.example"
        who.save()
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        notify([ada, grace, oscar], "one", about=approved)
        notify([ada], "two", about=approved)
        assert mail.outbox == []
    assert sorted((message.to, message.subject, message.body) for message in mail.outbox) == [
        (["ada@harbor.example"], "SteerHub: 2 notifications", "one\n\ntwo"),
        (["grace@harbor.example"], "SteerHub: one", "one"),
    ]


def test_without_a_mail_server_the_record_has_every_word(approved, ada, django_capture_on_commit_callbacks):
    ada.email = "ada@harbor.example"
    ada.save()
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        notify([ada], "one", about=approved)
    assert mail.outbox == []
    assert Notification.objects.count() == 1


def test_a_mail_server_that_fails_does_not_undo_the_change(approved, ada, settings, django_capture_on_commit_callbacks):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    ada.email = "ada@harbor.example"
    ada.save()
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        notify([ada], "one", about=approved)
    assert Notification.objects.get().text == "one"


def test_one_reads_only_ones_own(approved, ada, grace):
    with transaction.atomic():
        notify([ada, grace], "hello", about=approved)
    of_grace = Notification.objects.get(person=grace)
    with pytest.raises(SteerError, check=lambda error: error.code == "NOTIFICATION_NOT_FOUND"):
        read_notifications(reader=ada, ids=[of_grace.pk])
    assert read_notifications(reader=ada) == 1
    assert read_notifications(reader=ada) == 0
    of_grace.refresh_from_db()
    assert of_grace.read_at is None
