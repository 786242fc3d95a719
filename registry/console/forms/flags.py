"""What the pages of flags ask for: flags, freezes, and the tenants and environments that they are of."""

from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import QueryDict
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget, UnfoldBooleanSwitchWidget

from registry.console.forms.fields import AlphaField, LongSelect, SpelledField, choices_field, name_field, text_field
from registry.models import FlagField, ProfileRevision, RevisionState, Tenant
from registry.reads.lookups import get_revision
from registry.services.flags import ArmSpec
from steernode.errors import AlphaError, SteerError
from steernode.hub.flagtext import read_arm, read_bounds
from steernode.snapshot.records import AlphaBounds


class ArmsField(forms.CharField):
    """The arms of an A/B test, one on a line; `none` for no test."""

    def clean(self, value: Any) -> list[ArmSpec] | None:
        lines = [line for line in super().clean(value).splitlines() if line.strip()]
        if not lines:
            return None
        return [] if [line.strip() for line in lines] == ["none"] else [self._read(line) for line in lines]

    def _read(self, line: str) -> ArmSpec:
        try:
            arm = read_arm(line)
            revision = get_revision(arm.profile, arm.revision) if arm.profile and arm.revision else None
        except ValueError as error:
            raise ValidationError(str(error)) from error
        except SteerError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error
        return ArmSpec(arm.name, arm.weight, revision, arm.alpha_scale)


class BoundsField(forms.CharField):
    """What a request may ask for; `none` for nothing. Empty text is no statement, which is None, so none is the empty tuple."""

    def clean(self, value: Any) -> AlphaBounds | tuple[()] | None:
        text = super().clean(value)
        try:
            bounds = read_bounds(text) if text else None
        except ValueError as error:
            raise ValidationError(str(error)) from error
        except AlphaError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error
        return AlphaBounds(*bounds) if bounds else () if text else None


class FlagForm(forms.Form):
    """One flag. It opens with what the flag says, and only what was changed in it is told to the service: each field comes back with
    what it opened with beside it. Any revision may be named, so that turning off always works; the service refuses to turn on what may
    not steer.
    """

    tenant = forms.ModelChoiceField(Tenant.objects.all(), widget=forms.HiddenInput)
    route = SpelledField(required=False, widget=forms.HiddenInput)
    # The flag as it was on the screen; another one by now is not overwritten.
    read_as = forms.CharField(max_length=100, required=False, widget=forms.HiddenInput)
    revision = forms.ModelChoiceField(
        ProfileRevision.objects.select_related("profile"), widget=LongSelect, label="Revision", required=False, show_hidden_initial=True
    )
    alpha_scale = AlphaField(
        label="α scale", required=False, help_text="Times the approved α; the product must stay in its range.", show_hidden_initial=True
    )
    rollout = AlphaField(label="Share of callers, in percent", required=False, show_hidden_initial=True)
    arms = ArmsField(
        label="Arms",
        required=False,
        max_length=2000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="One on a line: NAME=WEIGHT, then if wanted ,PROFILE@NUMBER and ,xSCALE. Such as control=1,x0; none for no A/B test.",
        show_hidden_initial=True,
    )
    override = BoundsField(
        label="Requests may ask for α",
        required=False,
        max_length=40,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as 0:0.6, inside the approved range; none for nothing.",
        show_hidden_initial=True,
    )
    inherit = choices_field(
        FlagField.choices,
        label="Inherited fields",
        required=False,
        help_text="What a route's flag takes from the one for all routes.",
        show_hidden_initial=True,
    )
    enabled = forms.BooleanField(label="On", required=False, widget=UnfoldBooleanSwitchWidget, show_hidden_initial=True)
    reason = text_field(max_length=2000, label="Reason")

    @classmethod
    def offering_approved(cls, *args: Any, **options: Any) -> "FlagForm":
        """A form whose list holds only what may steer, and what the flag points at already."""
        form = cls(*args, **options)
        offered = Q(state=RevisionState.APPROVED) | Q(pk=form.initial.get("revision"))
        cast("forms.ModelChoiceField[ProfileRevision]", form.fields["revision"]).queryset = ProfileRevision.objects.filter(
            offered
        ).select_related("profile")
        return form

    def reread(self, stated: dict[str, Any]) -> "FlagForm":
        """The same form over a flag that was changed meanwhile: what was changed here stays, all else is as the flag is now."""
        typed = self.data
        data = QueryDict(mutable=True)
        for name, field in self.fields.items():
            opened = stated.get(name, "")
            now = [str(value) for value in (opened if isinstance(opened, list) else [opened]) if value not in ("", None, False)]
            is_kept = name == "reason" or name in self.changed_data
            data.setlist(name, cast(QueryDict, typed).getlist(name) if is_kept else now)
            if field.show_hidden_initial:
                data.setlist(f"initial-{name}", now)
        data["read_as"] = str(stated["read_as"])
        return FlagForm.offering_approved(data, auto_id=self.auto_id, initial=stated)

    def stated(self) -> dict[str, Any]:
        """What the service is told: whatever was changed. What was emptied stays as it is."""
        changed = {name: value for name, value in self.cleaned_data.items() if name in self.changed_data}
        data = {name: value for name, value in changed.items() if value not in (None, "") and (value != [] or name in ("arms", "inherit"))}
        if data.get("override") == ():
            data["override"] = None
        return data | {
            "tenant": self.cleaned_data["tenant"],
            "route": self.cleaned_data["route"],
            "reason": self.cleaned_data["reason"],
            "enabled": changed.get("enabled"),
            "if_tag": self.cleaned_data["read_as"] or None,
        }


class OpenFlagForm(forms.Form):
    """Whose flag to open."""

    tenant = forms.ModelChoiceField(Tenant.objects.all(), widget=LongSelect, label="Tenant")
    route = text_field(label="Route", required=False, help_text="Empty for all routes.")


class SwitchForm(forms.Form):
    """On or off, and nothing else."""

    tenant = forms.ModelChoiceField(Tenant.objects.all(), widget=LongSelect, label="Tenant")
    route = SpelledField(label="Route", required=False)
    enabled = forms.BooleanField(label="On", required=False)
    # Turning off needs none; turning on is asked for one with its plan.
    reason = text_field(max_length=2000, label="Reason", required=False)


class ExplainForm(forms.Form):
    """What a request would say of itself."""

    route = SpelledField(label="Route", required=False)
    key = SpelledField(label="Rollout key", required=False, max_length=200)
    alpha = AlphaField(label="Asks for α", required=False)


class FreezeForm(forms.Form):
    ends_at = forms.DateTimeField(label="Until (UTC)", widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}))
    starts_at = forms.DateTimeField(
        label="From (UTC)", required=False, widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}), help_text="Empty for now."
    )
    reason = text_field(max_length=2000, label="Reason")


class TenantForm(forms.Form):
    name = name_field()
    title = text_field(max_length=200, label="Title", required=False)


class EnvironmentForm(forms.Form):
    name = name_field(50)
