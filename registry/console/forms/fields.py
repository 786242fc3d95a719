"""The fields that the forms of several pages share, and the form that asks for a reason and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.widgets import (
    CHECKBOX_CLASSES,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry.reads.gates import list_gate_sets
from steernode.canonical import parse_alpha
from steernode.errors import AlphaError, SpellingError
from steernode.spelling import says_something, spell


class LongSelect(UnfoldAdminSelectWidget):
    """A choice among thousands, written in one go: Django renders a template for every option."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        chosen = set(self.format_value(value))
        return format_html(
            "<select{}>{}</select>", flatatt({**self.build_attrs(self.attrs, attrs), "name": name}), _write(self.choices, chosen)
        )


def _write(choices: Iterable[tuple[Any, Any]], chosen: set[str]) -> SafeString:
    return format_html_join("", "{}", ((_write_choice(value, label, chosen),) for value, label in choices))


def _write_choice(value: Any, label: Any, chosen: set[str]) -> SafeString:
    if isinstance(label, list | tuple):
        return format_html('<optgroup label="{}">{}</optgroup>', value, _write(label, chosen))
    return format_html('<option value="{}"{}>{}</option>', value, mark_safe(" selected") if str(value) in chosen else "", label)


class CheckList(forms.CheckboxSelectMultiple):
    """One box for each, with all that is said of it: a list to select from cuts what is longer than it is wide."""

    def create_option(self, *args: Any, **options: Any) -> dict[str, Any]:
        option = super().create_option(*args, **options)
        # The theme's look is of the boxes; on the list around them it would make that one as small.
        option["attrs"]["class"] = " ".join(CHECKBOX_CLASSES)
        return option


class AlphaField(forms.CharField):
    """A coefficient as the registry reads it everywhere: plain decimal text, never a float."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 20, "widget": UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}), **options})

    def clean(self, value: Any) -> Decimal | None:
        text = super().clean(value)
        try:
            return parse_alpha(text) if text else None
        except AlphaError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error


class SpelledField(forms.CharField):
    """Text that names something, in its one form. It is not trimmed: another spelling is refused, as everywhere else."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 100, "strip": False, "widget": UnfoldAdminTextInputWidget(), **options})

    def clean(self, value: Any) -> str:
        try:
            return spell(super().clean(value), str(self.label or "the name"))
        except SpellingError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error


class TextField(forms.CharField):
    """What nobody can see is nothing."""

    def to_python(self, value: Any) -> str:
        text = super().to_python(value) or ""
        return text if says_something(text) else ""


def text_field(**options: Any) -> forms.CharField:
    attrs = options.pop("attrs", {})
    return TextField(widget=UnfoldAdminTextInputWidget(attrs=attrs), **{"max_length": 100, **options})


def prose_field(rows: int = 2, **options: Any) -> forms.CharField:
    return TextField(widget=UnfoldAdminTextareaWidget(attrs={"rows": rows}), **{"max_length": 2000, **options})


def name_field(max_length: int = 100, label: str = "Name") -> forms.SlugField:
    return forms.SlugField(max_length=max_length, label=label, strip=False, widget=UnfoldAdminTextInputWidget)


def number_field(**options: Any) -> forms.IntegerField:
    return forms.IntegerField(widget=UnfoldAdminTextInputWidget, **options)


def record_field(queryset: Any, **options: Any) -> forms.ModelChoiceField[Any]:
    return forms.ModelChoiceField(queryset, widget=UnfoldAdminSelectWidget, **options)


def choice_field(choices: Any, **options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget, **options)


def choices_field(choices: Any, **options: Any) -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(choices=choices, widget=CheckList, **options)


def gates_field(*, left_out: str) -> forms.ChoiceField:
    """Any gate set there is, or what is held to where none is chosen."""
    return choice_field(lambda: [("", left_out), *((name, name) for name in list_gate_sets())], label="Gates", required=False)


class ReasonForm(forms.Form):
    reason = text_field(max_length=2000, label="Reason")
