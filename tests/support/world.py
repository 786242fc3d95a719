"""One record of every kind, the paths that read them, and more of each. The fixtures reach the tests through conftest."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from registry.models import (
    Approval,
    BaseModel,
    Component,
    ContrastSet,
    CoveredForm,
    Environment,
    EvalSuite,
    Evaluation,
    GateSet,
    Job,
    Kill,
    NodeReport,
    Notification,
    Probe,
    Profile,
    ProfileRevision,
    PromptSet,
    Proposal,
    RiskPolicy,
    ServingNode,
    Snapshot,
    SteeringVector,
    Tenant,
    TenantFlag,
    User,
    Waiver,
)
from registry.services.flags import set_flag
from registry.services.gates import seal_gate_set
from registry.services.kills import engage_kill
from registry.services.people import create_user, issue_token


def add_copy(record, **changes):
    """The same record again, under the names and digests given; every other unique text is made up."""
    for field in record._meta.concrete_fields:
        if field.unique and field.get_internal_type() in ("CharField", "SlugField"):
            changes.setdefault(field.name, uuid4().hex + uuid4().hex if field.max_length == 64 else f"x{uuid4().hex[:20]}")
    original = record._meta.default_manager.get(pk=record.pk)
    original.pk = uuid4() if record._meta.pk.get_internal_type() == "UUIDField" else None
    original._state.adding = True
    for name, value in changes.items():
        setattr(original, name, value)
    original.save(force_insert=True)
    return original


@pytest.fixture
def reader(person, grace):
    """Somebody who may read everything, with a notification and a token."""
    reader = person("reader", "auditor", "admin", "approver", "operator")
    Notification.objects.create(person=reader, text="Look.", object_type="job", object_id="1", object_name="job 1")
    return reader


@pytest.fixture
def world(flag_on, node, atlas, reader, mary, train_probe):
    """One record of every kind, and the paths that read them."""
    engage_kill("tenant", target="atlas", reason="test", actor=reader)
    NodeReport.objects.create(node=node[0], result="ACK", revision=2)
    issue_token(mary, name="t", actor="tests")
    evaluation = Evaluation.objects.get()
    train_probe()
    gate = {"metric": "slope", "kind": "above_low", "threshold": "0"}
    seal_gate_set("our-tone", about="Tone.", gates=[{**gate, "why": "Or it does nothing."}], author=mary)
    with unguarded("registry_waiver"):
        asked = {"ends_at": timezone.now() + timedelta(days=1), "asked_by": mary, "asked_by_person": mary.pk}
        waiver = Waiver.objects.create(evaluation=evaluation, **gate, reason="test", **asked)
    proposal = Proposal.objects.create(vector=evaluation.vector, base_model=evaluation.vector.base_model)
    revision = "profiles/harbor-empathy/revisions"
    environment = "environments/production"
    return [
        *("users", "users/mary", "users/mary/tokens", "tokens"),
        *("base-models", "base-models/harbor-support", "contrast-sets", "contrast-sets/empathy/1", "eval-suites", "eval-suites/facts/1"),
        *("prompt-sets", "prompt-sets/intents/1", "probes", "probes/refund-intent/1"),
        *("gate-sets", "gate-sets/our-tone/1", "waivers", f"waivers/{waiver.pk}"),
        *("jobs", f"jobs/{evaluation.job_id}", "vectors", "vectors/empathy/1", "evaluations", f"evaluations/{evaluation.pk}"),
        *(
            "risk-policies",
            "risk-policies/low",
            "profiles",
            "profiles/harbor-empathy",
            revision,
            f"{revision}/1",
            f"{revision}/1/checklist",
        ),
        *("tenants", "tenants/harbor", "environments", environment, f"{environment}/snapshots", f"{environment}/flags"),
        *(f"{environment}/flags/harbor", f"{environment}/flags/harbor/history", f"{environment}/freezes"),
        *(f"{environment}/explain?tenant=harbor", "kills", f"kills/{Kill.objects.get().pk}", "nodes", "nodes/node-1"),
        *("notifications", "audit/events", "proposals", f"proposals/{proposal.pk}"),
    ]


@contextmanager
def unguarded(*tables: str) -> Iterator[None]:
    """Copies are put in as they are; what guards the order in which such records come to be is tested elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def grow(oscar) -> None:
    """Three more of everything that a list shows or a record has."""
    # First, because afterwards the revision is not what was approved.
    flag = TenantFlag.objects.select_related("environment", "tenant", "revision").get(tenant__name="harbor")
    set_flag(flag.environment, flag.tenant, revision=flag.revision, enabled=True, alpha_scale=Decimal("0.5"), reason="test", actor=oscar)
    with unguarded("registry_profilerevision", "registry_component", "registry_coveredform", "registry_approval", "registry_waiver"):
        for number in range(2, 5):
            base_model = add_copy(BaseModel.objects.first(), name=f"model-{number}")
            contrast_set = add_copy(ContrastSet.objects.first(), name=f"set-{number}")
            suite = add_copy(EvalSuite.objects.first(), name=f"suite-{number}", digest=uuid4().hex * 2)
            vector = add_copy(SteeringVector.objects.first(), version=number, base_model=base_model, contrast_set=contrast_set, job=None)
            prompt_set = add_copy(PromptSet.objects.first(), name=f"prompts-{number}")
            trained = add_copy(Job.objects.get(trained_probe__name="refund-intent", trained_probe__version=1), prompt_set=prompt_set)
            add_copy(Probe.objects.first(), version=number, base_model=base_model, prompt_set=prompt_set, job=trained)
            job = add_copy(Job.objects.filter(kind="validation").first(), vector=vector, base_model=base_model)
            job.suites.set([suite, *EvalSuite.objects.all()])
            evaluation = add_copy(Evaluation.objects.first(), vector=vector, job=job)
            add_copy(Profile.objects.first())
            add_copy(RiskPolicy.objects.get(name="low"), name=f"class-{number}")
            revision = add_copy(
                ProfileRevision.objects.order_by("number").first(), number=number, evaluation=evaluation, base_model=base_model
            )
            CoveredForm.objects.create(revision=revision, base_model=BaseModel.objects.first(), verdict="equal", worst="0")
            person = create_user(f"person-{number}", roles=["approver", "operator"], actor="tests")
            add_copy(GateSet.objects.first(), version=number)
            add_copy(Waiver.objects.first(), asked_by=person, asked_by_person=person.pk)
            for position, first in enumerate([revision, ProfileRevision.objects.order_by("number").first()]):
                add_copy(Component.objects.first(), revision=first, position=number + position, vector=vector)
                add_copy(Approval.objects.first(), revision=first, reviewer=person, reviewer_person=person.pk)
            tenant = add_copy(Tenant.objects.first(), name=f"tenant-{number}")
            add_copy(TenantFlag.objects.first(), tenant=tenant, revision=revision, changed_by=person)
            environment = add_copy(Environment.objects.first(), name=f"environment-{number}")
            add_copy(Snapshot.objects.first(), environment=environment)
            add_copy(Kill.objects.first(), engaged_by=person, tenant=tenant)
            node = add_copy(ServingNode.objects.first(), name=f"node-{number}", environment=environment, token_sha256=uuid4().hex * 2)
            add_copy(NodeReport.objects.first(), node=node)
            add_copy(NodeReport.objects.first())
            add_copy(Notification.objects.first())
            add_copy(Proposal.objects.first(), vector=vector)
            for user in User.objects.filter(username__in=["mary", "reader"]):
                issue_token(user, name=f"t{number}", actor="tests")
