"""A new node."""

from django import forms
from unfold.widgets import UnfoldAdminTextInputWidget

from registry.console.forms.fields import record_field
from registry.models import Environment


class NodeForm(forms.Form):
    name = forms.SlugField(max_length=100, label="Name", widget=UnfoldAdminTextInputWidget)
    environment = record_field(Environment.objects.all(), label="Environment")
