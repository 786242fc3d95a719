"""What can be done with a vector: validate it, and draft a revision of it."""

from django import forms

from registry.console.forms.decoding import DecodingForm
from registry.console.forms.fields import AlphaField, choice_field, number_field, prose_field, record_field
from registry.models import Profile, StalePolicy, Unit


class ValidationForm(DecodingForm):
    left_out = "As the vector's recipe says"

    alpha = AlphaField(label="α", required=False, help_text="Empty for the proposed α.")
    unit = choice_field([("", "As proposed"), *Unit.choices], label="Unit of α", required=False)


class DraftForm(forms.Form):
    """One component of one vector, drafted as the next revision of a profile."""

    profile = record_field(Profile.objects.all(), label="Profile")
    alpha = AlphaField(label="α")
    alpha_min = AlphaField(label="Lowest α", initial="0")
    alpha_max = AlphaField(label="Highest α")
    stale_policy = choice_field(StalePolicy.choices, label="When the hub is lost", initial=StalePolicy.ZERO)
    max_staleness_seconds = number_field(label="Lost after (seconds)", initial=900, min_value=1, max_value=86400 * 30)
    rationale = prose_field(label="Why", required=False)
