"""How the replies of an evaluation are chosen, as a form asks for it."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldBooleanSwitchWidget

from registry.console.forms.fields import choice_field, text_field
from registry.console.forms.suites import SuitesForm
from registry.errors import InvalidInput
from registry.services.recipes import parse_decoding
from steernode.records.decoding import GREEDY_WORD

_DRAWN = "drawn"
_NUMBERS = ("temperature", "top_p", "seeds")


class DecodingForm(SuitesForm):
    """What a job is judged with, and how the replies that are judged are chosen."""

    # What is left to others where nothing is chosen here.
    left_out = "As in the vectors' own validations"

    # Last of what a form asks for: most leave it as it is.
    last: tuple[str, ...] = ("replies", "temperature", "top_p", "seeds", "again")

    replies = choice_field((), label="Replies that are judged", required=False)
    temperature = text_field(label="Temperature", required=False, help_text="Only if they are drawn: from 0.01 to 2, such as 0.7.")
    top_p = text_field(
        label="Top-p",
        required=False,
        help_text="Only if they are drawn: from the likeliest tokens that together have this probability, such as 0.95.",
    )
    seeds = text_field(
        label="Seeds", required=False, help_text="Only if they are drawn: one reply to each item for each seed, such as 0, 1, 2."
    )
    again = forms.BooleanField(
        label="Again", required=False, widget=UnfoldBooleanSwitchWidget, help_text="Though the same failed for what it would meet again."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        drawn = (_DRAWN, "Drawn at a temperature (sampled)")
        greedy = (GREEDY_WORD, "The likeliest token each time (greedy)")
        self.fields["replies"].choices = [("", self.left_out), greedy, drawn] if self.left_out else [greedy, drawn]  # type: ignore[attr-defined]
        self.order_fields([*(name for name in self.fields if name not in self.last), *self.last])

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        given = {name: data[name].strip() for name in _NUMBERS if data.get(name)}
        if data.get("replies") == _DRAWN:
            data["decoding"] = self._read(given)
        else:
            data["decoding"] = data.get("replies") or None
            for name in given:
                self.add_error(name, "This is of replies that are drawn; choose those.")
        return data

    def _read(self, given: dict[str, str]) -> Any:
        decoding: dict[str, Any] = {**given}
        if "seeds" in given:
            decoding["seeds"] = [_whole(part) for part in given["seeds"].split(",")]
        try:
            return parse_decoding(decoding)
        except InvalidInput as error:
            name = next((each for each in _NUMBERS if f".{each}" in (error.item or "")), None)
            self.add_error(name, ValidationError(f"{error.message} ({error.code})"))
            return None


def _whole(text: str) -> Any:
    """What is not a number goes through as it is, for its reader to name it."""
    return int(text) if text.strip().isascii() and text.strip().isdecimal() else text.strip()
