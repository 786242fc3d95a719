"""Notifications: tell people what happened to what is theirs, in the transaction in which it happens."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import models, transaction
from django.utils import timezone

from registry.errors import NotFound
from registry.models import Notification, User
from registry.services.transition import transition

logger = logging.getLogger(__name__)
_LONGEST = 2000
# What is older was told while mail was not configured, or is news no more.
_WORTH_MAILING = timedelta(hours=1)


def notify(people: Iterable[User], text: str, *, about: models.Model) -> None:
    """Tell each of these people once, inside the caller's transaction. A service account's word goes to its person.

    With EMAIL_HOST the words go out by mail too, once the transaction has committed.
    """
    receivers = {person.pk: person for person in (user.acts_for or user for user in people)}
    Notification.objects.bulk_create(
        Notification(
            person=person,
            text=text[:_LONGEST],
            object_type=about._meta.model_name or "",
            object_id=str(about.pk),
            object_name=str(about)[:300],
        )
        for person in receivers.values()
    )
    if settings.EMAIL_HOST:
        transaction.on_commit(mail_notifications, robust=True)


def mail_notifications() -> int:
    """Mail what waits to be mailed: one message to a person, whatever the number of notifications. Returns the messages sent.

    The first of several calls after one commit takes everything. Mail is a courtesy: the record has every word, so a mail
    server that fails is logged and not asked again.
    """
    with transaction.atomic():
        waiting = list(
            Notification.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("person")
            .filter(mailed_at__isnull=True, created_at__gt=timezone.now() - _WORTH_MAILING, person__is_active=True)
            .exclude(person__email="")
            .order_by("created_at")
        )
        Notification.objects.filter(pk__in=[notification.pk for notification in waiting]).update(mailed_at=timezone.now())
    texts: dict[str, list[str]] = defaultdict(list)
    for notification in waiting:
        texts[notification.person.email].append(notification.text)
    messages = [EmailMessage(_subject(lines), "\n\n".join(lines), to=[address]) for address, lines in texts.items()]
    if not messages:
        return 0
    try:
        return get_connection().send_messages(messages) or 0
    except OSError as error:
        # An SMTPException is an OSError too.
        logger.warning("%d notifications are on record but were not mailed: %s", len(waiting), error)
        return 0


def _subject(texts: Sequence[str]) -> str:
    first = " ".join(texts[0].split())
    return f"SteerHub: {first[:100]}" if len(texts) == 1 else f"SteerHub: {len(texts)} notifications"


@transition
def read_notifications(*, reader: User, ids: Sequence[UUID] | None = None) -> int:
    """unread -> read: these, or all of the reader's own. Returns how many were unread until now.

    What a person has looked at is theirs to know, so it is no audit event. Raises: NotFound NOTIFICATION_NOT_FOUND.
    """
    own = notifications_of(reader)
    if ids is not None:
        own = own.filter(pk__in=ids)
        missing = sorted({str(key) for key in ids} - {str(key) for key in own.values_list("pk", flat=True)})
        if missing:
            raise NotFound("NOTIFICATION_NOT_FOUND", f"no notification {missing[0]} of yours", missing[0])
    return own.filter(read_at__isnull=True).update(read_at=timezone.now())


def notifications_of(user: User) -> models.QuerySet[Notification]:
    """A person's own, newest first; a service account sees those of the person it acts for."""
    return Notification.objects.filter(person_id=user.acts_for_id or user.pk)
