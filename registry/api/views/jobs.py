"""Jobs: ask for an extraction or a validation, watch it, call it off."""

from uuid import UUID

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Text
from registry.api.references import find_base_model, find_contrast_set, find_job, find_suite, find_vector
from registry.api.views.base import Records, View, document
from registry.api.views.base_models import BaseModelRefOut
from registry.models import Job, JobKind, Role, Unit
from registry.services.jobs import request_cancel, request_extraction, request_validation

_RELATED = ("base_model", "contrast_set", "vector", "requested_by", "extracted_vector", "evaluation")


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
    vector = serializers.SerializerMethodField(help_text="name@version: the candidate of a validation, the result of an extraction")
    evaluation = serializers.SerializerMethodField(help_text="id of the result of a validation")
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

    def get_vector(self, job: Job) -> str | None:
        vector = job.vector if job.kind == JobKind.VALIDATION else getattr(job, "extracted_vector", None)
        return f"{vector.name}@{vector.version}" if vector else None

    def get_evaluation(self, job: Job) -> str | None:
        evaluation = getattr(job, "evaluation", None)
        return str(evaluation.pk) if evaluation else None


class JobsView(Records):
    """Every job, newest first."""

    serializer_class = JobOut
    queryset = Job.objects.select_related(*_RELATED).prefetch_related("suites").order_by("-requested_at")
    filters = {"kind": "kind", "state": "state", "requested_by": "requested_by__username"}


class ExtractionsView(View):
    """nothing -> queued."""

    roles = {"POST": [Role.AUTHOR]}

    class ExtractionBody(Body):
        base_model = Text(help_text="name or id")
        contrast_set = Text(help_text="name@version, name or id")
        suites = serializers.ListField(child=Text(), max_length=20, help_text="one behaviour, one factual and one safety suite at least")
        recipe = serializers.JSONField(help_text="vector, method, site, read_position, layers, alphas, unit, gates, seed, ...")

    @document("Ask for an extraction", body=ExtractionBody, answer=JobOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.ExtractionBody)
        if not isinstance(body["recipe"], dict):
            raise serializers.ValidationError({"recipe": ["want a JSON object"]})
        job = request_extraction(
            base_model=find_base_model(body["base_model"]),
            contrast_set=find_contrast_set(body["contrast_set"]),
            suites=[find_suite(reference) for reference in body["suites"]],
            recipe=body["recipe"],
            actor=request.user,
        )
        return Response(JobOut(find_job(job.pk)).data, status=201)


class ValidationsView(View):
    """nothing -> queued: opens the test split for this vector, once."""

    roles = {"POST": [Role.AUTHOR]}

    class ValidationBody(Body):
        vector = Text(help_text="name@version, name or id")
        suites = serializers.ListField(child=Text(), max_length=20)
        alpha = Alpha(required=False, help_text="left out: the α that the vector's search proposes")
        unit = serializers.ChoiceField(Unit.choices, required=False)

    @document("Ask for a validation", body=ValidationBody, answer=JobOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.ValidationBody)
        job = request_validation(
            vector=find_vector(body["vector"]),
            suites=[find_suite(reference) for reference in body["suites"]],
            alpha=body.get("alpha"),
            unit=body.get("unit", ""),
            actor=request.user,
        )
        return Response(JobOut(find_job(job.pk)).data, status=201)


class JobView(View):
    """One job: where it stands, and what it left."""

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
