"""Base models: registered from a folder that hub and workers share, and served by environments."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Digest, Name, Spelled, Text
from registry.api.references import find_base_model
from registry.api.views.base import Records, View, document
from registry.api.views.plans import CONFIRM, ChangePlanOut
from registry.manifests.kinds.raising import change_served, plan_move
from registry.models import BaseModel, Role
from registry.reads.lookups import get_environment, registered_before
from registry.services.base_model_moves import Move
from registry.services.base_models import register_base_model
from steernode.files.drift import describe_drift
from steernode.files.forms import describe_form

# A move may turn off what others approved and flagged, so it is not for whoever only registers files.
MAY_MOVE = (Role.OPERATOR, Role.APPROVER)


class BaseModelOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]  # Field has a `source` too
    fingerprint = serializers.CharField()
    architecture = serializers.CharField()
    n_layers = serializers.IntegerField()
    d_model = serializers.IntegerField()
    context_length = serializers.IntegerField()
    registered_by = serializers.CharField(source="registered_by.username")
    registered_at = serializers.DateTimeField()
    environments = serializers.SerializerMethodField(help_text="that serve this fingerprint of the name now")

    def get_environments(self, base_model: BaseModel) -> list[str]:
        return sorted(served.environment.name for served in base_model.served_in.all())


class BaseModelDetailOut(BaseModelOut):
    changes = serializers.SerializerMethodField(help_text="in words: how it differs from the one of its name registered before it")
    architecture_digest = serializers.CharField(help_text="of what says where it keeps its blocks and sites; empty if not on record")
    form = serializers.SerializerMethodField(help_text="in words: what its weights are quantised as or made from; empty if neither")
    derived_from = serializers.SerializerMethodField(help_text="the fingerprint of the base model that it is a form of")
    comparison = serializers.JSONField(help_text="of the two, tensor by tensor; null if it is no form of another")
    behaviour = serializers.JSONField(help_text="what it says to eight fixed prompts, to prove what was loaded; null: not measured")
    manifest = serializers.JSONField(help_text="the document whose sha256 is the fingerprint: the digest of every file")

    def get_changes(self, base_model: BaseModel) -> list[str]:
        earlier = registered_before(base_model)
        return describe_drift(earlier.manifest, base_model.manifest) if earlier else []

    def get_derived_from(self, base_model: BaseModel) -> str | None:
        return base_model.derived_from.fingerprint if base_model.derived_from else None

    def get_form(self, base_model: BaseModel) -> str:
        return describe_form(base_model.manifest)


class BaseModelRefOut(serializers.Serializer):
    """A base model as other records name it."""

    name = serializers.CharField()
    fingerprint = serializers.CharField()


class BaseModelsView(Records):
    """Every registered base model."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}
    serializer_class = BaseModelOut
    queryset = (
        BaseModel.objects.select_related("registered_by").prefetch_related("served_in__environment").order_by("name", "-registered_at")
    )
    filters = {"name": "name", "fingerprint": "fingerprint"}

    class NewBaseModelBody(Body):
        name = Name()
        source = Text(  # type: ignore[assignment]  # as above
            trim_whitespace=False, max_length=500, help_text="a folder below STEERHUB_MODEL_ROOT"
        )
        fingerprint = Digest(required=False, help_text="what the files must hash to")
        derived_from = Spelled(
            required=False,
            max_length=200,
            help_text="the base model that it is a form of: as a path names one",
        )
        comparison = serializers.JSONField(required=False, allow_null=True, help_text="of the two, as `steer model compare` makes it")
        behaviour = serializers.JSONField(
            required=False, allow_null=True, help_text="what the model says to the eight prompts, as `steer model register` measures it"
        )

    @document(
        "Fingerprint and register a base model; no environment serves it before it is moved",
        body=NewBaseModelBody,
        answer=BaseModelDetailOut,
        status=201,
        refuses=[422],
    )
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewBaseModelBody)
        base_model = register_base_model(
            body["name"],
            source=body["source"],
            actor=self.person,
            fingerprint=body.get("fingerprint", ""),
            behaviour=body.get("behaviour"),
            derived_from=find_base_model(body["derived_from"]) if body.get("derived_from") else None,
            comparison=body.get("comparison"),
        )
        return Response(BaseModelDetailOut(base_model).data, status=201)


class BaseModelView(View):
    """One base model by id, or the one registered last under a name."""

    limited = ("GET",)

    @document("One base model, with the digest of every file", answer=BaseModelDetailOut, refuses=[404])
    def get(self, request: Request, reference: str) -> Response:
        return Response(BaseModelDetailOut(find_base_model(reference)).data)


class MoveOut(serializers.Serializer):
    """What a move did; nothing, when the environment served that fingerprint already."""

    environment = serializers.CharField(source="environment.name")
    base_model = BaseModelRefOut()
    previous = BaseModelRefOut(allow_null=True, help_text="what the environment served of this name until now")
    changes = serializers.ListField(child=serializers.CharField(), help_text="how the two differ, in words")
    flags_off = serializers.SerializerMethodField(help_text="tenant or tenant/route of each flag that was turned off")
    invalidated = serializers.SerializerMethodField(help_text="the revisions that no environment can use any more")

    proposals = serializers.SerializerMethodField(help_text="name@version of the vectors that are proposed to be extracted again")

    def get_proposals(self, move: Move) -> list[str]:
        return [f"{proposal.vector.name}@{proposal.vector.version}" for proposal in move.proposals]

    def get_flags_off(self, move: Move) -> list[str]:
        return sorted(f"{flag.tenant.name}/{flag.route}" if flag.route else flag.tenant.name for flag in move.flags_off)

    def get_invalidated(self, move: Move) -> list[str]:
        return [f"{revision.profile.name}@{revision.number}" for revision in move.invalidated]


class MovePlanBody(Body):
    base_model = Spelled(max_length=200, help_text="name (the newest), name@fingerprint or its first digits, or id")
    reason = Text(max_length=2000, required=False, help_text="a plan is the same for any")


class MoveBody(MovePlanBody):
    reason = Text(max_length=2000)
    confirm = CONFIRM


class PlanMoveView(View):
    """What a move would take with it. Nothing is changed."""

    roles = {"POST": MAY_MOVE}

    @document("Plan a move of an environment", body=MovePlanBody, answer=ChangePlanOut, refuses=[404])
    def post(self, request: Request, environment: str) -> Response:
        base_model = find_base_model(self.read_body(MovePlanBody)["base_model"])
        return Response(ChangePlanOut(plan_move(get_environment(environment), base_model=base_model, actor=self.person)).data)


class MoveView(View):
    """An environment serves another fingerprint of a name, or the first. What depended on the old one stops steering in the same
    transaction. It is confirmed by the digest of its plan."""

    roles = {"POST": MAY_MOVE}

    @document("Move an environment to a fingerprint of a base model", body=MoveBody, answer=MoveOut, refuses=[404, 409, 428])
    def post(self, request: Request, environment: str) -> Response:
        body = self.read_body(MoveBody)
        move = change_served(
            get_environment(environment),
            base_model=find_base_model(body["base_model"]),
            reason=body["reason"],
            actor=self.person,
            confirmed=body.get("confirm"),
        )
        return Response(MoveOut(move).data)
