"""Data sets as files."""

from django import forms
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from registry.console.forms.fields import choice_field
from registry.models import SuiteKind


class UploadForm(forms.Form):
    """A data set, sealed whole or refused whole."""

    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    file = forms.FileField(label="File", widget=UnfoldAdminFileFieldWidget)


class ContrastSetForm(UploadForm):
    axis = forms.SlugField(max_length=50, label="Axis", widget=UnfoldAdminTextInputWidget)


class EvalSuiteForm(UploadForm):
    kind = choice_field(SuiteKind.choices, label="Kind")
    rubric = forms.FileField(label="Rubric", required=False, widget=UnfoldAdminFileFieldWidget, help_text="Only for a behaviour suite.")
