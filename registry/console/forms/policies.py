"""Every term of a risk policy."""

from django import forms
from unfold.widgets import UnfoldBooleanSwitchWidget

from registry.console.forms.fields import AlphaField, choice_field, choices_field, name_field, number_field, prose_field, text_field
from registry.models import CoverableForms, Role, SuiteKind, Unit
from registry.reads.gates import list_gate_sets
from registry.services.policies import FOR_COMPOSITIONS, PolicyTerms


class PolicyForm(forms.Form):
    """Every term of a policy. Whether they make sense is for the service to say."""

    alpha_cap_absolute = AlphaField(label="Largest |α|, absolute")
    alpha_cap_mean_difference = AlphaField(label="Largest |α|, mean differences")
    alpha_cap_residual = AlphaField(label="Largest |α|, residual")
    composition_budget = AlphaField(label="Composition budget", help_text="Of the mean residual norm, for all that is added at one layer.")
    gate_set = choice_field(lambda: [(name, name) for name in list_gate_sets() if name != FOR_COMPOSITIONS], label="Gates")
    suite_kinds = choices_field(SuiteKind.choices, required=False, label="Suites that must have judged")
    locales = text_field(max_length=1000, required=False, label="Locales", help_text="Such as en-US, de-DE; may be empty.")
    minimum_pairs = number_field(label="Contrast pairs, at least")
    refuses_claimed_lineage = forms.BooleanField(
        required=False, label="Refuse claimed lineage", help_text="Imported vectors may not be submitted.", widget=UnfoldBooleanSwitchWidget
    )
    coverable_forms = choice_field(
        [
            (CoverableForms.CLOSE.value, "Equal, or of another dtype"),
            (CoverableForms.ANY.value, "Any, quantised too"),
            (CoverableForms.NONE.value, "None"),
        ],
        label="Forms that may be covered",
        help_text="Of the base model; nothing was measured on them.",
    )
    evidence_max_age_days = number_field(label="Evidence is at most (days)")
    approvals_needed = number_field(label="Approvals needed")
    reviewer_roles = choices_field(Role.choices, label="Roles", help_text="Each is held by one of those who approve.")
    approval_valid_days = number_field(label="An approval waits at most (days)")
    review_after_days = number_field(label="Review after (days)")
    reason = prose_field(
        label="Reason", help_text="What is submitted goes back to its authors; what steers beyond the limits stops at once."
    )

    def terms(self) -> PolicyTerms:
        data = {name: value for name, value in self.cleaned_data.items() if name not in ("reason", "name")}
        data["locales"] = [locale.strip() for locale in data["locales"].split(",") if locale.strip()]
        return PolicyTerms(alpha_caps={unit: data.pop(f"alpha_cap_{unit}") for unit in Unit.values}, **data)


class NewPolicyForm(PolicyForm):
    field_order = ["name"]
    name = name_field(50)
