"""A thousand objects take as many queries to plan as ten."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry.manifests.risks import Risks
from tests.support.declaring import flag, manifest, profile_manifest


def declare(count):
    tenants = [manifest("Tenant", f"t{number:04}", title="T") for number in range(count)]
    flags = [flag(f"production/t{number:04}") for number in range(count)]
    profiles = [profile_manifest(f"p{number:04}") for number in range(count)]
    return [*tenants, *flags, *profiles]


@pytest.fixture
def count_queries(plan):
    def count(documents):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            found = plan(documents)
            risks = Risks(found)
            for step in found.steps:
                risks.of(step)
            risks.reach()
        return len(queries)

    return count


def test_planning_takes_no_query_for_each_object(count_queries, apply, approved, production):
    few = count_queries(declare(4))
    assert count_queries(declare(40)) == few
    apply(declare(40))
    again = count_queries(declare(4))
    assert count_queries(declare(40)) == again


def test_planning_other_values_takes_no_query_for_each_object(count_queries, apply, approved, production):
    apply(declare(20))
    changed = [flag(f"production/t{number:04}", alphaScale="0.5", reason="less") for number in range(20)]
    assert count_queries(changed) == count_queries(changed[:2])
