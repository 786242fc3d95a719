"""Where something is to act, as a form asks for it: by what a gateway says of a request, or by a probe on what it reads."""

from typing import Any

from django import forms

from registry.console.forms.fields import record_field, text_field
from registry.models import Probe

_WAYS = ("intents", "attribute", "probe")


class ConditionForm(forms.Form):
    """One condition at most. What is not filled in is every request."""

    intents = text_field(
        label="Only where the intent is",
        required=False,
        max_length=1000,
        help_text="Such as billing, refund. The items of the suites say their intents.",
    )
    attribute = text_field(
        label="Only where an attribute is", required=False, max_length=1000, help_text="Such as locale = de-DE, de-AT; or product."
    )
    probe = record_field(Probe.objects.all(), label="Only where a probe fires", required=False, empty_label="every request")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not Probe.objects.exists():
            del self.fields["probe"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        given = [name for name in _WAYS if data.get(name)]
        for name in given[1:]:
            self.add_error(name, "One condition decides; fill in one of these.")
        data["condition"] = _read(given[0], data[given[0]]) if given else None
        return data


def _read(way: str, value: Any) -> dict[str, Any]:
    """As a recipe states it; whether it makes sense is for its reader to say."""
    if way == "probe":
        return {"kind": "probe", "probe": f"{value.name}@{value.version}"}
    if way == "intents":
        return {"kind": "intent", "labels": _split(value)}
    name, _, values = value.partition("=")
    return {"kind": "attribute", "name": name.strip(), "values": _split(values)}


def _split(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",") if entry.strip()]
