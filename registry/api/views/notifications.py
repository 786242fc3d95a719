"""Notifications: what the hub tells the caller about what is theirs."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body
from registry.api.views.base import Records, View, document
from registry.models import Notification, Role
from registry.services.notifications import notifications_of, read_notifications


class AboutOut(serializers.Serializer):
    """The record that a notification is about."""

    type = serializers.CharField(source="object_type")
    id = serializers.CharField(source="object_id")
    name = serializers.CharField(source="object_name")


class NotificationOut(serializers.Serializer):
    id = serializers.UUIDField()
    text = serializers.CharField()
    about = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(AboutOut)
    def get_about(self, notification: Notification) -> dict[str, Any]:
        return AboutOut(notification).data


class NotificationsView(Records):
    """The caller's own notifications, newest first. Nobody else's, whatever their role."""

    limited = ("GET",)
    serializer_class = NotificationOut
    queryset = Notification.objects.all()
    filters = {"about": "object_type"}
    query = ("unread",)

    def get_queryset(self) -> QuerySet[Notification]:
        own = notifications_of(self.person).order_by("-created_at", "pk")
        wanted = self.request.query_params.get("unread", "false")
        if wanted not in ("true", "false"):
            raise serializers.ValidationError({"unread": ["want true or false"]})
        return own.filter(read_at__isnull=True) if wanted == "true" else own


class ReadNotificationsView(View):
    """unread -> read."""

    roles = {"POST": list(Role.values)}
    limited = ("POST",)

    class ReadBody(Body):
        ids = serializers.ListField(child=serializers.UUIDField(), max_length=1000, required=False, help_text="left out: all of them")

    class ReadOut(serializers.Serializer):
        read = serializers.IntegerField(help_text="how many were unread until now")

    @document("Mark notifications as read", body=ReadBody, answer=ReadOut, refuses=[404])
    def post(self, request: Request) -> Response:
        read = read_notifications(reader=self.person, ids=self.read_body(self.ReadBody).get("ids"))
        return Response(self.ReadOut({"read": read}).data)
