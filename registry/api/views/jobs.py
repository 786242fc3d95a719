"""Jobs: ask for an extraction, a validation or a composition, watch it, call it off."""

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Spelled, Switch, Whole
from registry.api.references import find_base_model, find_contrast_set, find_job, find_prompt_set, find_suite, find_vector
from registry.api.views.base import Records, View, document, send_bytes
from registry.api.views.base_models import BaseModelRefOut
from registry.api.views.revisions import RevisionRefOut
from registry.blobs import get_blob
from registry.errors import BlobMissing, NotFound
from registry.models import Job, JobKind, Profile, Role, Unit, User
from registry.reads.lookups import get_profile, get_revision
from registry.services.compositions import request_composition
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import request_cancel
from registry.services.probes import request_probe
from steernode.canonical import parse_strict
from steernode.records.sweep import read_sweep

_RELATED = ("base_model", "contrast_set", "prompt_set", "vector", "revision__profile", "requested_by")
_LEFT = ("extracted_vector", "evaluation", "trained_probe")
_AGAIN = "though a job with the same recipe and inputs failed for what this one would meet again (JOB_FAILED_BEFORE)"
_DECODING = 'how replies are chosen: "greedy", or {"temperature", "top_p", "seeds"} with decimals as text'
_CHAIN = ("draft_for", "followed_by", "drafted_revision__profile")


class VectorRefOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    version = serializers.IntegerField()


class EvaluationRefOut(serializers.Serializer):
    id = serializers.UUIDField()
    digest = serializers.CharField()
    verdict = serializers.CharField(help_text="pass, fail or undecidable")
    passed = serializers.BooleanField()
    condition = serializers.JSONField(allow_null=True, help_text="where the vector acted; null is everywhere, or as the components say")
    system_message = serializers.CharField(help_text="what the model was served under")


class NoticeOut(serializers.Serializer):
    code = serializers.CharField()
    sentence = serializers.CharField()


class JobOut(serializers.Serializer):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    state = serializers.CharField()
    stage = serializers.CharField()
    progress_done = serializers.IntegerField(help_text="replies, texts and pairs of the whole job so far, in all attempts")
    progress_total = serializers.IntegerField(help_text="as many as are foreseen; 0 before that")
    seconds_left = serializers.IntegerField(
        allow_null=True, help_text="at the rates of the job's own steps; null while there is no estimate"
    )
    tokens_per_second = serializers.FloatField(allow_null=True, help_text="of the stage, written or read; null where none are counted")
    note = serializers.CharField()
    notices = NoticeOut(many=True, help_text="what to know of it: SCREEN_OFF, EXPECTED_COMMON, POWER, POWER_MISSING, SLOW_DTYPE")
    attempt = serializers.IntegerField()
    max_attempts = serializers.IntegerField()
    cancel_requested = serializers.SerializerMethodField()
    recipe = serializers.JSONField()
    base_model = BaseModelRefOut()
    contrast_set = serializers.SerializerMethodField(help_text="name@version")
    prompt_set = serializers.SerializerMethodField(help_text="name@version, of a probe")
    suites = serializers.SerializerMethodField(help_text="name@version of each")
    vector = VectorRefOut(allow_null=True, help_text="the candidate of a validation")
    revision = RevisionRefOut(allow_null=True, help_text="the draft of a composition")
    extracted_vector = VectorRefOut(default=None, allow_null=True, help_text="what an extraction left")
    evaluation = EvaluationRefOut(default=None, allow_null=True, help_text="what a validation or a composition left")
    trained_probe = VectorRefOut(default=None, allow_null=True, help_text="what a job that trains a probe left")
    profile = serializers.CharField(source="draft_for.name", default=None, allow_null=True, help_text="that the chain ends as a draft of")
    follows = serializers.UUIDField(source="follows_id", allow_null=True, help_text="the job whose completion queued this one")
    followed_by = serializers.UUIDField(source="followed_by.pk", default=None, allow_null=True, help_text="the job that this one queued")
    drafted_revision = RevisionRefOut(default=None, allow_null=True, help_text="the draft that the chain ended as")
    device = serializers.CharField(help_text="where the last attempt ran the model, and in which dtype")
    peak_memory_bytes = serializers.IntegerField(allow_null=True)
    result_digest = serializers.CharField()
    sweep_digest = serializers.CharField(help_text="of the search that was measured though no cell passes; empty for any other job")
    heatmap_digest = serializers.CharField(help_text="of its picture")
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

    def get_prompt_set(self, job: Job) -> str | None:
        return f"{job.prompt_set.name}@{job.prompt_set.version}" if job.prompt_set else None

    def get_suites(self, job: Job) -> list[str]:
        return sorted(f"{suite.name}@{suite.version}" for suite in job.suites.all())


class OneJobOut(JobOut):
    search = serializers.SerializerMethodField(help_text="of a search in which no cell passes: nearest, the cells with replies, replies")

    def get_search(self, job: Job) -> dict[str, Any] | None:
        """As much of it as decides what to change next; all of it is the document of `sweep_digest`."""
        if not job.sweep_digest:
            return None
        try:
            sweep = read_sweep(parse_strict(get_blob(job.sweep_digest)))
        except BlobMissing as error:
            return {"problem": f"{error.message} ({error.code})"}
        return {
            "nearest": sweep.document.get("nearest"),
            "cells": [cell.document for cell in sweep.final_cells],
            "replies": sweep.document.get("replies", []),
        }


class ExtractionBody(Body):
    kind = serializers.ChoiceField([JobKind.EXTRACTION.value])
    base_model = Spelled(help_text="name or id")
    contrast_set = Spelled(help_text="name@version, name or id")
    suites = serializers.ListField(child=Spelled(), max_length=20, help_text="one behaviour, one factual and one safety suite at least")
    recipe = serializers.JSONField(help_text="vector, layers, alphas, unit, gates, template_arguments, system_message, condition, ...")
    profile = Spelled(max_length=100, required=False, help_text="go on to a validation, and to a draft revision of this profile")
    again = Switch(default=False, help_text=_AGAIN)

    def validate_recipe(self, recipe: Any) -> dict[str, Any]:
        if not isinstance(recipe, dict):
            raise serializers.ValidationError("want a JSON object")
        return recipe


class ValidationBody(Body):
    kind = serializers.ChoiceField([JobKind.VALIDATION.value])
    vector = Spelled(help_text="name@version, name or id")
    suites = serializers.ListField(child=Spelled(), max_length=20)
    alpha = Alpha(required=False, help_text="left out: the α that the vector's search proposes")
    unit = serializers.ChoiceField(Unit.values, required=False)
    decoding = serializers.JSONField(required=False, help_text=_DECODING + "; left out: as the vector's recipe says")
    gates = serializers.JSONField(
        required=False, help_text="name of a gate set, name@version, or a list of gates; left out: those of the vector's recipe, or default"
    )
    profile = Spelled(max_length=100, required=False, help_text="if it passes, draft a revision of this profile")
    again = Switch(default=False, help_text=_AGAIN)


class CompositionBody(Body):
    kind = serializers.ChoiceField([JobKind.COMPOSITION.value])
    profile = Spelled(max_length=100)
    revision = Whole(min_value=1, max_value=2**31 - 1, help_text="number of a draft with 2 to 8 components")
    suites = serializers.ListField(child=Spelled(), max_length=20)
    decoding = serializers.JSONField(required=False, help_text=_DECODING + "; left out: as the vectors were validated")
    again = Switch(default=False, help_text=_AGAIN)


class ProbeBody(Body):
    kind = serializers.ChoiceField([JobKind.PROBE.value])
    base_model = Spelled(help_text="name or id")
    prompt_set = Spelled(help_text="name@version, name or id")
    recipe = serializers.DictField(
        help_text="probe, intent, layers or below (the first steered layer), site, read_position, target_false_positive_rate, ..."
    )
    again = Switch(default=False, help_text=_AGAIN)


_BODIES = [ExtractionBody, ValidationBody, CompositionBody, ProbeBody]


class JobsView(Records):
    """Every job, newest first. Asking for one queues it: nothing -> queued."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR]}
    serializer_class = JobOut
    queryset = Job.objects.select_related(*_RELATED, *_LEFT, *_CHAIN).prefetch_related("suites").order_by("-requested_at")
    filters = {"kind": "kind", "state": "state", "requested_by": "requested_by__username"}

    @document(
        "Ask for an extraction; for a validation, which opens the test split of its suites; for a composition, which opens it, once,"
        " for all components of a draft together; or for a probe, from labelled prompts",
        body=PolymorphicProxySerializer("NewJob", _BODIES, resource_type_field_name=None),
        answer=JobOut,
        status=201,
        refuses=[404, 409, 422],
    )
    def post(self, request: Request) -> Response:
        kind = request.data.get("kind") if isinstance(request.data, dict) else None
        if kind == JobKind.VALIDATION:
            job = _ask_for_validation(self.read_body(ValidationBody), self.person)
        elif kind == JobKind.COMPOSITION:
            job = _ask_for_composition(self.read_body(CompositionBody), self.person)
        elif kind == JobKind.PROBE:
            job = _ask_for_probe(self.read_body(ProbeBody), self.person)
        else:
            job = _ask_for_extraction(self.read_body(ExtractionBody), self.person)
        return Response(JobOut(find_job(job.pk)).data, status=201)


def _ask_for_extraction(body: dict[str, Any], actor: User) -> Job:
    return request_extraction(
        base_model=find_base_model(body["base_model"]),
        contrast_set=find_contrast_set(body["contrast_set"]),
        suites=[find_suite(reference) for reference in body["suites"]],
        recipe=body["recipe"],
        draft_for=_find_profile(body),
        actor=actor,
        again=body["again"],
    )


def _ask_for_validation(body: dict[str, Any], actor: User) -> Job:
    return request_validation(
        vector=find_vector(body["vector"]),
        suites=[find_suite(reference) for reference in body["suites"]],
        alpha=body.get("alpha"),
        unit=body.get("unit", ""),
        decoding=body.get("decoding"),
        gates=body.get("gates"),
        draft_for=_find_profile(body),
        actor=actor,
        again=body["again"],
    )


def _ask_for_probe(body: dict[str, Any], actor: User) -> Job:
    return request_probe(
        base_model=find_base_model(body["base_model"]),
        prompt_set=find_prompt_set(body["prompt_set"]),
        recipe=body["recipe"],
        actor=actor,
        again=body["again"],
    )


def _find_profile(body: dict[str, Any]) -> Profile | None:
    return get_profile(body["profile"]) if "profile" in body else None


def _ask_for_composition(body: dict[str, Any], actor: User) -> Job:
    return request_composition(
        revision=get_revision(body["profile"], body["revision"]),
        suites=[find_suite(reference) for reference in body["suites"]],
        decoding=body.get("decoding"),
        actor=actor,
        again=body["again"],
    )


class JobView(View):
    """One job: where it stands, and what it left."""

    limited = ("GET",)

    @document("One job", answer=OneJobOut, refuses=[404])
    def get(self, request: Request, job_id: UUID) -> Response:
        return Response(OneJobOut(find_job(job_id)).data)


class JobSweepView(View):
    """What a search measured in which no cell passes, as the document that was stored."""

    limited = ("GET",)

    @extend_schema(summary="The search of a failed job", responses={(200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT)})
    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        return send_bytes(_read_kept(find_job(job_id), "sweep_digest", "search"), "application/json")


class JobHeatmapView(View):
    """Its picture."""

    limited = ("GET",)

    @extend_schema(summary="The heat map of a failed job", responses={(200, "image/png"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, job_id: UUID) -> HttpResponse:
        return send_bytes(_read_kept(find_job(job_id), "heatmap_digest", "heat map"), "image/png")


def _read_kept(job: Job, field: str, noun: str) -> bytes:
    digest: str = getattr(job, field)
    if not digest:
        raise NotFound("NO_SWEEP", f"{job} keeps no {noun}; only a search in which no cell passes does", str(job.pk))
    return get_blob(digest)


class CancelJobView(View):
    """queued -> cancelled at once; running -> cancelled when its worker notices."""

    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}

    class NothingBody(Body):
        """No fields."""

    @document("Call a job off", body=NothingBody, answer=JobOut, refuses=[404, 409])
    def post(self, request: Request, job_id: UUID) -> Response:
        self.read_body(self.NothingBody)
        request_cancel(job_id, actor=self.person)
        return Response(JobOut(find_job(job_id)).data)
