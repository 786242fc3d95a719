"""A new node."""

from django import forms

from registry.console.forms.fields import name_field, record_field
from registry.models import Environment


class NodeForm(forms.Form):
    name = name_field()
    environment = record_field(Environment.objects.all(), label="Environment")
