"""Base models: registered from a folder that hub and workers share."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Text
from registry.api.references import find_base_model
from registry.api.views.base import Records, View, document
from registry.models import BaseModel, Role
from registry.services.base_models import register_base_model


class BaseModelOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    source = serializers.CharField()
    fingerprint = serializers.CharField()
    architecture = serializers.CharField()
    n_layers = serializers.IntegerField()
    d_model = serializers.IntegerField()
    context_length = serializers.IntegerField()
    registered_by = serializers.CharField(source="registered_by.username")
    registered_at = serializers.DateTimeField()


class BaseModelDetailOut(BaseModelOut):
    manifest = serializers.JSONField(help_text="the document whose sha256 is the fingerprint: the digest of every file")


class BaseModelRefOut(serializers.Serializer):
    """A base model as other records name it."""

    name = serializers.CharField()
    fingerprint = serializers.CharField()


class BaseModelsView(Records):
    """Every registered base model."""

    limited = ("GET",)
    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}
    serializer_class = BaseModelOut
    queryset = BaseModel.objects.select_related("registered_by").order_by("name", "-registered_at")
    filters = {"name": "name", "fingerprint": "fingerprint"}

    class NewBaseModelBody(Body):
        name = Name()
        source = Text(max_length=500, help_text="a folder below STEERHUB_MODEL_ROOT")

    @document("Fingerprint and register a base model", body=NewBaseModelBody, answer=BaseModelDetailOut, status=201, refuses=[422])
    def post(self, request: Request) -> Response:
        body = self.read_body(self.NewBaseModelBody)
        base_model = register_base_model(body["name"], source=body["source"], actor=request.user)
        return Response(BaseModelDetailOut(base_model).data, status=201)


class BaseModelView(View):
    """One base model by id, or the one registered last under a name."""

    limited = ("GET",)

    @document("One base model, with the digest of every file", answer=BaseModelDetailOut, refuses=[404])
    def get(self, request: Request, reference: str) -> Response:
        return Response(BaseModelDetailOut(find_base_model(reference)).data)
