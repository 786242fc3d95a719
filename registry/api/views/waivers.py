"""Waivers of gates on which nothing can be concluded: asked for by one approver, confirmed by another, and neither made what was judged."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Spelled, Text, Whole
from registry.api.references import find_evaluation, find_waiver
from registry.api.views.base import Records, View, document
from registry.models import Evaluation, Role, Waiver
from registry.services.waivers import ask_waiver, confirm_waiver, state_of, withdraw_waiver

_WAIVERS = Waiver.objects.select_related("evaluation", "asked_by", "confirmed_by", "withdrawn_by")


class WaiverOut(serializers.Serializer):
    id = serializers.UUIDField()
    evaluation = serializers.UUIDField(source="evaluation_id")
    evidence_digest = serializers.CharField(source="evaluation.digest")
    metric = serializers.CharField()
    kind = serializers.CharField()
    threshold = serializers.CharField()
    state = serializers.SerializerMethodField(help_text="asked, in force, ended or withdrawn")
    reason = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by.username")
    asked_at = serializers.DateTimeField()
    confirmed_by = serializers.CharField(source="confirmed_by.username", default=None, allow_null=True)
    confirmed_at = serializers.DateTimeField(allow_null=True)
    ends_at = serializers.DateTimeField(help_text="what rests on it is then due for review, and steers no more")
    withdrawn_by = serializers.CharField(source="withdrawn_by.username", default=None, allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    withdrawn_reason = serializers.CharField()

    def get_state(self, waiver: Waiver) -> str:
        return state_of(waiver)


def list_waivers(evaluations: Iterable[Evaluation]) -> QuerySet[Waiver]:
    return _WAIVERS.filter(evaluation__in=evaluations).order_by("asked_at")


class WaiversView(Records):
    """Every waiver, newest first, whatever became of it."""

    serializer_class = WaiverOut
    queryset = _WAIVERS.order_by("-asked_at", "id")
    filters = {"evidence_digest": "evaluation__digest", "metric": "metric", "asked_by": "asked_by__username"}


class WaiverView(View):
    """One waiver."""

    @document("One waiver", answer=WaiverOut, refuses=[404])
    def get(self, request: Request, waiver_id: UUID) -> Response:
        return Response(WaiverOut(find_waiver(waiver_id)).data)


class AskWaiverView(View):
    """nothing -> asked. It counts for nothing until somebody else confirms it."""

    roles = {"POST": [Role.APPROVER]}

    class AskWaiverBody(Body):
        metric = Spelled(max_length=100, help_text="of a gate that is undecidable in this evidence")
        kind = Spelled(max_length=100, required=False, help_text="where several gates are about the metric")
        threshold = Spelled(max_length=62, required=False)
        reason = Text(max_length=2000)
        days = Whole(required=False, help_text="until it ends; it has to")

    @document("Ask that an undecidable gate may stand", body=AskWaiverBody, answer=WaiverOut, status=201, refuses=[404, 409, 422])
    def post(self, request: Request, evaluation_id: UUID) -> Response:
        body = self.read_body(self.AskWaiverBody)
        evaluation = find_evaluation(evaluation_id)
        waiver = ask_waiver(evaluation.pk, actor=self.person, **{"days": None, **body})
        return Response(WaiverOut(find_waiver(waiver.pk)).data, status=201)


class ConfirmWaiverView(View):
    """asked -> in force, by a second person."""

    roles = {"POST": [Role.APPROVER]}

    class NoFieldsBody(Body):
        """No fields."""

    @document("Confirm a waiver", body=NoFieldsBody, answer=WaiverOut, refuses=[404, 409])
    def post(self, request: Request, waiver_id: UUID) -> Response:
        self.read_body(self.NoFieldsBody)
        confirm_waiver(waiver_id, actor=self.person)
        return Response(WaiverOut(find_waiver(waiver_id)).data)


class WithdrawWaiverView(View):
    """asked or in force -> withdrawn. Reduces steering, so one person does it: what was approved with it is invalidated."""

    roles = {"POST": [Role.APPROVER, Role.OPERATOR]}

    class WithdrawWaiverBody(Body):
        reason = Text(max_length=2000)

    @document("Withdraw a waiver", body=WithdrawWaiverBody, answer=WaiverOut, refuses=[404, 409, 422])
    def post(self, request: Request, waiver_id: UUID) -> Response:
        body = self.read_body(self.WithdrawWaiverBody)
        withdraw_waiver(waiver_id, actor=self.person, **body)
        return Response(WaiverOut(find_waiver(waiver_id)).data)
