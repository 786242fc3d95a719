"""The hub itself: who am I to it, does it answer, and addresses it does not have."""

from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.views.base import View, document
from registry.models import Tenant, User
from registry.reads.visibility import is_limited, visible_to
from registry.web.readiness import check_readiness


class WhoamiOut(serializers.Serializer):
    name = serializers.CharField(source="username")
    roles = serializers.SerializerMethodField()
    tenants = serializers.SerializerMethodField(help_text="the tenants the caller is limited to; null for no limit")
    acts_for = serializers.CharField(source="acts_for.username", default=None, allow_null=True)

    def get_roles(self, user: User) -> list[str]:
        return sorted(user.held_roles())

    def get_tenants(self, user: User) -> list[str] | None:
        return sorted(visible_to(user, Tenant.objects.all(), tenant="pk").values_list("name", flat=True)) if is_limited(user) else None


class HealthOut(serializers.Serializer):
    status = serializers.CharField()
    database = serializers.CharField()


class WhoamiView(View):
    """The person or service account behind the token, and the roles it holds here and now."""

    limited = ("GET",)

    @document("Who the hub takes the caller for", answer=WhoamiOut)
    def get(self, request: Request) -> Response:
        return Response(WhoamiOut(self.person).data)


class HealthView(View):
    """Whether this process can do its work, which a load balancer asks. 503 if its database does not answer or lacks a migration, or
    there is no key to sign with; the code says which."""

    authentication_classes = []
    permission_classes = []

    @document("Whether the hub is ready: its database and its signing key are there", answer=HealthOut, refuses=[503])
    def get(self, request: Request) -> Response:
        check_readiness()
        return Response({"status": "ok", "database": "ok"})


class LivenessOut(serializers.Serializer):
    status = serializers.CharField()


class LivenessView(View):
    """Whether this process answers at all, which whoever would start it anew asks. Nothing is asked of the database: starting a process
    anew brings no database back."""

    authentication_classes = []
    permission_classes = []

    @document("Whether the process answers", answer=LivenessOut)
    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})


class NoSuchView(View):
    """Any other address below /api/v1. It answers in the same form as the rest, and the same with or without a token."""

    authentication_classes = []
    permission_classes = []
    schema = None

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        raise NotFound("there is nothing at this address")
