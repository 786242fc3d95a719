"""The suites that a job is judged with."""

from typing import Any

from django import forms

from registry.console.forms.fields import CheckList, record_field
from registry.models import EvalSuite, SuiteKind


class SuitesForm(forms.Form):
    """The three suites that no search and no validation can be judged without, and any others."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in (SuiteKind.BEHAVIOUR, SuiteKind.FACTUAL, SuiteKind.SAFETY):
            suites = EvalSuite.objects.filter(kind=kind)
            self.fields[kind.value] = record_field(suites, label=f"{kind.label} suite", initial=suites.order_by("-sealed_at").first())
        others = EvalSuite.objects.filter(kind__in=[SuiteKind.FLUENCY, SuiteKind.CAPABILITY])
        if others.exists():
            self.fields["others"] = forms.ModelMultipleChoiceField(others, widget=CheckList, required=False, label="Other suites")

    def suites(self) -> list[EvalSuite]:
        needed = [self.cleaned_data[kind.value] for kind in (SuiteKind.BEHAVIOUR, SuiteKind.FACTUAL, SuiteKind.SAFETY)]
        return [*needed, *self.cleaned_data.get("others", [])]
