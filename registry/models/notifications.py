"""Notifications: what a person is told about something that is theirs."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Notification(models.Model):
    """One sentence to one person, about one record. Written in the transaction of the change it tells of."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="notifications")
    text = models.TextField(max_length=2000)
    # The record, named as audit events name theirs.
    object_type = models.CharField(max_length=50)
    object_id = models.CharField(max_length=100)
    object_name = models.CharField(max_length=300)
    created_at = models.DateTimeField(db_default=Now())
    read_at = models.DateTimeField(null=True)
    # Set by whoever takes it to mail it, before it is sent: mail may be lost, and is not repeated.
    mailed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["person", "-created_at"], name="notification_by_person"),
            models.Index(fields=["person"], condition=Q(read_at__isnull=True), name="notification_unread"),
        ]
        constraints = [models.CheckConstraint(condition=~Q(text=""), name="notification_says_something")]

    def __str__(self) -> str:
        return f"to {self.person}: {self.text[:60]}"
