"""Jobs: ask for an extraction or a validation, watch it, call it off."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import PolymorphicProxySerializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Text
from registry.api.references import find_base_model, find_contrast_set, find_job, find_suite, find_vector
from registry.api.views.base import Records, View, document
from registry.api.views.base_models import BaseModelRefOut
from registry.models import Job, JobKind, Role, Unit, User
from registry.services.jobs import request_cancel, request_extraction, request_validation

_RELATED = ("base_model", "contrast_set", "vector", "requested_by", "extracted_vector", "evaluation")


class VectorRefOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()


class EvaluationRefOut(serializers.Serializer):
    id = serializers.UUIDField()
    digest = serializers.CharField()
    passed = serializers.BooleanField()


class JobOut(serializers.Serializer):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    state = serializers.CharField()
    stage = serializers.CharField()
    progress_done = serializers.IntegerField()
    progress_total = serializers.IntegerField()
    note = serializers.CharField()
    attempt = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    cancel_requested = serializers.SerializerMethodField()
    recipe = serializers.JSONField()
    base_model = BaseModelRefOut()
    contrast_set = serializers.SerializerMethodField(help_text="name@version")
    suites = serializers.SerializerMethodField(help_text="name@version of each")
    vector = VectorRefOut(allow_null=True, help_text="the candidate of a validation")
    extracted_vector = VectorRefOut(default=None, allow_null=True, help_text="what an extraction left")
    evaluation = EvaluationRefOut(default=None, allow_null=True, help_text="what a validation left")
    result_digest = serializers.CharField()
    error_code = serializers.CharField()
    error_message = serializers.CharField()
    requested_by = serializers.CharField(source="requested_by.username")
    requested_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_cancel_requested(self, job: Job) -> bool:
        return job.cancel_requested_at is not None

    def get_contrast_set(self, job: Job) -> str | None:
        return f"{job.contrast_set.name}@{job.contrast_set.version}" if job.contrast_set else None

    def get_suites(self, job: Job) -> list[str]:
        return sorted(f"{suite.name}@{suite.version}" for suite in job.suites.all())


class ExtractionBody(Body):
    kind = serializers.ChoiceField([JobKind.EXTRACTION.value])
    base_model = Text(help_text="name or id")
    contrast_set = Text(help_text="name@version, name or id")
    suites = serializers.ListField(child=Text(), max_length=20, help_text="one behaviour, one factual and one safety suite at least")
    recipe = serializers.JSONField(help_text="vector, method, site, read_position, layers, alphas, unit, gates, seed, ...")

    def validate_recipe(self, recipe: Any) -> dict[str, Any]:
        if not isinstance(recipe, dict):
            raise serializers.ValidationError("want a JSON object")
        return recipe


class ValidationBody(Body):
    kind = serializers.ChoiceField([JobKind.VALIDATION.value])
    vector = Text(help_text="name@version, name or id")
    suites = serializers.ListField(child=Text(), max_length=20)
    alpha = Alpha(required=False, help_text="left out: the α that the vector's search proposes")
    unit = serializers.ChoiceField(Unit.choices, required=False)


class JobsView(Records):
    """Every job, newest first. Asking for one queues it: nothing -> queued."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = JobOut
    queryset = Job.objects.select_related(*_RELATED).prefetch_related("suites").order_by("-requested_at")
    filters = {"kind": "kind", "state": "state", "requested_by": "requested_by__username"}

    @document(
        "Ask for an extraction, or for a validation: that opens the vector's test split, once",
        body=PolymorphicProxySerializer("NewJob", [ExtractionBody, ValidationBody], resource_type_field_name=None),
        answer=JobOut,
        status=201,
        refuses=[404, 409, 422],
    )
    def post(self, request: Request) -> Response:
        is_validation = isinstance(request.data, dict) and request.data.get("kind") == JobKind.VALIDATION
        if is_validation:
            job = _ask_for_validation(self.read_body(ValidationBody), request.user)
        else:
            job = _ask_for_extraction(self.read_body(ExtractionBody), request.user)
        return Response(JobOut(find_job(job.pk)).data, status=201)


def _ask_for_extraction(body: dict[str, Any], actor: User) -> Job:
    return request_extraction(
        base_model=find_base_model(body["base_model"]),
        contrast_set=find_contrast_set(body["contrast_set"]),
        suites=[find_suite(reference) for reference in body["suites"]],
        recipe=body["recipe"],
        actor=actor,
    )


def _ask_for_validation(body: dict[str, Any], actor: User) -> Job:
    return request_validation(
        vector=find_vector(body["vector"]),
        suites=[find_suite(reference) for reference in body["suites"]],
        alpha=body.get("alpha"),
        unit=body.get("unit", ""),
        actor=actor,
    )


class JobView(View):
    """One job: where it stands, and what it left."""

    limited = ("GET",)

    @document("One job", answer=JobOut, refuses=[404])
    def get(self, request: Request, job_id: UUID) -> Response:
        return Response(JobOut(find_job(job_id)).data)


class CancelJobView(View):
    """queued -> cancelled at once; running -> cancelled when its worker notices."""

    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}

    class NothingBody(Body):
        """No fields."""

    @document("Call a job off", body=NothingBody, answer=JobOut, refuses=[404, 409])
    def post(self, request: Request, job_id: UUID) -> Response:
        self.read_body(self.NothingBody)
        request_cancel(job_id, actor=request.user)
        return Response(JobOut(find_job(job_id)).data)
