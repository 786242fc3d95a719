"""What a new profile says of itself."""

from django import forms

from registry.console.forms.fields import choice_field, name_field, prose_field, record_field
from registry.models import Purpose, RiskPolicy


class ProfileForm(forms.Form):
    name = name_field()
    intent = prose_field(label="Intent", help_text="What should be different in the replies, for the people who decide.")
    purpose = choice_field(Purpose.choices, label="Purpose", help_text="Facts take retrieval, skills LoRA or SFT, unlearning guardrails.")
    axis = name_field(50, "Axis")
    risk_class = record_field(
        RiskPolicy.objects.all(), label="Risk class", to_field_name="name", help_text="The policy of that name says what it takes."
    )
