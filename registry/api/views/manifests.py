"""Manifests: apply the YAML that declares what should be on record. The client parses the files; the hub takes the documents."""

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.fields import Body, Switch
from registry.api.permissions import require_role
from registry.api.views.base import View, document
from registry.models import Role

# What an operator declares; everything else is an author's.
_OPERATED = ("Environment", "Tenant")


class AppliedOut(serializers.Serializer):
    kind = serializers.CharField()
    name = serializers.CharField()
    result = serializers.CharField(help_text="created, unchanged, or checked in a dry run")
    reference = serializers.CharField(help_text="name@version, fingerprint or id of the record")


class AppliedListOut(serializers.Serializer):
    results = AppliedOut(many=True)


class ApplyView(View):
    """Each document takes the role that its kind takes elsewhere: operators declare environments and tenants, authors the rest."""

    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}

    class ApplyBody(Body):
        documents = serializers.ListField(child=serializers.JSONField(), min_length=1, max_length=500)
        dry_run = Switch(default=False)

    @document("Apply manifests", body=ApplyBody, answer=AppliedListOut, refuses=[404, 409, 422])
    def post(self, request: Request) -> Response:
        from registry.manifests.apply import apply_manifests

        body = self.read_body(self.ApplyBody)
        for kind in sorted({_kind_of(declared) for declared in body["documents"]}):
            require_role(request, Role.OPERATOR if kind in _OPERATED else Role.AUTHOR)
        rows = apply_manifests(body["documents"], actor=request.user, dry_run=body["dry_run"])
        return Response(AppliedListOut({"results": rows}).data)


def _kind_of(declared: Any) -> str:
    return str(declared.get("kind", "")) if isinstance(declared, dict) else ""
