"""Data sets as files."""

from django import forms
from unfold.widgets import UnfoldAdminFileFieldWidget

from registry.console.forms.fields import choice_field, name_field
from registry.models import SuiteKind


class UploadForm(forms.Form):
    """A data set, sealed whole or refused whole."""

    name = name_field()
    file = forms.FileField(label="File", widget=UnfoldAdminFileFieldWidget)


class ContrastSetForm(UploadForm):
    axis = name_field(50, "Axis")


class EvalSuiteForm(UploadForm):
    kind = choice_field(SuiteKind.choices, label="Kind")
    rubric = forms.FileField(label="Rubric", required=False, widget=UnfoldAdminFileFieldWidget, help_text="Only for a behaviour suite.")
