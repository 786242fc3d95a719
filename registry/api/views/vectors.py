"""Steering vectors: where each came from, its file, and the search that chose it."""

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Digest, Measure, Name
from registry.api.references import find_vector
from registry.api.views.base import Records, View, document, send_bytes
from registry.api.views.base_models import BaseModelRefOut
from registry.blobs import get_blob
from registry.errors import NotFound
from registry.models import Role, SteeringVector, VectorComparison
from registry.services.comparisons import alpha_in_residual
from registry.services.vectors import import_vector
from steernode.canonical import format_decimal


class ReplacedOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    layer = serializers.IntegerField()
    alpha_residual = serializers.SerializerMethodField(help_text="its proposed α as a fraction of the mean residual norm")

    def get_alpha_residual(self, vector: SteeringVector) -> str | None:
        return _write_alpha(vector)


class ComparisonOut(serializers.Serializer):
    """How a version differs from the one it replaces."""

    replaced = ReplacedOut()
    cosine = Measure(allow_null=True, help_text="between the two directions; low is expected where the weights changed")
    cosine_missing = serializers.CharField(help_text="why there is none")
    alpha_residual = serializers.SerializerMethodField(help_text="this version's proposed α in the same unit")
    evidence = serializers.JSONField(allow_null=True, help_text='of the steered replies: {"facts": {"replaced", "vector", "difference"}}')
    evidence_missing = serializers.CharField(help_text="why there is none")

    def get_alpha_residual(self, comparison: VectorComparison) -> str | None:
        return _write_alpha(comparison.vector)


def _write_alpha(vector: SteeringVector) -> str | None:
    alpha = alpha_in_residual(vector)
    return None if alpha is None else format_decimal(alpha)


class VectorOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    base_model = BaseModelRefOut()
    contrast_set = serializers.SerializerMethodField(help_text="name@version; null if the file names a set that is not on record")
    job = serializers.UUIDField(source="job_id", allow_null=True)
    is_lineage_claimed = serializers.BooleanField(help_text="it was imported: what it was read from, and how, is what its file says")
    digest = serializers.CharField()
    size_bytes = serializers.IntegerField()
    dtype = serializers.CharField()
    d_model = serializers.IntegerField()
    layer = serializers.IntegerField()
    site = serializers.CharField()
    method = serializers.CharField()
    read_position = serializers.CharField()
    template_arguments = serializers.JSONField(help_text="what the chat template was given beside the messages, by name")
    norm = Measure()
    mean_residual_norm = Measure()
    proposed_alpha = Alpha(allow_null=True)
    proposed_unit = serializers.CharField()
    sweep_digest = serializers.CharField()
    heatmap_digest = serializers.CharField()
    trace_map_digest = serializers.CharField()
    evaluation = serializers.SerializerMethodField(help_text="id of the last evaluation of it; null before there is one")
    comparison = ComparisonOut(default=None, allow_null=True, help_text="with the version it replaces")
    author = serializers.CharField(source="author.username")
    sealed_at = serializers.DateTimeField()

    def get_contrast_set(self, vector: SteeringVector) -> str | None:
        return f"{vector.contrast_set.name}@{vector.contrast_set.version}" if vector.contrast_set else None

    def get_evaluation(self, vector: SteeringVector) -> str | None:
        evaluation = next(iter(vector.evaluations.all()), None)
        return str(evaluation.pk) if evaluation else None


class VectorsView(Records):
    """Every sealed version of every vector."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = VectorOut
    queryset = (
        SteeringVector.objects.select_related("base_model", "contrast_set", "author", "comparison__replaced")
        .prefetch_related("evaluations")
        .order_by("name", "-version")
    )
    filters = {"name": "name", "digest": "digest", "base_model": "base_model__name"}

    class ImportBody(Body):
        name = Name()
        digest = Digest(help_text="of the uploaded vector file")

    @document("Import a vector file", body=ImportBody, answer=VectorOut, status=201, refuses=[404, 409, 413, 415, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.ImportBody)
        vector = import_vector(body["name"], data=get_blob(body["digest"]), author=self.person)
        return Response(VectorOut(vector).data, status=201)


class VectorView(View):
    """One sealed version with its lineage."""

    limited = ("GET",)

    @document("One vector", answer=VectorOut, refuses=[404])
    def get(self, request: Request, name: str, version: int) -> Response:
        return Response(VectorOut(find_vector(f"{name}@{version}")).data)


class VectorFileView(View):
    """The file that nodes load, byte for byte."""

    limited = ("GET",)

    @extend_schema(summary="The vector file", responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        vector = find_vector(f"{name}@{version}")
        return send_bytes(get_blob(vector.digest), "application/octet-stream", filename=f"{name}-{version}.safetensors")


class SweepView(View):
    """The search on the select split, as the document that was stored."""

    limited = ("GET",)

    @extend_schema(summary="The layer sweep and α search", responses={(200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        vector = find_vector(f"{name}@{version}")
        return send_bytes(_read_artifact(vector, vector.sweep_digest, "sweep"), "application/json")


class HeatmapView(View):
    """The picture of the sweep."""

    limited = ("GET",)

    @extend_schema(summary="The heat map of the sweep", responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        vector = find_vector(f"{name}@{version}")
        return send_bytes(_read_artifact(vector, vector.heatmap_digest, "heat map"), "image/png")


class TraceMapView(View):
    """The picture of the causal trace."""

    limited = ("GET",)

    @extend_schema(summary="The heat map of the causal trace", responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, name: str, version: int) -> HttpResponse:
        vector = find_vector(f"{name}@{version}")
        return send_bytes(_read_artifact(vector, vector.trace_map_digest, "causal trace"), "image/png")


def _read_artifact(vector: SteeringVector, digest: str, noun: str) -> bytes:
    if not digest:
        raise NotFound("NO_SWEEP", f"{vector} has no {noun}: it was imported, or its search made none", str(vector))
    return get_blob(digest)
