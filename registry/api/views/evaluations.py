"""Evaluations: the evidence that an approval names."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha
from registry.api.references import find_evaluation
from registry.api.views.base import Records, View, document, send_bytes
from registry.api.views.revisions import RevisionRefOut
from registry.blobs import get_blob
from registry.models import Evaluation
from registry.reads.openings import count_looks
from registry.reads.probes import describe_probe, probes_judged_with

LOOKS = "by kind of suite: openings of any such suite for this axis and base model, up to now"


class LookOut(serializers.Serializer):
    """One look at test items, and what became of it."""

    id = serializers.UUIDField()
    vector = serializers.SerializerMethodField(help_text="name@version; null where all components of a revision were judged together")
    revision = RevisionRefOut(allow_null=True, help_text="the draft that was judged as a whole; null for a vector")
    alpha = Alpha(allow_null=True)
    unit = serializers.CharField(help_text="of α; empty where each component has its own")
    condition = serializers.JSONField(
        allow_null=True, help_text="where the vector acted, as snapshots carry it; null is everywhere, or as the components say"
    )
    system_message = serializers.CharField(help_text="what the model was served under; empty where there was nothing")
    digest = serializers.CharField(help_text="of the evidence document; an approval names it")
    verdict = serializers.CharField(help_text="pass, fail or undecidable: nothing failed, and nothing can be concluded on some gate")
    evaluated_at = serializers.DateTimeField()

    def get_vector(self, evaluation: Evaluation) -> str | None:
        return f"{evaluation.vector.name}@{evaluation.vector.version}" if evaluation.vector else None


class EvaluationOut(LookOut):
    components_digest = serializers.CharField(help_text="which components were judged together; empty for a vector")
    job = serializers.UUIDField(source="job_id")
    metrics = serializers.JSONField()
    gates = serializers.JSONField()
    passed = serializers.BooleanField()


class OneEvaluationOut(EvaluationOut):
    looks = serializers.SerializerMethodField(help_text=LOOKS)
    probes = serializers.SerializerMethodField(
        help_text="that decided which items the candidate acted on: name, version, document with the ROC, what the test split says"
    )

    def get_looks(self, evaluation: Evaluation) -> dict[str, int]:
        return dict(count_looks(evaluation))

    def get_probes(self, evaluation: Evaluation) -> list[dict[str, Any]]:
        return [describe_probe(probe) for probe in probes_judged_with(evaluation)]


class EvaluationsView(Records):
    """Every evaluation, newest first."""

    limited = ("GET",)
    serializer_class = EvaluationOut
    queryset = Evaluation.objects.select_related("vector", "revision__profile").order_by("-evaluated_at")
    filters = {"vector": "vector__name", "digest": "digest"}


class EvaluationView(View):
    """One evaluation, with how often test items of its axis were looked at, and the probes that decided where it acted."""

    limited = ("GET",)

    @document("One evaluation", answer=OneEvaluationOut, refuses=[404])
    def get(self, request: Request, evaluation_id: UUID) -> Response:
        return Response(OneEvaluationOut(find_evaluation(evaluation_id)).data)


class EvidenceView(View):
    """The whole evidence document, byte for byte what its digest covers."""

    limited = ("GET",)

    @extend_schema(summary="The evidence document", responses={(200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT)})
    def get(self, request: Request, evaluation_id: UUID) -> HttpResponse:
        return send_bytes(get_blob(find_evaluation(evaluation_id).digest), "application/json")
