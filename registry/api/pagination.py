"""Lists come in pages that all cost the same: a page is found by where the last one ended, not by counting up to it. See ADR 0005."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from django.core.exceptions import ValidationError as NotThatField
from django.db.models import Model, Q, QuerySet
from rest_framework import serializers
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

from registry.web.bodies import parse_body
from steernode.errors import CanonicalError

PARAMETERS = ("after", "before", "page", "size")
DEFAULT_SIZE, MAX_SIZE = 50, 500
# Records are counted, and pages numbered, up to here. Counting a log of millions costs more than showing any page of it.
COUNTED = 10_000
# In bytes: more than any name, route and id together.
_LONGEST_PLACE = 4000


class Pages(BasePagination):
    """{"count", "count_is_exact", "next", "previous", "results"}.

    `next` and `previous` go on from a place in the list's order: `after` it or `before` it. What is added or deleted meanwhile, the
    record itself that stood there included, neither repeats nor hides another. `page` jumps to a numbered page among the first 10,000.
    """

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any]:
        self._url = request.build_absolute_uri()
        size = _read_number(request, "size", most=MAX_SIZE) or DEFAULT_SIZE
        after, before, page = (request.query_params.get(name) for name in ("after", "before", "page"))
        if sum(value is not None for value in (after, before, page)) > 1:
            raise serializers.ValidationError({"page": ["give one of after, before and page"]})
        order = _whole_order(queryset)
        bare = queryset.select_related(None).prefetch_related(None)
        counted = bare.order_by()[: COUNTED + 1].count()
        self._count, self._is_exact = min(counted, COUNTED), counted <= COUNTED
        if before is not None:
            places = _read_beyond(bare, order, before, "before", size + 1)
            self._has_next, self._has_previous = True, len(places) > size
            self._places = places[:size][::-1]
        else:
            if after is not None:
                places = _read_beyond(bare, order, after, "after", size + 1)
            else:
                start = _read_start(request, size)
                places = _read_places(bare, order, start, size + 1)
            self._has_next, self._has_previous = len(places) > size, after is not None or (page or "1") != "1"
            self._places = places[:size]
        keys = [key for key, *_ in self._places]
        rows = {row.pk: row for row in queryset.order_by().filter(pk__in=keys)}
        return [rows[key] for key in keys if key in rows]

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "count": self._count,
                "count_is_exact": self._is_exact,
                "next": self._link("after", -1) if self._has_next else None,
                "previous": self._link("before", 0) if self._has_previous else None,
                "results": data,
            }
        )

    def _link(self, name: str, position: int) -> str | None:
        """None for an empty page, which has no place to go on from."""
        if not self._places:
            return None
        url = self._url
        for other in ("after", "before", "page"):
            url = remove_query_param(url, other)
        return replace_query_param(url, name, _write_place(self._places[position][1:]))

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        texts = {
            "after": "a place in the list, as `next` has it, or the id of a record: the page that follows it",
            "before": "a place in the list, as `previous` has it, or the id of a record: the page that ends before it",
        }
        numbers = {
            "page": (COUNTED, f"a numbered page, among the first {COUNTED:,} records; past them follow `next`"),
            "size": (MAX_SIZE, f"records on a page, {DEFAULT_SIZE} unless given"),
        }
        return [
            *({"name": name, "in": "query", "schema": {"type": "string"}, "description": text} for name, text in texts.items()),
            *(
                {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": most}, "description": text}
                for name, (most, text) in numbers.items()
            ),
        ]

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri"}
        properties = {
            "count": {"type": "integer", "maximum": COUNTED, "description": f"records in the list; {COUNTED:,} if there are more"},
            "count_is_exact": {"type": "boolean", "description": f"false if the list holds more than {COUNTED:,}"},
            "next": link,
            "previous": link,
            "results": schema,
        }
        return {"type": "object", "required": list(properties), "properties": properties}


def _read_number(request: Request, name: str, *, most: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and 1 <= int(text) <= most):
        raise serializers.ValidationError({name: [f"want a whole number from 1 to {most}"]})
    return int(text)


def _read_start(request: Request, size: int) -> int:
    page = _read_number(request, "page", most=COUNTED) or 1
    if page * size > COUNTED:
        raise serializers.ValidationError({"page": [f"numbered pages end with record {COUNTED}; follow `next` instead"]})
    return (page - 1) * size


def _whole_order(queryset: QuerySet[Any]) -> list[str]:
    """The order of the list, in which every record has one place: where it leaves ties, the id breaks them."""
    model = queryset.model
    order = list(queryset.query.order_by or model._meta.ordering)
    columns = set(_fields_of(order))
    unique = [{field.name} for field in model._meta.fields if field.unique]
    unique += [set(constraint.fields) for constraint in model._meta.total_unique_constraints]
    return order if "pk" in columns or any(fields <= columns for fields in unique) else [*order, "pk"]


def _read_places(queryset: QuerySet[Any], order: Sequence[str], start: int, limit: int) -> list[tuple[Any, ...]]:
    """The id of each record of a page, and where it stands. They come out of an index alone: joined to what it shows, a list would be
    joined whole and then cut."""
    return list(queryset.order_by(*order).values_list("pk", *_fields_of(order))[start : start + limit])


def _read_beyond(queryset: QuerySet[Any], order: Sequence[str], text: str, name: str, limit: int) -> list[tuple[Any, ...]]:
    """The places after this one, in this order; or, with `before`, those before it, the nearest first."""
    try:
        place = _read_place(queryset.model, order, text) if text.startswith("[") else _find_place(queryset, order, text)
    except (NotThatField, CanonicalError, TypeError, ValueError):
        place = None
    if place is None:
        raise serializers.ValidationError({name: [f"this list has no place and no record {text[:100]!r}; follow `next` or `previous`"]})
    if name == "before":
        order = [_turned(step) for step in order]
    return _read_places(queryset.filter(_beyond(order, place)), order, 0, limit)


def _find_place(queryset: QuerySet[Any], order: Sequence[str], key: str) -> tuple[Any, ...] | None:
    """Where the record with this id stands."""
    return queryset.filter(pk=key).values_list(*_fields_of(order)).first()


def _write_place(place: Sequence[Any]) -> str:
    """A place as a list in JSON: what is neither text nor a number, as the text that its field reads back."""
    values = [
        value if isinstance(value, str | int) else value.isoformat() if isinstance(value, datetime) else str(value) for value in place
    ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


def _read_place(model: type[Model], order: Sequence[str], text: str) -> tuple[Any, ...] | None:
    """Raises: CanonicalError, TypeError, ValueError, ValidationError of Django's for what no such field can hold."""
    values = parse_body(text.encode(), max_bytes=_LONGEST_PLACE, max_depth=2)
    if len(values) != len(order) or not all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
        return None
    place = tuple(_find_field(model, step).to_python(value) for step, value in zip(_fields_of(order), values, strict=True))
    return None if any(isinstance(value, datetime) and value.tzinfo is None for value in place) else place


def _find_field(model: type[Model], path: str) -> Any:
    """The field that a step of an order names, through the records that it goes by."""
    *relations, last = path.split("__")
    for relation in relations:
        model = cast(type[Model], model._meta.get_field(relation).related_model)
    return model._meta.pk if last == "pk" else model._meta.get_field(last)


def _beyond(order: Sequence[str], place: Sequence[Any]) -> Q:
    """(a, b) after (x, y) is: a after x, or a = x and b after y. That a is x or after is said too, for the index."""
    first = f"{_fields_of(order)[0]}__{'lte' if order[0].startswith('-') else 'gte'}"
    condition, same = Q(), Q()
    for step, field, value in zip(order, _fields_of(order), place, strict=True):
        condition |= same & Q(**{f"{field}__{'lt' if step.startswith('-') else 'gt'}": value})
        same &= Q(**{field: value})
    return Q(**{first: place[0]}) & condition


def _fields_of(order: Sequence[str]) -> list[str]:
    return [step.removeprefix("-") for step in order]


def _turned(step: str) -> str:
    return step.removeprefix("-") if step.startswith("-") else f"-{step}"
