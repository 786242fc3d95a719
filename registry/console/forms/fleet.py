"""A new node, and the end or the renewal of one."""

from django import forms

from registry.console.forms.fields import ReasonForm, name_field, record_field
from registry.models import Environment, ServingNode


class NodeForm(forms.Form):
    name = name_field()
    environment = record_field(Environment.objects.all(), label="Environment")


class RotateForm(forms.Form):
    node = record_field(ServingNode.objects.all(), label="Node")


class WithdrawForm(ReasonForm):
    node = record_field(ServingNode.objects.filter(is_active=True), label="Node")
    field_order = ["node", "reason"]
