"""What a new registry asks of its three risk classes, and that an upgrade changes none that is in use."""

from importlib import import_module

import pytest
from django.apps import apps

from registry.models import RiskPolicy

defaults = import_module("registry.migrations.0023_policy_defaults")
pytestmark = pytest.mark.django_db


def read() -> dict[str, tuple[int, str, str]]:
    return {
        policy.name: (policy.minimum_pairs, f"{policy.alpha_cap_mean_difference:f}", f"{policy.alpha_cap_residual:f}")
        for policy in RiskPolicy.objects.filter(name__in=defaults.SHIPPED)
    }


def test_each_class_demands_pairs_and_allows_a_dose_of_its_own(person):
    defaults.ship(apps, None)
    found = read()
    assert {name: pairs for name, (pairs, _, _) in found.items()} == {"low": 50, "medium": 200, "high": 500}
    for column in (1, 2):
        assert float(found["high"][column]) < float(found["medium"][column]) < float(found["low"][column])
    defaults.withdraw(apps, None)
    assert {pairs for pairs, _, _ in read().values()} == {2}


def test_a_class_that_is_in_use_or_was_changed_keeps_its_terms(profile, ada):
    RiskPolicy.objects.filter(name="high").update(changed_by=ada)
    defaults.ship(apps, None)
    assert {name: pairs for name, (pairs, _, _) in read().items()} == {"low": 2, "medium": 200, "high": 2}
