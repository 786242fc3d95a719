"""What every endpoint shares: how it permits, reads, lists and documents itself."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.db.models import Model
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
from registry.api.idempotency import HeldKey, take_key
from registry.api.pagination import PARAMETERS
from registry.api.permissions import HoldsRole, MayReachTenants, person_of
from registry.models import User
from registry.reads.visibility import visible_to
from registry.web.problems import PROBLEM_TYPE


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

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return next((parser for parser in parsers if _media_type(request.content_type) == parser.media_type), None)

    def select_renderer(self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None) -> tuple[Any, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


class View(APIView):
    """What a view declares beside its methods; the rest is the same for all.

    `roles` says which role each method takes, and `limited` which methods callers take who are limited to some tenants; `query`
    names the parameters of its GET, any other is refused by name. `needs_key`: its POST takes an Idempotency-Key, which others
    merely accept. `ignores_key`: each request is done, whatever its key; `heeds_key` decides it by the request. `shows_secret`: the
    answer is not kept for a repeat.
    """

    roles: ClassVar[Mapping[str, Sequence[str]]] = {}
    limited: ClassVar[Sequence[str]] = ()
    query: ClassVar[Sequence[str]] = ()
    needs_key: ClassVar[bool] = False
    ignores_key: ClassVar[bool] = False
    shows_secret: ClassVar[bool] = False
    permission_classes = [IsAuthenticated, HoldsRole, MayReachTenants]
    content_negotiation_class = OneForm
    _key: HeldKey | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        refuse_unknown_parameters(request, self.known_parameters() if request.method in ("GET", "HEAD") else ())
        if self.heeds_key(request):
            self._key = take_key(request, is_required=self.needs_key)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            response: Any = super().dispatch(request, *args, **kwargs)
            response.setdefault("Cache-Control", "no-store")
            if self._key is not None:
                self._key.keep(response.render() if hasattr(response, "render") else response, holds_secret=self.shows_secret)
            return response
        finally:
            if self._key is not None:
                self._key.release()

    def heeds_key(self, request: Request) -> bool:
        return not self.ignores_key

    @property
    def person(self) -> User:
        return person_of(self.request)

    def known_parameters(self) -> Sequence[str]:
        return self.query

    def read_body(self, body_class: type[Body]) -> dict[str, Any]:
        body = body_class(data=self.request.data)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)


class Records(View, ListAPIView):
    """A list of records. `filters` maps query parameters to lookups; `query` names those that the view reads beside them."""

    filters: ClassVar[Mapping[str, str]] = {}
    # Where a record's tenant is found, if it has one: callers limited to some tenants are shown no others' records.
    tenant: ClassVar[str] = ""
    # Whether records of no tenant are shown to them too.
    shares_tenantless: ClassVar[bool] = False

    def known_parameters(self) -> Sequence[str]:
        return (*self.filters, *PARAMETERS, *self.query)

    def filter_queryset(self, queryset: Any) -> Any:
        if self.tenant:
            queryset = visible_to(self.person, queryset, tenant=self.tenant, shared=self.shares_tenantless)
        for name, lookup in self.filters.items():
            if name in self.request.query_params:
                queryset = queryset.filter(**_resolve(queryset.model, lookup, self.request.query_params[name]))
        return queryset


def _resolve(model: type[Model], lookup: str, value: str) -> dict[str, Any]:
    """The name of another record becomes its id first: how many records a joined name stands for, the planner can only guess."""
    first, _, rest = lookup.partition("__")
    if not rest:
        return {lookup: value}
    related: Any = model._meta.get_field(first).related_model
    return {f"{first}__in": list(related._default_manager.filter(**{rest: value}).order_by().values_list("pk", flat=True))}


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
