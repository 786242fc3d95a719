"""What a new profile says of itself."""

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from registry.console.forms.fields import choice_field, prose_field, record_field
from registry.models import Purpose, RiskPolicy


class ProfileForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    intent = prose_field(label="Intent", help_text="What should be different in the replies, for the people who decide.")
    purpose = choice_field(Purpose.choices, label="Purpose", help_text="Facts take retrieval, skills LoRA or SFT, unlearning guardrails.")
    axis = forms.SlugField(max_length=50, label="Axis", widget=UnfoldAdminTextInputWidget)
    risk_class = record_field(
        RiskPolicy.objects.all(), label="Risk class", to_field_name="name", help_text="The policy of that name says what it takes."
    )
