"""What the tests of the API share."""

import pytest

from registry.models import (
    AuditEvent,
    BaseModel,
    ContrastSet,
    EvalSuite,
    Job,
    Kill,
    Profile,
    ProfileRevision,
    ServingNode,
    SteeringVector,
    TenantFlag,
)
from tests.support.world import reader, world

__all__ = ["reader", "world"]

RECORDS = (BaseModel, ContrastSet, EvalSuite, Job, Kill, Profile, ProfileRevision, ServingNode, SteeringVector, TenantFlag)


@pytest.fixture
def unchanged():
    """What is on record, the audit log included: unchanged() before and after must agree."""
    return lambda: [model.objects.count() for model in (*RECORDS, AuditEvent)]
