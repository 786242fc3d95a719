"""The audit log: read it, and take it away in a form that proves itself."""

import json
import re
from typing import Any

from django.apps import apps
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api import periods
from registry.api.views.base import Records, View
from registry.audit.export import FORMATS, open_export, stream_in_background
from registry.models import AuditEvent, Role
from registry.reads.visibility import events_visible_to

# A UUID, or the number of a person.
_AN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+", re.ASCII)


class ActorOut(serializers.Serializer):
    type = serializers.CharField(source="actor_type")
    name = serializers.CharField(source="actor_name")


class ObjectOut(serializers.Serializer):
    type = serializers.CharField(source="object_type")
    id = serializers.CharField(source="object_id")
    name = serializers.CharField(source="object_name")
    version = serializers.IntegerField(source="object_version")


class AuditEventOut(serializers.Serializer):
    seq = serializers.IntegerField()
    id = serializers.UUIDField(source="event_id")
    occurred_at = serializers.DateTimeField()
    action = serializers.CharField()
    actor = ActorOut(source="*")
    object = ObjectOut(source="*")
    tenant = serializers.CharField()
    environment = serializers.CharField()
    base_model_fingerprint = serializers.CharField()
    inference_configuration = serializers.SerializerMethodField()
    details = serializers.SerializerMethodField()
    digest = serializers.CharField()
    previous_digest = serializers.CharField()

    def get_inference_configuration(self, event: AuditEvent) -> str:
        return str(self._body(event)["inference_configuration"])

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_details(self, event: AuditEvent) -> dict[str, Any]:
        return dict(self._body(event)["details"])

    def _body(self, event: AuditEvent) -> Any:
        return json.loads(bytes(event.body))


class AuditEventsView(Records):
    """The log, newest first; with `from_seq` oldest first, from that number on.

    Numbers have no gaps and are given in the order in which changes are committed. So whoever asks again from the number after the
    last one seen misses nothing; by time alone two events of one moment are told apart by nobody.
    """

    roles = {"GET": [Role.AUDITOR]}
    limited = ("GET",)
    serializer_class = AuditEventOut
    queryset = AuditEvent.objects.order_by("-seq")
    filters = {"action": "action", "actor": "actor_name", "object": "object", "tenant": "tenant", "environment": "environment"}
    query = ("from_seq", *periods.PARAMETERS)

    @extend_schema(
        parameters=[
            OpenApiParameter(name, OpenApiTypes.STR, description=text)
            for name, text in (
                ("action", "such as revision.approved"),
                ("actor", "the name of a person, a node or a part of the system"),
                ("object", "a type such as tenantflag, else an id (a UUID or a number), else a name"),
                ("tenant", "a tenant's name"),
                ("environment", "an environment's name"),
                ("from_seq", "events from this number on, oldest first; to follow the log, ask from the last number seen plus one"),
                ("since", "events from this moment on, such as 2026-08-01T12:00:00Z"),
                ("until", "events before this moment"),
            )
        ]
    )
    def get(self, request: Request, *args: object, **kwargs: object) -> Response:
        return super().get(request, *args, **kwargs)

    def filter_queryset(self, queryset: Any) -> Any:
        queryset = events_visible_to(self.person, queryset)
        for name in self.filters:
            value = self.request.query_params.get(name)
            if value is not None and name == "object":
                queryset = queryset.filter(**{_column_of_object(value): value})
            elif value is not None:
                queryset = queryset.filter(**{self.filters[name]: value})
        from_seq = _read_seq(self.request)
        if from_seq is not None:
            queryset = queryset.filter(seq__gte=from_seq).order_by("seq")
        since, until = periods.read_period(self.request)
        if since is not None:
            queryset = queryset.filter(occurred_at__gte=since)
        return queryset if until is None else queryset.filter(occurred_at__lt=until)


def _read_seq(request: Request) -> int | None:
    text = request.query_params.get("from_seq")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and int(text) >= 1):
        raise serializers.ValidationError({"from_seq": ["want the number of an event, 1 or more"]})
    return int(text)


def _column_of_object(value: str) -> str:
    """A type, else an id, else a name, whichever the value can be: asking three columns at once reads a log of millions."""
    if value in {model._meta.model_name for model in apps.get_app_config("registry").get_models()}:
        return "object_type"
    return "object_id" if _AN_ID.fullmatch(value) else "object_name"


class AuditExportView(View):
    """Everything up to and including the event that records this export, as a stream that `steer verify` checks offline."""

    roles = {"GET": [Role.AUDITOR]}
    query = ("format",)

    @extend_schema(
        summary="Export the audit log",
        parameters=[OpenApiParameter("format", OpenApiTypes.STR, enum=list(FORMATS), description="jsonl unless given")],
        responses={(200, "application/jsonl"): OpenApiResponse(OpenApiTypes.STR), (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR)},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        name = request.query_params.get("format", "jsonl")
        if name not in FORMATS:
            raise serializers.ValidationError({"format": [f"want one of {', '.join(FORMATS)}"]})
        export = open_export(name, actor=self.person)
        # Under ASGI a plain iterator would be read whole before the first byte is sent.
        chunks = stream_in_background(export) if isinstance(request._request, ASGIRequest) else export.chunks()
        response = StreamingHttpResponse(chunks, content_type=FORMATS[name])
        response["Content-Disposition"] = f'attachment; filename="steerhub-audit-{export.to_seq}.{name}"'
        response["Cache-Control"] = "no-store"
        response["X-Content-Type-Options"] = "nosniff"
        return response
