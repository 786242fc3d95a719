"""A new tenant, a new environment."""

from django import forms

from registry.console.forms.fields import name_field, text_field


class TenantForm(forms.Form):
    name = name_field()
    title = text_field(max_length=200, label="Title", required=False)


class EnvironmentForm(forms.Form):
    name = name_field(50)
