"""Prompt sets and probes: labelled prompts are uploaded and sealed, a job makes a probe of them."""

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Digest, Name
from registry.api.references import find_probe, find_prompt_set
from registry.api.views.base import Records, View, document, send_bytes
from registry.api.views.base_models import BaseModelRefOut
from registry.blobs import get_blob
from registry.models import Probe, PromptSet, Role
from registry.services.prompts import seal_prompt_set


class PromptSetOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    digest = serializers.CharField()
    prompt_count = serializers.IntegerField()
    intents = serializers.ListField(child=serializers.CharField(), help_text="none where the labels are true and false")
    counts = serializers.JSONField(help_text="by split, how many prompts have each label")
    locales = serializers.ListField(child=serializers.CharField())
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()


class ProbeOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    base_model = BaseModelRefOut()
    prompt_set = serializers.SerializerMethodField(help_text="name@version")
    job = serializers.UUIDField(source="job_id")
    intent = serializers.CharField(help_text="which prompts it fires on; empty where the labels are true and false")
    layer = serializers.IntegerField()
    site = serializers.CharField()
    digest = serializers.CharField(help_text="of its vector file")
    document_digest = serializers.CharField()
    roc_digest = serializers.CharField()
    template_arguments = serializers.JSONField(help_text="what the chat template was given beside the messages, by name")
    condition = serializers.JSONField(help_text="when it fires, as snapshots carry it")
    held_out = serializers.JSONField(help_text="of the test split: auc, true_positive_rate, false_positive_rate, by_locale, by_kind")
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()

    def get_prompt_set(self, probe: Probe) -> str:
        return f"{probe.prompt_set.name}@{probe.prompt_set.version}"


class PromptSetsView(Records):
    """Every sealed version of every prompt set."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = PromptSetOut
    queryset = PromptSet.objects.select_related("author").order_by("name", "-version")
    filters = {"name": "name", "digest": "digest"}

    class NewPromptSetBody(Body):
        name = Name()
        digest = Digest(help_text="of the uploaded JSONL")

    @document("Seal a prompt set", body=NewPromptSetBody, answer=PromptSetOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewPromptSetBody)
        prompt_set = seal_prompt_set(body["name"], data=get_blob(body["digest"]), author=self.person)
        return Response(PromptSetOut(prompt_set).data, status=201)


class PromptSetView(View):
    """One sealed version."""

    limited = ("GET",)

    @document("One prompt set", answer=PromptSetOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(PromptSetOut(find_prompt_set(f"{name}@{version}")).data)


class ProbesView(Records):
    """Every sealed version of every probe. A job makes one: `POST /jobs` with the kind probe."""

    limited = ("GET",)
    serializer_class = ProbeOut
    queryset = Probe.objects.select_related("base_model", "prompt_set", "author").order_by("name", "-version")
    filters = {"name": "name", "digest": "digest", "base_model": "base_model__name"}


class ProbeView(View):
    """One sealed version with what the test split says of it."""

    limited = ("GET",)

    @document("One probe", answer=ProbeOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(ProbeOut(find_probe(f"{name}@{version}")).data)


class _ProbeFileView(View):
    limited = ("GET",)

    def send(self, name: str, version: int, field: str, content_type: str, **options: Any) -> HttpResponse:
        return send_bytes(get_blob(getattr(find_probe(f"{name}@{version}"), field)), content_type, **options)


class ProbeDocumentView(_ProbeFileView):
    """All that was measured, as the document that was stored."""

    @extend_schema(summary="The document of a probe", responses={(200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        return self.send(name, version, "document_digest", "application/json")


class ProbeVectorView(_ProbeFileView):
    """The file that nodes load, byte for byte."""

    @extend_schema(
        summary="The vector file of a probe", responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)}
    )
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        return self.send(name, version, "digest", "application/octet-stream", filename=f"{name}-{version}.safetensors")


class ProbeRocView(_ProbeFileView):
    """The picture of its ROC curve on the test split."""

    @extend_schema(summary="The ROC curve of a probe", responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        return self.send(name, version, "roc_digest", "image/png")
