"""Plans as they are answered: what is in every plan, and that of one change, with what it raises and the digest that confirms it."""

from rest_framework import serializers

from registry.api.fields import Digest

CONFIRM = Digest(required=False, help_text="the digest of this change's plan; needed for what raises steering, and for nothing else")


class ChangeOut(serializers.Serializer):
    field = serializers.CharField()
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class RiskOut(serializers.Serializer):
    code = serializers.CharField()
    message = serializers.CharField()
    blocks = serializers.BooleanField(help_text="whether the change is refused while this is so")


class ChangePlanOut(serializers.Serializer):
    """Nothing was changed. A change that raises is made by sending it again with this digest as `confirm`."""

    raises = serializers.CharField(help_text="the first thing that steers somebody more; empty: no confirmation is needed")
    changes = ChangeOut(many=True)
    risks = RiskOut(many=True)
    newly_steered = serializers.ListField(child=serializers.CharField(), help_text="tenants that are not steered now, and would be")
    nodes = serializers.IntegerField(help_text="how many hear of it")
    digest = serializers.CharField(help_text="of the state before, the change and what it means; another one once any of it is other")
