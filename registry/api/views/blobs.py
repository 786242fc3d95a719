"""Blobs: exact bytes under their sha256, uploaded first and then referred to by digest."""

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from registry.api.parsers import RawParser
from registry.api.views.base import View, document, send_bytes
from registry.blobs import get_blob, put_blob
from registry.models import Role


class BlobOut(serializers.Serializer):
    digest = serializers.CharField()
    bytes = serializers.IntegerField()


class BlobsView(View):
    """Store bytes. Storing them again is the same blob."""

    roles = {"POST": [Role.AUTHOR, Role.OPERATOR]}
    parser_classes = [RawParser]

    @document("Store bytes", body={"application/octet-stream": OpenApiTypes.BINARY}, answer=BlobOut, status=201, refuses=[413, 415])
    def post(self, request: Request) -> Response:
        data = request.data if isinstance(request.data, bytes) else b""
        return Response({"digest": put_blob(data), "bytes": len(data)}, status=201)


class BlobView(View):
    """The exact bytes of a digest."""

    limited = ("GET",)

    @extend_schema(summary="The bytes of a digest", responses={(200, "application/octet-stream"): OpenApiResponse(OpenApiTypes.BINARY)})
    def get(self, request: Request, digest: str) -> HttpResponse:
        response = send_bytes(get_blob(digest), "application/octet-stream", filename=digest)
        response["Cache-Control"] = "private, max-age=31536000, immutable"
        response["ETag"] = f'"{digest}"'
        return response
