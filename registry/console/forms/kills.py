"""What to stop."""

from typing import Any, cast

from django import forms
from django.db.models import QuerySet

from registry.console.forms.fields import LongSelect, record_field, text_field
from registry.models import Environment, KillKind, Profile, Tenant, User
from registry.reads.visibility import is_limited, visible_to

EVERYTHING = "Everything, everywhere"


def name_target(choice: str) -> str:
    """A choice of the form in words: `tenant:harbor` is tenant harbor."""
    kind, _, target = choice.partition(":")
    return f"{kind} {target}" if target else EVERYTHING


class LiftForm(forms.Form):
    """Why steering may be on again."""

    reason = text_field(max_length=2000, label="Why it may be lifted", attrs={"placeholder": "What was found and what was done"})


class KillForm(forms.Form):
    """One list of everything that can be killed, so that an emergency is one choice, one sentence, one button."""

    target = forms.ChoiceField(widget=LongSelect, label="What to stop")
    environment = record_field(
        Environment.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="Everywhere",
        label="Where",
        help_text="For a profile or a tenant.",
    )
    reason = text_field(max_length=2000, label="Reason", attrs={"placeholder": "What is going wrong"})

    def __init__(self, *args: Any, seen_by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenants = visible_to(seen_by, Tenant.objects.all(), tenant="pk")
        offered: list[tuple[KillKind, QuerySet[Any]]] = [(KillKind.TENANT, tenants)]
        if not is_limited(seen_by):
            offered = [(KillKind.ENVIRONMENT, Environment.objects.all()), *offered, (KillKind.PROFILE, Profile.objects.all())]
        groups = [(kind.label, [(f"{kind}:{name}", name) for name in rows.values_list("name", flat=True)]) for kind, rows in offered]
        everything = [] if is_limited(seen_by) else [("everything:", EVERYTHING)]
        cast(forms.ChoiceField, self.fields["target"]).choices = [*everything, *[group for group in groups if group[1]]]

    def stated(self) -> dict[str, str]:
        """What the service is told. Where to stop is not asked of what has no where, so that no choice made in haste is an error."""
        kind, _, target = self.cleaned_data["target"].partition(":")
        environment = self.cleaned_data["environment"]
        narrowed = environment is not None and kind in (KillKind.PROFILE, KillKind.TENANT)
        return {"kind": kind, "target": target, "environment": environment.name if narrowed else "", "reason": self.cleaned_data["reason"]}
