"""What every endpoint shares: how it permits, reads, lists and documents itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.generics import ListAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from registry.api.fields import Body
from registry.api.permissions import HoldsRole
from registry.problems import PROBLEM_TYPE


class ProblemDocument(serializers.Serializer):
    """An RFC 9457 problem document. Match on `code`; show `detail`."""

    type = serializers.CharField(help_text="urn:steerhub:error:CODE")
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField(help_text="stable, UPPER_SNAKE")
    item = serializers.CharField(allow_null=True, help_text="the offending field, line, name or value")


class OneForm(BaseContentNegotiation):
    """Every answer has one form, so neither Accept nor a `format` in the query string chooses another."""

    def select_parser(self, request: Request, parsers: Sequence[Any]) -> Any:
        return next((parser for parser in parsers if _media_type(request.content_type) == parser.media_type), None)

    def select_renderer(self, request: Request, renderers: Sequence[Any], format_suffix: str | None = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


class View(APIView):
    """`roles` says which role each method takes, `query` which parameters it reads; any other parameter is refused by name."""

    roles: ClassVar[Mapping[str, Sequence[str]]] = {}
    query: ClassVar[Sequence[str]] = ()
    permission_classes = [IsAuthenticated, HoldsRole]
    content_negotiation_class = OneForm

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        refuse_unknown_parameters(request, self.query)

    def read_body(self, body_class: type[Body]) -> dict[str, Any]:
        body = body_class(data=self.request.data)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)


class Records(View, ListAPIView):
    """A list of records. `filters` maps query parameters to lookups."""

    filters: ClassVar[Mapping[str, str]] = {}

    @property
    def query(self) -> Sequence[str]:  # type: ignore[override]
        return (*self.filters, "page", "size") if self.request.method in ("GET", "HEAD") else ()

    def filter_queryset(self, queryset: Any) -> Any:
        wanted = {lookup: self.request.query_params[name] for name, lookup in self.filters.items() if name in self.request.query_params}
        return queryset.filter(**wanted)


def refuse_unknown_parameters(request: Request, known: Sequence[str]) -> None:
    """Raises: ValidationError naming the first parameter nobody reads, or one that holds a NUL."""
    for name, value in request.query_params.items():
        if name not in known:
            readable = ", ".join(known) or "none"
            detail = serializers.ErrorDetail(f"unknown query parameter; known are {readable}", code="unknown_field")
            raise serializers.ValidationError({name[:100]: [detail]})
        if "\0" in value:
            raise serializers.ValidationError({name: ["NUL characters are not allowed"]})


def document(
    summary: str,
    *,
    body: Any = None,
    answer: Any = None,
    status: int = 200,
    refuses: Sequence[int] = (),
    query: Mapping[str, str] | None = None,
) -> Callable[[Any], Any]:
    """The OpenAPI side of an endpoint: body, answer, and every refusal as a problem document."""
    responses: dict[Any, Any] = {status: answer if answer is not None else OpenApiResponse(description="Done; no content.")}
    for code in sorted({400, 401, 403, *refuses}):
        responses[(code, PROBLEM_TYPE)] = OpenApiResponse(ProblemDocument, description="Refused; the problem document says why.")
    parameters = [OpenApiParameter(name, OpenApiTypes.STR, description=text) for name, text in (query or {}).items()]
    return extend_schema(summary=summary, request=body, responses=responses, parameters=parameters)


def send_bytes(data: bytes, content_type: str, *, filename: str = "") -> HttpResponse:
    """Exact stored bytes. With a file name the browser saves them; nothing stored is ever rendered as a page."""
    response = HttpResponse(data, content_type=content_type)
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'"
    if filename:
        response["Content-Disposition"] = f'attachment; filename="{filename}"'
    return response
