"""The fields of bodies and answers. Nothing is coerced: "5" is not 5, "false" is not false, and an unknown field is an error."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from steernode.canonical import format_decimal, parse_alpha
from steernode.snapshot.records import Stated
from steernode.spelling import says_something, spell


class Body(serializers.Serializer):
    """What a caller sends. A field that is not declared here is refused by name, so that nobody can assign what is not theirs."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError({"non_field_errors": [serializers.ErrorDetail("want a JSON object", code="not_an_object")]})
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name[:100]: [serializers.ErrorDetail(f"unknown field; known are {known}", code="unknown_field")] for name in unknown[:10]}
            )
        parsed: dict[str, Any] = super().to_internal_value(data)
        return parsed


class Text(serializers.CharField):
    """Text, and only text."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if self.trim_whitespace and not self.allow_blank and not says_something(data):
            self.fail("blank")
        return super().to_internal_value(data)


class Spelled(Text):
    """Text that names something, in the one form of `steernode.spelling`. It is not trimmed: another spelling is refused by SPELLING."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        return spell(super().to_internal_value(data), self.field_name or "the name")


class Name(serializers.RegexField):
    """The name of a record: it stands in addresses and file names, so letters, digits, '-' and '_' only."""

    def __init__(self, **options: Any) -> None:
        options = {"max_length": 100, "trim_whitespace": False, **options}
        super().__init__(r"\A[A-Za-z0-9][A-Za-z0-9_-]*\Z", **options)
        self.error_messages["invalid"] = "want letters, digits, '-' and '_', starting with a letter or digit"

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Digest(serializers.RegexField):
    """A sha256 in 64 lower-case hex digits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"\A[0-9a-f]{64}\Z", trim_whitespace=False, **options)
        self.error_messages["invalid"] = "want 64 lower-case hex digits"


class Whole(serializers.IntegerField):
    """A whole number written as one."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class Switch(serializers.BooleanField):
    """true or false, in no other spelling."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Moment(serializers.DateTimeField):
    """A time with its zone, such as 2026-12-24T18:00:00Z. Without the zone two people would read two times."""

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or not _MOMENT.fullmatch(value):
            self.fail("invalid", format="2026-12-24T18:00:00Z")
        return super().to_internal_value(value)


@extend_schema_field(OpenApiTypes.STR)
class Alpha(serializers.Field):
    """A coefficient: a decimal string such as "0.5", or an integer. A JSON float is refused by the code ALPHA_FORMAT."""

    def to_internal_value(self, data: Any) -> Decimal:
        return parse_alpha(data)

    def to_representation(self, value: Decimal) -> str:
        return format_decimal(value)


@extend_schema_field(OpenApiTypes.STR)
class Measure(serializers.Field):
    """A measured decimal in plain notation."""

    def to_representation(self, value: Decimal) -> str:
        return format_decimal(value)


# By the kind of what is stated of a component: its field in an answer, and in a body.
_STATED: dict[str, tuple[type[serializers.Field], type[serializers.Field]]] = {
    "coefficient": (Alpha, Alpha),
    "word": (serializers.CharField, serializers.ChoiceField),
    "switch": (serializers.BooleanField, Switch),
    "schedule": (serializers.JSONField, serializers.DictField),
    "condition": (serializers.JSONField, serializers.DictField),
}


def show_stated(each: Stated, **options: Any) -> serializers.Field:
    return _STATED[each.kind][0](allow_null=each.default is None, help_text=each.says, **options)


def ask_stated(each: Stated) -> serializers.Field:
    options: dict[str, Any] = {"help_text": each.says}
    if not each.is_required:
        options |= {"required": False} if each.default is None else {"default": each.default}
    if each.kind == "word":
        options["choices"] = each.words
    if each.kind == "condition":
        options["allow_null"] = True
    return _STATED[each.kind][1](**options)
