"""What a new extraction is asked for with."""

from typing import Any

from django.core.exceptions import ValidationError

from registry.console.forms.conditions import ConditionForm
from registry.console.forms.decoding import DecodingForm
from registry.console.forms.fields import SpelledField, choice_field, gates_field, prose_field, record_field, text_field
from registry.models import BaseModel, ContrastSet, Profile
from registry.services.recipes import LAYER_NAMES, parse_template_arguments
from steernode.canonical import parse_strict
from steernode.errors import SteerError
from steernode.placement import AUTO, DTYPE_BYTES
from steernode.words import AUTO_ALPHAS, MAX_SYSTEM_MESSAGE


class ExtractionForm(DecodingForm, ConditionForm):
    """What a new extraction needs. Everything else of the recipe has a default."""

    left_out = ""
    last = (
        *("profile", "intents", "attribute", "probe", "system_message"),
        *("layers", "alphas", "gates", "model_dtype", "template_arguments", *DecodingForm.last),
    )

    vector = SpelledField(label="Name of the vector", help_text="A version is added to it, so the same name may be used again.")
    base_model = record_field(BaseModel.objects.all(), label="Base model")
    contrast_set = record_field(ContrastSet.objects.all(), label="Contrast set")
    layers = text_field(label="Layers", initial=LAYER_NAMES[0], help_text="candidates (all that may pass), all, or numbers such as 4, 5, 6")
    profile = record_field(
        Profile.objects.all(),
        label="Draft a revision of",
        required=False,
        empty_label="Nothing: stop at the vector",
        help_text="The job goes on to a validation, and if that passes to a draft.",
    )
    system_message = prose_field(
        label="System message",
        required=False,
        max_length=MAX_SYSTEM_MESSAGE,
        help_text="What the model is served under. Items that have none of their own are asked under it.",
    )
    alphas = text_field(
        label="α grid",
        initial=AUTO_ALPHAS,
        required=False,
        max_length=300,
        help_text="auto: each layer's own, by how far it moves the next token. Or one for all, such as 0, 0.25, 0.5, 1; it needs 0.",
    )
    gates = gates_field(left_out="default")
    model_dtype = choice_field(
        [(AUTO, "Its own dtype"), *((name, name) for name in DTYPE_BYTES)],
        label="Model run in",
        required=False,
        help_text="What is measured in one dtype is evidence of that one. A worker that lacks it refuses the job.",
    )
    template_arguments = text_field(
        label="Template arguments",
        required=False,
        max_length=4000,
        help_text='What the chat template is given, as JSON: {"enable_thinking": false}. What is served is asked with the same.',
    )

    def clean_template_arguments(self) -> dict[str, Any]:
        text = self.cleaned_data["template_arguments"].strip()
        try:
            return parse_template_arguments(parse_strict(text.encode())) if text else {}
        except SteerError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error

    def clean_system_message(self) -> str:
        # As it was typed: a browser sends every line break as two characters.
        return str(self.cleaned_data["system_message"]).replace("\r\n", "\n")

    def recipe(self) -> dict[str, Any]:
        """The fields that were filled in, as the service reads them."""
        data = self.cleaned_data
        recipe: dict[str, Any] = {"vector": data["vector"], "layers": _parse_layers(data["layers"])}
        if alphas := data["alphas"].strip():
            recipe["alphas"] = alphas if alphas == AUTO_ALPHAS else [alpha.strip() for alpha in alphas.split(",")]
        if data["gates"]:
            recipe["gates"] = data["gates"]
        if data["model_dtype"]:
            recipe["model_dtype"] = data["model_dtype"]
        if data["template_arguments"]:
            recipe["template_arguments"] = data["template_arguments"]
        for name in ("decoding", "system_message", "condition"):
            if data[name]:
                recipe[name] = data[name]
        return recipe


def _parse_layers(text: str) -> Any:
    if text.strip() in LAYER_NAMES:
        return text.strip()
    # What is not a number goes through as it is, for the service to name it.
    return [int(part) if part.strip().isdecimal() else part.strip() for part in text.split(",")]
