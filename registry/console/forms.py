"""What people type. Forms only read text into values; the services decide whether the values make sense."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from registry.models import (
    READ_ONLY,
    BaseModel,
    ContrastSet,
    Decision,
    Environment,
    EvalSuite,
    Evaluation,
    KillKind,
    Profile,
    ProfileRevision,
    Purpose,
    RiskPolicy,
    Role,
    StalePolicy,
    SuiteKind,
    Tenant,
    Unit,
    User,
)
from registry.reads.evidence import evidence_of
from registry.reads.visibility import is_limited, visible_to
from registry.services.people import MAX_TOKEN_DAYS
from registry.services.recipes import LAYER_NAMES
from steernode.canonical import parse_alpha
from steernode.errors import AlphaError


class LongSelect(UnfoldAdminSelectWidget):
    """A choice among thousands, written in one go: Django renders a template for every option."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        chosen = set(self.format_value(value))
        return format_html(
            "<select{}>{}</select>", flatatt({**self.build_attrs(self.attrs, attrs), "name": name}), _write(self.choices, chosen)
        )


def _write(choices: Iterable[tuple[Any, Any]], chosen: set[str]) -> SafeString:
    return format_html_join("", "{}", ((_write_choice(value, label, chosen),) for value, label in choices))


def _write_choice(value: Any, label: Any, chosen: set[str]) -> SafeString:
    if isinstance(label, list | tuple):
        return format_html('<optgroup label="{}">{}</optgroup>', value, _write(label, chosen))
    return format_html('<option value="{}"{}>{}</option>', value, mark_safe(" selected") if str(value) in chosen else "", label)


class AlphaField(forms.CharField):
    """A coefficient as the registry reads it everywhere: plain decimal text, never a float."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": 20, "widget": UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}), **options})

    def clean(self, value: Any) -> Decimal | None:
        text = super().clean(value)
        try:
            return parse_alpha(text) if text else None
        except AlphaError as error:
            raise ValidationError(f"{error.message} ({error.code})") from error


def _text(**options: Any) -> forms.CharField:
    attrs = options.pop("attrs", {})
    return forms.CharField(widget=UnfoldAdminTextInputWidget(attrs=attrs), **{"max_length": 100, **options})


def _prose(rows: int = 2, **options: Any) -> forms.CharField:
    return forms.CharField(widget=UnfoldAdminTextareaWidget(attrs={"rows": rows}), **{"max_length": 2000, **options})


def _one(queryset: Any, **options: Any) -> forms.ModelChoiceField:
    return forms.ModelChoiceField(queryset, widget=UnfoldAdminSelectWidget, **options)


def _choice(choices: Any, **options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget, **options)


class SuitesForm(forms.Form):
    """The three suites that no search and no validation can be judged without, and any others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in (SuiteKind.BEHAVIOUR, SuiteKind.FACTUAL, SuiteKind.SAFETY):
            suites = EvalSuite.objects.filter(kind=kind)
            self.fields[kind.value] = _one(suites, label=f"{kind.label} suite", initial=suites.order_by("-sealed_at").first())
        others = EvalSuite.objects.filter(kind__in=[SuiteKind.FLUENCY, SuiteKind.CAPABILITY])
        if others.exists():
            self.fields["others"] = forms.ModelMultipleChoiceField(
                others, widget=UnfoldAdminSelectMultipleWidget, required=False, label="Other suites"
            )

    def suites(self) -> list[EvalSuite]:
        needed = [self.cleaned_data[kind.value] for kind in (SuiteKind.BEHAVIOUR, SuiteKind.FACTUAL, SuiteKind.SAFETY)]
        return [*needed, *self.cleaned_data.get("others", [])]


class ExtractionForm(SuitesForm):
    """What a new extraction needs. Everything else of the recipe has a default."""

    vector = _text(label="Name of the vector", help_text="A version is added to it, so the same name may be used again.")
    base_model = _one(BaseModel.objects.all(), label="Base model")
    contrast_set = _one(ContrastSet.objects.all(), label="Contrast set")
    layers = _text(label="Layers", initial=LAYER_NAMES[0], help_text="candidates (all that may pass), all, or numbers such as 4, 5, 6")
    profile = _one(
        Profile.objects.all(),
        label="Draft a revision of",
        required=False,
        empty_label="Nothing: stop at the vector",
        help_text="The job goes on to a validation, and if that passes to a draft.",
    )
    alphas = _text(label="α grid", required=False, max_length=300, help_text="Such as 0, 0.25, 0.5, 1; empty for the default. It needs 0.")

    def recipe(self) -> dict[str, Any]:
        """The fields that were filled in, as the service reads them."""
        data = self.cleaned_data
        recipe: dict[str, Any] = {"vector": data["vector"], "layers": _parse_layers(data["layers"])}
        if data["alphas"]:
            recipe["alphas"] = [alpha.strip() for alpha in data["alphas"].split(",")]
        return recipe


def _parse_layers(text: str) -> Any:
    if text.strip() in LAYER_NAMES:
        return text.strip()
    # What is not a number goes through as it is, for the service to name it.
    return [int(part) if part.strip().isdecimal() else part.strip() for part in text.split(",")]


class ValidationForm(SuitesForm):
    alpha = AlphaField(label="α", required=False, help_text="Empty for the proposed α.")
    unit = _choice([("", "As proposed"), *Unit.choices], label="Unit of α", required=False)


class DraftForm(forms.Form):
    """One component of one vector, drafted as the next revision of a profile."""

    profile = _one(Profile.objects.all(), label="Profile")
    alpha = AlphaField(label="α")
    alpha_min = AlphaField(label="Lowest α", initial="0")
    alpha_max = AlphaField(label="Highest α")
    stale_policy = _choice(StalePolicy.choices, label="When the hub is lost", initial=StalePolicy.ZERO)
    max_staleness_seconds = forms.IntegerField(
        label="Lost after (seconds)", initial=900, min_value=1, max_value=86400 * 30, widget=UnfoldAdminTextInputWidget
    )
    rationale = _prose(label="Why", required=False)


class ProfileForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    intent = _prose(label="Intent", help_text="What should be different in the replies, for the people who decide.")
    purpose = _choice(Purpose.choices, label="Purpose", help_text="Facts take retrieval, skills LoRA or SFT, unlearning guardrails.")
    axis = forms.SlugField(max_length=50, label="Axis", widget=UnfoldAdminTextInputWidget)
    risk_class = _one(
        RiskPolicy.objects.all(), label="Risk class", to_field_name="name", help_text="The policy of that name says what it takes."
    )


class SubmitForm(forms.Form):
    evaluation = _one(Evaluation.objects.all(), label="Evidence")

    def __init__(self, *args: Any, revision: ProfileRevision, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        evaluation = evidence_of(revision)
        found = Evaluation.objects.filter(pk=evaluation.pk if evaluation else None)
        self.fields["evaluation"].queryset = found.select_related("vector", "revision__profile")
        self.fields["evaluation"].initial = evaluation


class DecisionForm(forms.Form):
    """A decision names the state that was on the screen, not the one that is in the record now."""

    decision = forms.ChoiceField(choices=Decision.choices, label="Decision")
    revision_digest = forms.CharField(max_length=64, widget=forms.HiddenInput, label="Revision digest")
    evidence_digest = forms.CharField(max_length=64, widget=forms.HiddenInput, label="Evidence digest")
    comment = _prose(label="Comment", help_text="What convinced you, or what did not. It is kept for ever.")


class CommentForm(forms.Form):
    text = _prose(label="Comment", help_text="It is kept for ever, and decides nothing.")


class ReasonForm(forms.Form):
    reason = _text(max_length=2000, label="Reason")


class TenantForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    title = _text(max_length=200, label="Title", required=False)


class EnvironmentForm(forms.Form):
    name = forms.SlugField(max_length=50, label="Name", widget=UnfoldAdminTextInputWidget)


class TokenForm(forms.Form):
    """A token of one's own. No scope chosen: whatever its owner may do."""

    name = _text(label="Name", attrs={"placeholder": "What will use it"})
    days = forms.IntegerField(min_value=1, max_value=MAX_TOKEN_DAYS, initial=90, label="Days", widget=UnfoldAdminTextInputWidget)
    scopes = forms.MultipleChoiceField(
        required=False, label="Only for", widget=UnfoldAdminSelectMultipleWidget, help_text="None chosen: whatever you may do."
    )
    tenant = forms.ModelChoiceField(
        Tenant.objects.none(),
        required=False,
        empty_label="every tenant you see",
        label="Only for the tenant",
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, *args: Any, seen_by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = seen_by.held_roles()
        self.fields["scopes"].choices = [(READ_ONLY, "reading"), *[(role, role.label.lower()) for role in Role if role in held]]
        self.fields["tenant"].queryset = visible_to(seen_by, Tenant.objects.all(), tenant="pk")

    def clean_scopes(self) -> list[str] | None:
        return self.cleaned_data["scopes"] or None


class NodeForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    environment = _one(Environment.objects.all(), label="Environment")


class KillForm(forms.Form):
    """One list of everything that can be killed, so that an emergency is one choice, one sentence, one button."""

    target = forms.ChoiceField(widget=LongSelect, label="What to stop")
    environment = forms.ModelChoiceField(
        Environment.objects.all(),
        to_field_name="name",
        required=False,
        empty_label="Everywhere",
        label="Where",
        widget=UnfoldAdminSelectWidget,
        help_text="For a profile or a tenant.",
    )
    reason = _text(max_length=2000, label="Reason", attrs={"placeholder": "What is going wrong"})

    def __init__(self, *args: Any, seen_by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tenants = visible_to(seen_by, Tenant.objects.all(), tenant="pk")
        offered: list[tuple[KillKind, QuerySet[Any]]] = [(KillKind.TENANT, tenants)]
        if not is_limited(seen_by):
            offered = [(KillKind.ENVIRONMENT, Environment.objects.all()), *offered, (KillKind.PROFILE, Profile.objects.all())]
        groups = [(kind.label, [(f"{kind}:{name}", name) for name in rows.values_list("name", flat=True)]) for kind, rows in offered]
        everything = [] if is_limited(seen_by) else [("everything:", "Everything, everywhere")]
        self.fields["target"].choices = [*everything, *[group for group in groups if group[1]]]

    def stated(self) -> dict[str, str]:
        """What the service is told. Where to stop is not asked of what has no where, so that no choice made in haste is an error."""
        kind, _, target = self.cleaned_data["target"].partition(":")
        environment = self.cleaned_data["environment"]
        narrowed = environment is not None and kind in (KillKind.PROFILE, KillKind.TENANT)
        return {"kind": kind, "target": target, "environment": environment.name if narrowed else "", "reason": self.cleaned_data["reason"]}


class UploadForm(forms.Form):
    """A data set, sealed whole or refused whole."""

    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    file = forms.FileField(label="File", widget=UnfoldAdminFileFieldWidget)


class ContrastSetForm(UploadForm):
    axis = forms.SlugField(max_length=50, label="Axis", widget=UnfoldAdminTextInputWidget)


class EvalSuiteForm(UploadForm):
    kind = _choice(SuiteKind.choices, label="Kind")
    rubric = forms.FileField(label="Rubric", required=False, widget=UnfoldAdminFileFieldWidget, help_text="Only for a behaviour suite.")
