"""What a new token may do."""

from typing import Any, cast

from django import forms

from registry.console.forms.fields import choices_field, number_field, record_field, text_field
from registry.models import READ_ONLY, Role, Tenant, User
from registry.reads.visibility import visible_to
from registry.services.people import MAX_TOKEN_DAYS


class TokenForm(forms.Form):
    """A token of one's own. No scope chosen: whatever its owner may do."""

    name = text_field(label="Name", attrs={"placeholder": "What will use it"})
    days = number_field(min_value=1, max_value=MAX_TOKEN_DAYS, initial=90, label="Days")
    scopes = choices_field((), required=False, label="Only for", help_text="None chosen: whatever you may do.")
    tenant = record_field(Tenant.objects.none(), required=False, empty_label="every tenant you see", label="Only for the tenant")

    def __init__(self, *args: Any, seen_by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = seen_by.held_roles()
        cast(forms.ChoiceField, self.fields["scopes"]).choices = [
            (READ_ONLY, "reading"),
            *[(role, role.label.lower()) for role in Role if role in held],
        ]
        cast("forms.ModelChoiceField[Tenant]", self.fields["tenant"]).queryset = visible_to(seen_by, Tenant.objects.all(), tenant="pk")

    def clean_scopes(self) -> list[str] | None:
        return self.cleaned_data["scopes"] or None
