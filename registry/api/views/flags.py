"""Tenant flags: what a tenant is steered by in one environment, how much of it, and which callers."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Alpha, Body, Name, Spelled, Switch, Text, Whole
from registry.api.idempotency import bytes_of
from registry.api.preconditions import read_if_match, tagged
from registry.api.references import find_tenant
from registry.api.views.base import Records, View, document
from registry.api.views.plans import CONFIRM, ChangePlanOut
from registry.audit.history import events_of, read_changes
from registry.errors import NotFound
from registry.manifests.kinds.raising import change_flag, plan_flag
from registry.models import AuditEvent, FlagField, Role, TenantFlag
from registry.reads.documents import tag_flag
from registry.reads.lookups import get_environment, get_revision
from registry.services.flags import ArmSpec
from steernode.snapshot.records import AlphaBounds
from steernode.spelling import spell
from steernode.words import MAX_ARM_WEIGHT, MAX_ARMS


class ArmOut(serializers.Serializer):
    name = serializers.CharField()
    weight = serializers.IntegerField()
    profile = serializers.CharField(source="revision.profile.name", default=None, allow_null=True, help_text="null: the flag's")
    revision = serializers.IntegerField(source="revision.number", default=None, allow_null=True)
    alpha_scale = Alpha(allow_null=True, help_text="null: the flag's")


class OverrideOut(serializers.Serializer):
    alpha_min = Alpha()
    alpha_max = Alpha()


class FlagOut(serializers.Serializer):
    """What a flag states. What it inherits from the tenant's flag is null here."""

    id = serializers.UUIDField()
    environment = serializers.CharField(source="environment.name")
    tenant = serializers.CharField(source="tenant.name")
    route = serializers.CharField(help_text="empty: every route without a flag of its own")
    enabled = serializers.BooleanField()
    inherits = serializers.ListField(child=serializers.CharField(), help_text="fields taken from the tenant's flag")
    profile = serializers.CharField(source="revision.profile.name", default=None, allow_null=True)
    revision = serializers.IntegerField(source="revision.number", default=None, allow_null=True)
    revision_state = serializers.CharField(source="revision.state", default=None, allow_null=True)
    alpha_scale = Alpha(allow_null=True)
    rollout = Alpha(allow_null=True, help_text="the share of callers in percent")
    rollout_salt = serializers.CharField(help_text="which callers the share covers; empty for all, or from before there were salts")
    arms = ArmOut(many=True)
    arms_salt = serializers.CharField(help_text="which arm each caller is in; empty without arms, or from before there were salts")
    override = serializers.SerializerMethodField(help_text="what a request may ask for as its α; null for nothing")
    reason = serializers.CharField()
    changed_by = serializers.CharField(source="changed_by.username")
    changed_at = serializers.DateTimeField()
    version = serializers.IntegerField()

    @extend_schema_field(OverrideOut(allow_null=True))
    def get_override(self, flag: TenantFlag) -> dict[str, str] | None:
        if flag.override_min is None:
            return None
        return OverrideOut({"alpha_min": flag.override_min, "alpha_max": flag.override_max}).data


FLAGS = (
    TenantFlag.objects.select_related("environment", "tenant", "revision__profile", "changed_by")
    .prefetch_related("arms__revision__profile")
    .order_by("tenant__name", "route")
)


class FlagsView(Records):
    """The flags of one environment. A tenant without one is not steered."""

    limited = ("GET",)
    tenant = "tenant"
    serializer_class = FlagOut
    queryset = FLAGS
    filters = {"tenant": "tenant__name", "profile": "revision__profile__name"}

    def get_queryset(self) -> QuerySet[TenantFlag]:
        return super().get_queryset().filter(environment=get_environment(self.kwargs["environment"]))


class ArmBody(Body):
    name = Name(max_length=50)
    weight = Whole(min_value=1, max_value=MAX_ARM_WEIGHT)
    profile = Name(required=False, help_text="left out with `revision`: the flag's")
    revision = Whole(min_value=1, max_value=2**31 - 1, required=False)
    alpha_scale = Alpha(required=False, help_text="left out: the flag's; 0 for a control")


class OverrideBody(Body):
    alpha_min = Alpha()
    alpha_max = Alpha()


class FlagChangeBody(Body):
    enabled = Switch()
    reason = Text(max_length=2000, required=False, help_text="a plan is the same for any")
    route = Spelled(max_length=100, required=False, allow_blank=True, default="")
    profile = Name(required=False, help_text="left out with `revision`: the revision that the flag points at already")
    revision = Whole(min_value=1, max_value=2**31 - 1, required=False)
    alpha_scale = Alpha(required=False)
    rollout = Alpha(required=False, help_text="the share of callers in percent, with at most 3 decimals")
    rollout_salt = Name(max_length=40, required=False, allow_blank=True, help_text="left out: as it is; drawn anew where a rollout starts")
    arms_salt = Name(max_length=40, required=False, allow_blank=True, help_text="left out: as it is; drawn anew where a test starts")
    arms: serializers.ListSerializer = serializers.ListSerializer(child=ArmBody(), required=False, max_length=MAX_ARMS)
    override = OverrideBody(required=False, allow_null=True)
    inherit = serializers.ListField(
        child=serializers.ChoiceField(FlagField.choices), required=False, max_length=5, help_text="fields to take from the tenant's flag"
    )


class FlagBody(FlagChangeBody):
    reason = Text(max_length=2000)
    confirm = CONFIRM


class PlanFlagView(View):
    """What a change of a tenant's flag would raise. Nothing is changed."""

    roles = {"POST": [Role.OPERATOR]}
    limited = ("POST",)

    @document("Plan a change of a tenant's flag", body=FlagChangeBody, answer=ChangePlanOut, refuses=[404, 409, 422])
    def post(self, request: Request, environment: str, tenant: str) -> Response:
        body = self.read_body(FlagChangeBody)
        where, who = get_environment(environment), find_tenant(tenant, seen_by=self.person)
        body.pop("reason", None)
        return Response(ChangePlanOut(plan_flag(where, who, actor=self.person, **_read_stated(body))).data)


class FlagView(View):
    """Turn a tenant's flag on or off. Turning on takes an approved revision; turning off always works.

    What is left out stays as it is. A route's new flag inherits it from the tenant's. What raises steering is confirmed by the digest of
    its plan.
    """

    roles = {"PUT": [Role.OPERATOR]}
    limited = ("GET", "PUT")
    query = ("route",)

    @document("One flag", answer=FlagOut, refuses=[404], query={"route": "the route; left out: the tenant's flag"})
    def get(self, request: Request, environment: str, tenant: str) -> Response:
        flag = _find_flag(self, environment, tenant)
        return tagged(Response(FlagOut(flag).data), tag_flag(flag))

    def heeds_key(self, request: Request) -> bool:
        """Turning off is done: the flag may have been turned on since it was asked for under this key."""
        if request.method != "PUT":
            return True
        bytes_of(request)
        return not isinstance(request.data, dict) or request.data.get("enabled") is not False

    @document("Set a tenant's flag", body=FlagBody, answer=FlagOut, refuses=[404, 409, 412, 422, 428])
    def put(self, request: Request, environment: str, tenant: str) -> Response:
        body = self.read_body(FlagBody)
        where, who = get_environment(environment), find_tenant(tenant, seen_by=self.person)
        confirmed = body.pop("confirm", None)
        flag = change_flag(where, who, actor=self.person, if_tag=read_if_match(request), confirmed=confirmed, **_read_stated(body))
        return tagged(Response(FlagOut(flag).data), tag_flag(flag))


class FlagChangeOut(serializers.Serializer):
    version = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor_type = serializers.CharField(help_text="person, service_account or system")
    actor = serializers.CharField()
    reason = serializers.CharField()
    changes = serializers.ListField(child=serializers.CharField(), help_text="what became different, in words")
    state = serializers.DictField(help_text="what the flag states since then")


class FlagHistoryView(Records):
    """Who changed a flag, when, why and how, newest first. It is read from the audit log, which is the only account of it."""

    limited = ("GET",)
    serializer_class = FlagChangeOut
    query = ("route",)

    def get_queryset(self) -> QuerySet[AuditEvent]:
        return events_of(_find_flag(self, self.kwargs["environment"], self.kwargs["tenant"]))

    def paginate_queryset(self, queryset: Any) -> Any:
        return read_changes(super().paginate_queryset(queryset) or [])

    @document(
        "The changes of a flag", answer=FlagChangeOut(many=True), refuses=[404], query={"route": "the route; left out: the tenant's flag"}
    )
    def get(self, request: Request, *args: object, **kwargs: object) -> Response:
        return super().get(request, *args, **kwargs)


def _find_flag(view: View, environment: str, tenant: str) -> TenantFlag:
    where, who = get_environment(environment), find_tenant(tenant, seen_by=view.person)
    route = spell(view.request.query_params.get("route", ""), "the route")
    flag = FLAGS.filter(environment=where, tenant=who, route=route).first()
    if flag is None:
        raise NotFound("FLAG_NOT_FOUND", f"{who} has no flag{f' for the route {route}' if route else ''} in {where}", tenant)
    return flag


def _read_stated(body: dict[str, Any]) -> dict[str, Any]:
    """The body with records in the place of their names."""
    stated = {name: value for name, value in body.items() if name not in ("profile", "arms", "override")}
    stated |= _read_revision(body, "")
    if "arms" in body:
        stated["arms"] = [
            ArmSpec(arm["name"], arm["weight"], alpha_scale=arm.get("alpha_scale"), **_read_revision(arm, f"arms.{position}."))
            for position, arm in enumerate(body["arms"])
        ]
    if "override" in body:
        stated["override"] = AlphaBounds(**body["override"]) if body["override"] else None
    return stated


def _read_revision(body: dict[str, Any], path: str) -> dict[str, Any]:
    """Turning off must not wait for somebody to look up a number, so a body may name no revision; but never half of one."""
    profile, number = body.get("profile"), body.get("revision")
    if profile is None and number is None:
        return {}
    if profile is None or number is None:
        raise serializers.ValidationError(
            {f"{path}{'revision' if number is None else 'profile'}": ["give both profile and revision, or neither"]}
        )
    return {"revision": get_revision(profile, number)}
