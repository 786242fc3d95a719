"""What can be done with a vector: validate it, and draft a revision of it."""

from collections.abc import Sequence
from typing import Any, cast

from django import forms

from registry.console.forms.decoding import DecodingForm
from registry.console.forms.fields import AlphaField, CheckList, choice_field, gates_field, number_field, prose_field, record_field
from registry.models import BaseModel, Probe, Profile, StalePolicy, SteeringVector, Unit
from registry.reads.forms import Relation


class ValidationForm(DecodingForm):
    left_out = "As the vector's recipe says"

    alpha = AlphaField(label="α", required=False, help_text="Empty for the proposed α.")
    unit = choice_field([("", "As proposed"), *Unit.choices], label="Unit of α", required=False)
    gates = gates_field(left_out="As the vector's recipe says, or default")


class DraftForm(forms.Form):
    """One component of one vector, drafted as the next revision of a profile. `acts` is where the vector's recipe has it act, if it says
    so; `relations` are of the forms of the vector's base model."""

    profile = record_field(Profile.objects.all(), label="Profile")
    alpha = AlphaField(label="α")
    alpha_min = AlphaField(label="Lowest α", initial="0")
    alpha_max = AlphaField(label="Highest α")
    probe = record_field(
        Probe.objects.none(),
        label="Only where",
        required=False,
        empty_label="every request",
        help_text="A probe read below the vector's layer.",
    )
    stale_policy = choice_field(StalePolicy.choices, label="When the hub is lost", initial=StalePolicy.ZERO)
    max_staleness_seconds = number_field(label="Lost after (seconds)", initial=900, min_value=1, max_value=86400 * 30)
    covers = forms.ModelMultipleChoiceField(
        BaseModel.objects.none(),
        required=False,
        label="Covers too",
        help_text="Forms of the base model that nodes may serve it on, though nothing was measured on them. Approvers see the figures.",
        widget=CheckList,
    )
    rationale = prose_field(label="Why", required=False)

    def __init__(self, *args: Any, vector: SteeringVector, acts: Any, relations: Sequence[Relation], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        probes = Probe.objects.filter(base_model=vector.base_model, layer__lt=vector.layer)
        self.fields["probe"].queryset = probes  # type: ignore[attr-defined]  # of a ModelChoiceField
        if acts or not probes.exists():
            del self.fields["probe"]
        if not relations:
            del self.fields["covers"]
            return
        said = {relation.form.pk: f"{relation.form}: {relation.describe()}" for relation in relations}
        field = cast("forms.ModelMultipleChoiceField[BaseModel]", self.fields["covers"])
        field.queryset = BaseModel.objects.filter(pk__in=said)
        field.label_from_instance = lambda obj: said[obj.pk]  # type: ignore[method-assign]  # Django's own way to name the choices
