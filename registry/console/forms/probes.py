"""What a new probe is asked for with."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldBooleanSwitchWidget

from registry.console.forms.fields import AlphaField, SpelledField, number_field, record_field, text_field
from registry.models import BaseModel, PromptSet
from registry.services.probes import DEFAULT_RATE


class ProbeForm(forms.Form):
    probe = SpelledField(label="Name of the probe", help_text="A version is added to it, so the same name may be used again.")
    base_model = record_field(BaseModel.objects.all(), label="Base model")
    prompt_set = record_field(PromptSet.objects.all(), label="Labelled prompts")
    intent = text_field(label="Intent", required=False, max_length=64, help_text="Empty where the labels are true and false.")
    below = number_field(
        label="First steered layer",
        required=False,
        min_value=0,
        help_text="The probe is read below it, in the same pass.",
    )
    layers = text_field(label="Layers", required=False, help_text="Numbers such as 4, 5, 6; empty for layers below the first steered one.")
    target_false_positive_rate = AlphaField(label="False-positive rate", initial=DEFAULT_RATE, help_text="What the threshold keeps to.")
    again = forms.BooleanField(
        label="Again", required=False, widget=UnfoldBooleanSwitchWidget, help_text="Though the same failed for what it would meet again."
    )

    def recipe(self) -> dict[str, Any]:
        """The fields that were filled in, as the service reads them."""
        data = self.cleaned_data
        recipe = {name: data[name] for name in ("probe", "intent", "target_false_positive_rate")}
        if data["below"] is not None:
            recipe["below"] = data["below"]
        if data["layers"]:
            # What is not a number goes through as it is, for the service to name it.
            recipe["layers"] = [int(part) if part.strip().isdecimal() else part.strip() for part in data["layers"].split(",")]
        return recipe
