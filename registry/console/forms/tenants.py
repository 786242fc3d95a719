"""A new tenant, a new environment."""

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from registry.console.forms.fields import text_field


class TenantForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    title = text_field(max_length=200, label="Title", required=False)


class EnvironmentForm(forms.Form):
    name = forms.SlugField(max_length=50, label="Name", widget=UnfoldAdminTextInputWidget)
