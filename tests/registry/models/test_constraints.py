"""The database is the last reviewer: each rule holds even past the service that checks it first."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from registry.models import (
    Approval,
    AuditEvent,
    Component,
    ContrastSet,
    Decision,
    Evaluation,
    Job,
    JobState,
    Kill,
    NodeReport,
    ProfileRevision,
    RevisionComment,
    RevisionState,
    Snapshot,
    SteeringVector,
    TenantFlag,
)
from tests.support.refusals import refuses

DEMANDS = {"approvals_needed": 1, "reviewer_roles": ["approver"], "approval_valid_days": 30}


def test_database_refuses_self_approval_even_past_the_service(submitted, ada):
    with refuses("approval_reviewer_is_not_author"):
        Approval.objects.create(
            revision=submitted,
            revision_digest=submitted.digest,
            evidence_digest=submitted.evaluation.digest,
            author=ada,
            author_person=ada.pk,
            reviewer=ada,
            reviewer_person=ada.pk,
            roles=[],
            decision=Decision.APPROVE,
        )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"alpha": Decimal("0.7")}, "component_alpha_is_inside_its_range"),
        ({"alpha": Decimal("-0.1")}, "component_alpha_is_inside_its_range"),
        ({"alpha_max": Decimal(1001)}, "component_alpha_is_inside_its_range"),
        ({"unit": "furlong"}, "component_unit_is_known"),
        ({"operator": "rotate"}, "component_operator_is_known"),
        ({"scope": "some"}, "component_scope_is_known"),
        ({"operator": "ablate", "alpha_min": Decimal("-0.5")}, "component_strength_is_between_0_and_1"),
        ({"operator": "ablate", "alpha_max": Decimal("1.5")}, "component_strength_is_between_0_and_1"),
        ({"operator": "clamp"}, "component_has_a_bound_exactly_when_clamp"),
        ({"operator": "clamp", "bound": Decimal(0)}, "component_has_a_bound_exactly_when_clamp"),
        ({"bound": Decimal(1)}, "component_has_a_bound_exactly_when_clamp"),
        ({"schedule": {}}, "component_schedule_has_its_parameters"),
        ({"schedule": {"kind": "sawtooth"}}, "component_schedule_has_its_parameters"),
        ({"schedule": {"kind": "linear"}}, "component_schedule_has_its_parameters"),
        ({"schedule": {"kind": "linear", "tokens": 0}}, "component_schedule_has_its_parameters"),
        ({"schedule": {"kind": "linear", "tokens": "8"}}, "component_schedule_has_its_parameters"),
        ({"schedule": {"kind": "linear", "tokens": True}}, "component_schedule_has_its_parameters"),
        ({"condition": {}}, "component_condition_is_known"),
        ({"condition": {"kind": "moon"}}, "component_condition_is_known"),
    ],
)
def test_database_refuses_a_component_that_breaks_a_rule(draft, change, name):
    with refuses(name):
        Component.objects.filter(revision=draft).update(**change)


def test_database_refuses_a_coefficient_that_is_not_a_number(draft):
    with refuses("component_alpha_is_inside_its_range"), connection.cursor() as cursor:
        cursor.execute("UPDATE registry_component SET alpha = 'NaN' WHERE revision_id = %s", [draft.pk])


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"state": RevisionState.SUBMITTED, "demands": DEMANDS}, "revision_has_digest_and_evidence_exactly_when_not_draft"),
        ({"digest": "a" * 64}, "revision_has_digest_and_evidence_exactly_when_not_draft"),
        ({"demands": DEMANDS}, "revision_keeps_what_was_demanded_exactly_when_not_draft"),
        ({"stale_policy": "hope"}, "revision_stale_policy_is_known"),
    ],
)
def test_database_refuses_a_revision_that_breaks_a_rule(draft, change, name):
    with refuses(name):
        ProfileRevision.objects.filter(pk=draft.pk).update(**change)


def test_database_refuses_two_revisions_of_one_number(draft):
    draft.pk = None
    with refuses("revision_number_is_unique"):
        draft.save(force_insert=True)


def test_database_refuses_a_second_look_at_the_test_split(evaluation):
    with refuses("evaluation_opens_the_test_split_once|evaluation_job_id_key"):
        Evaluation.objects.create(
            vector=evaluation.vector,
            job=evaluation.job,
            alpha=evaluation.alpha,
            unit=evaluation.unit,
            digest="f" * 64,
            metrics={},
            gates=[],
            verdict="pass",
        )


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"state": JobState.RUNNING}, "job_has_a_lease_exactly_when_running"),
        ({"lease_expires_at": timezone.now()}, "job_has_a_lease_exactly_when_running"),
        ({"result_digest": ""}, "job_has_a_result_exactly_when_succeeded"),
        ({"error_code": "OOPS"}, "job_has_an_error_exactly_when_failed"),
        ({"attempt": 4}, "job_attempts_are_bounded"),
        ({"vector": None}, "job_has_the_inputs_of_its_kind"),
    ],
)
def test_database_refuses_a_job_that_breaks_a_rule(evaluation, change, name):
    with refuses(name):
        Job.objects.filter(pk=evaluation.job_id).update(**change)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"norm": Decimal(0)}, "vector_norms_are_positive_numbers"),
        ({"mean_residual_norm": Decimal(-1)}, "vector_norms_are_positive_numbers"),
        ({"site": "cloud"}, "vector_site_is_known"),
        ({"dtype": "F64"}, "vector_dtype_is_known"),
        ({"proposed_alpha": Decimal(1)}, "vector_proposal_has_a_unit"),
    ],
)
def test_database_refuses_a_vector_that_breaks_a_rule(vector, change, name):
    with refuses(name):
        SteeringVector.objects.filter(pk=vector.pk).update(**change)


def test_database_refuses_a_contrast_set_of_one_pair(contrast_set):
    with refuses("contrast_set_has_two_pairs"):
        ContrastSet.objects.filter(pk=contrast_set.pk).update(pair_count=1)


@pytest.mark.parametrize("scale", [Decimal("-0.1"), Decimal("10.1")])
def test_database_refuses_a_scale_that_turns_steering_round_or_multiplies_it_beyond_ten(flag_on, scale):
    with refuses("flag_alpha_scale_is_between_0_and_10"):
        TenantFlag.objects.filter(pk=flag_on.pk).update(alpha_scale=scale)


def test_database_refuses_a_second_flag_of_one_tenant_and_route(flag_on):
    flag_on.pk = None
    with refuses("flag_once_per_environment_tenant_and_route"):
        flag_on.save(force_insert=True)


@pytest.mark.parametrize(
    "origin",
    [
        {"engaged_by": None},
        {"engaged_by": None, "issuer": "night-guard", "statement_digest": "a" * 64},
        {"issuer": "hub", "statement_digest": "a" * 64},
    ],
)
def test_database_refuses_a_kill_of_nobody_that_no_statement_brought(harbor, oscar, origin):
    with refuses("kill_is_engaged_by_a_person_or_adopted_from_a_statement"):
        Kill.objects.create(**{"kind": "tenant", "target": "harbor", "reason": "x", "engaged_by": oscar, **origin})


def test_database_refuses_a_kill_lifted_by_one_person_or_aimed_at_nothing(harbor, oscar):
    with refuses("kill_names_its_target"), transaction.atomic():
        Kill.objects.create(kind="tenant", reason="x", engaged_by=oscar)
    for wrong in (
        {"kind": "everything", "target": "everything"},
        {"kind": "environment", "target": "production", "environment_name": "staging"},
        {"kind": "profile", "target": "harbor", "tenant": harbor},
    ):
        with refuses("kill_names_exactly_its_target"), transaction.atomic():
            Kill.objects.create(**wrong, reason="x", engaged_by=oscar)
    kill = Kill.objects.create(kind="tenant", target="harbor", tenant=harbor, reason="x", engaged_by=oscar)
    with refuses("kill_is_lifted_by_two_people"), transaction.atomic():
        Kill.objects.filter(pk=kill.pk).update(lift_requested_by=oscar, lifted_by=oscar, lifted_at=timezone.now())
    with refuses("kill_is_lifted_by_two_people"):
        Kill.objects.filter(pk=kill.pk).update(lifted_by=oscar, lifted_at=timezone.now())


def test_database_refuses_a_refusal_without_a_code(node):
    with refuses("node_report_nack_has_a_code"):
        NodeReport.objects.create(node=node[0], result="NACK")


def test_database_refuses_two_snapshots_of_one_revision(production):
    snapshot = production.snapshots.get()
    snapshot.pk = None
    with refuses("snapshot_revision_is_unique"):
        snapshot.save(force_insert=True)


def test_database_refuses_a_snapshot_that_never_was_valid(production):
    snapshot = production.snapshots.get()
    snapshot.pk, snapshot.revision, snapshot.expires_at = None, 2, snapshot.issued_at - timedelta(seconds=1)
    with refuses("snapshot_expires_after_it_is_issued"):
        snapshot.save(force_insert=True)


@pytest.mark.parametrize("model", [AuditEvent, Approval, Snapshot])
def test_database_refuses_to_change_or_delete_what_is_append_only(flag_on, model):
    assert model.objects.exists()
    columns = {AuditEvent: {"actor_name": "mallory"}, Approval: {"comment": "never said"}, Snapshot: {"cause": "nothing"}}
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        model.objects.update(**columns[model])
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608  (a table's own name)


# Tables that have a trigger before the DELETE of a row: bits 0 (row), 1 (before) and 3 (delete) of its type.
GUARDED_AGAINST_DELETE = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 11 = 11"


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_database_refuses_to_empty_every_table_that_refuses_a_delete(flag_on, role):
    with connection.cursor() as cursor:
        # What the fixtures left to the end of the transaction would refuse it for another reason.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(GUARDED_AGAINST_DELETE)
        tables = [table for (table,) in cursor.fetchall()]
        assert {model._meta.db_table for model in (AuditEvent, Approval, Snapshot, Kill, Component, RevisionComment)} <= set(tables)
        cursor.execute("SELECT set_config('session_replication_role', %s, true)", [role])
        for table in tables:
            with pytest.raises(DatabaseError, match=rf"{table} is never emptied"), transaction.atomic():
                cursor.execute(f"TRUNCATE {table} CASCADE")


def test_database_refuses_to_empty_what_an_append_only_table_refers_to(flag_on):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(DatabaseError, match="is never emptied"):
            cursor.execute("TRUNCATE registry_user CASCADE")
