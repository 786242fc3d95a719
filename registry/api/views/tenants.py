"""Tenants: customers whose requests may be steered."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Name, Text
from registry.api.references import find_tenant
from registry.api.views.base import Records, View, document
from registry.models import Role, Tenant
from registry.services.tenants import create_tenant


class TenantOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()
    title = serializers.CharField()
    created_at = serializers.DateTimeField()


class TenantsView(Records):
    """Every tenant."""

    roles = {"POST": [Role.OPERATOR]}
    limited = ("GET",)
    tenant = "pk"
    serializer_class = TenantOut
    queryset = Tenant.objects.order_by("name")

    class NewTenantBody(Body):
        name = Name()
        title = Text(max_length=200, required=False, allow_blank=True, default="")

    @document("Create a tenant, unsteered", body=NewTenantBody, answer=TenantOut, status=201)
    def post(self, request: Request) -> Response:
        tenant = create_tenant(actor=self.person, **self.read_body(self.NewTenantBody))
        return Response(TenantOut(tenant).data, status=201)


class TenantView(View):
    """One tenant."""

    limited = ("GET",)

    @document("One tenant", answer=TenantOut, refuses=[404])
    def get(self, request: Request, name: str) -> Response:
        return Response(TenantOut(find_tenant(name, seen_by=self.person)).data)
