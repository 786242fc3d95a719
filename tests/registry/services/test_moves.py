"""An environment moves to another fingerprint: what depended on the old one stops steering with it, and never comes back by itself."""

from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from registry.audit import Action
from registry.errors import TransitionRefused
from registry.models import AuditEvent, BaseModel, EnvironmentBaseModel, Notification, ProfileRevision, RevisionState, TenantFlag
from registry.reads.steering import head_snapshot
from registry.services.base_model_moves import move_environment
from registry.services.base_models import register_base_model
from registry.services.flags import ArmSpec, set_flag
from registry.services.tenants import create_environment
from registry.snapshots import read_snapshot
from registry.snapshots.compile import compile_content
from tests.support.files import write_model_folder
from tests.support.refusals import refuses
from tests.support.steering import put, reason_for


@pytest.fixture
def new_files(model_root, base_model, ada) -> BaseModel:
    """The same model with another chat template: registered, and served nowhere yet."""
    folder = write_model_folder(model_root / "harbor-2")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return register_base_model("harbor-support", source="harbor-2", actor=ada)


@pytest.fixture
def staging(oscar, base_model):
    return create_environment("staging", actor=oscar)


def served_by(environment) -> list[str]:
    return [model.fingerprint for model in read_snapshot(head_snapshot(environment)).base_models]


def state_of(revision: ProfileRevision) -> str:
    return ProfileRevision.objects.get(pk=revision.pk).state


def test_registering_publishes_nothing_until_an_operator_serves_it(production, model_root, ada, oscar):
    head = head_snapshot(production)
    registered = register_base_model("harbor-support", source="harbor", actor=ada)
    assert head_snapshot(production) == head
    move = move_environment(production, base_model=registered, actor=oscar)
    assert (move.previous, move.flags_off, move.proposals) == (None, [], [])
    assert served_by(production) == [registered.fingerprint]


def test_a_new_fingerprint_is_on_record_and_moves_nobody(flag_on, production, new_files, base_model):
    assert served_by(production) == [base_model.fingerprint]
    assert reason_for(production, "harbor") == "flag_on"
    event = AuditEvent.objects.filter(action=Action.BASE_MODEL_REGISTERED).order_by("seq").last()
    assert b'"changes":["chat template: chat_template.jinja changed"]' in bytes(event.body)


def test_a_new_environment_begins_with_the_newest_fingerprint(new_files, staging):
    assert served_by(staging) == [new_files.fingerprint]


def test_a_move_takes_out_of_the_snapshot_what_depended_on_the_old_files(flag_on, production, new_files, approved, oscar):
    before = production.snapshots.count()
    move = move_environment(production, base_model=new_files, actor=oscar)
    assert production.snapshots.count() == before + 1
    assert served_by(production) == [new_files.fingerprint]
    assert reason_for(production, "harbor") == "no_flag"
    assert (move.changes, [flag.pk for flag in move.flags_off], [revision.pk for revision in move.invalidated]) == (
        ["chat template: chat_template.jinja changed"],
        [flag_on.pk],
        [approved.pk],
    )


def test_what_no_environment_can_use_any_more_is_invalidated_with_the_reason(flag_on, production, new_files, approved, oscar):
    move_environment(production, base_model=new_files, actor=oscar)
    approved.refresh_from_db()
    assert approved.state == "invalidated"
    for part in ("production moved harbor-support from", "chat template: chat_template.jinja changed"):
        assert part in approved.invalidated_reason
    flag_on.refresh_from_db()
    assert (flag_on.enabled, flag_on.changed_by, flag_on.reason) == (False, oscar, approved.invalidated_reason)


def test_a_revision_that_another_environment_still_serves_stands(flag_on, staging, production, new_files, approved, oscar):
    # Staging was made before the new files, so that both serve the old ones.
    move_environment(staging, base_model=new_files, actor=oscar)
    assert state_of(approved) == "approved"
    assert reason_for(production, "harbor") == "flag_on"
    move_environment(production, base_model=new_files, actor=oscar)
    assert state_of(approved) == "invalidated"


def test_a_submitted_revision_is_invalidated_and_a_draft_stays(production, new_files, submitted, component, profile, ada, oscar):
    from registry.services.profiles import draft_revision

    draft = draft_revision(profile, components=[component], author=ada)
    move_environment(production, base_model=new_files, actor=oscar)
    assert (state_of(submitted), state_of(draft)) == ("invalidated", "draft")


def test_moving_back_revives_nothing(flag_on, production, new_files, base_model, approved, harbor, oscar):
    move_environment(production, base_model=new_files, actor=oscar)
    back = move_environment(production, base_model=base_model, actor=oscar)
    assert served_by(production) == [base_model.fingerprint]
    assert (state_of(approved), back.invalidated, back.flags_off) == ("invalidated", [], [])
    assert reason_for(production, "harbor") == "no_flag"
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "FLAG_NOT_APPROVED"):
        put(production, harbor, approved, oscar)


def test_where_a_revision_still_stands_moving_back_leaves_its_flag_off_until_somebody_turns_it_on(
    production, harbor, staging, new_files, base_model, approved, oscar
):
    put(staging, harbor, approved, oscar)
    move_environment(staging, base_model=new_files, actor=oscar)
    move_environment(staging, base_model=base_model, actor=oscar)
    assert (state_of(approved), reason_for(staging, "harbor")) == ("approved", "no_flag")
    put(staging, harbor, approved, oscar)
    assert reason_for(staging, "harbor") == "flag_on"


def test_a_flag_with_an_arm_for_the_old_files_goes_off_as_a_whole(production, harbor, flag_on, approved, new_files, oscar):
    arms = [ArmSpec("warm", 1, approved), ArmSpec("control", 1, None, Decimal(0))]
    set_flag(production, harbor, enabled=True, revision=approved, arms=arms, reason="test", actor=oscar)
    assert [flag.pk for flag in move_environment(production, base_model=new_files, actor=oscar).flags_off] == [flag_on.pk]
    assert reason_for(production, "harbor") == "no_flag"


def test_moving_to_what_is_served_changes_and_records_nothing(flag_on, production, base_model, oscar):
    before = AuditEvent.objects.count(), production.snapshots.count()
    move = move_environment(production, base_model=base_model, actor=oscar)
    assert (move.previous, move.flags_off) == (base_model, [])
    assert (AuditEvent.objects.count(), production.snapshots.count()) == before
    assert TenantFlag.objects.get(pk=flag_on.pk).enabled


def test_a_flag_is_not_turned_on_for_files_that_are_not_served(production, staging, new_files, approved, harbor, oscar):
    move_environment(staging, base_model=new_files, actor=oscar)
    with pytest.raises(TransitionRefused, match=f"staging serves {new_files.fingerprint[:12]} of it") as refused:
        put(staging, harbor, approved, oscar)
    assert refused.value.code == "BASE_MODEL_NOT_SERVED"
    assert put(staging, harbor, approved, oscar, enabled=False).enabled is False


def test_a_flag_left_on_past_the_service_does_not_steer_on_other_files(flag_on, production, staging, new_files, approved, oscar):
    move_environment(production, base_model=new_files, actor=oscar)
    TenantFlag.objects.update(enabled=True)
    approved.refresh_from_db()
    assert approved.state == RevisionState.APPROVED
    assert not compile_content(production).tenants


def test_author_owner_and_whoever_set_the_flag_are_told_why(flag_on, production, new_files, approved, ada, oscar, grace):
    move_environment(production, base_model=new_files, actor=grace)
    texts = {told.person.username: told.text for told in Notification.objects.filter(object_type__in=["profilerevision", "basemodel"])}
    assert texts["ada"].startswith("harbor-empathy r1 is invalidated: production moved harbor-support")
    assert texts["oscar"].endswith("Turned off: harbor (harbor-empathy r1)")
    assert "grace" not in texts


def test_environments_move_one_by_one(flag_on, production, staging, new_files, approved, oscar):
    move_environment(production, base_model=new_files, actor=oscar)
    assert served_by(production) == [new_files.fingerprint]
    assert served_by(staging) != [new_files.fingerprint]
    move_environment(staging, base_model=new_files, actor=oscar)
    assert served_by(staging) == [new_files.fingerprint]
    assert state_of(approved) == "invalidated"


def test_each_flag_turned_off_is_an_event_of_its_own(flag_on, production, atlas, approved, new_files, oscar):
    put(production, atlas, approved, oscar)
    move_environment(production, base_model=new_files, actor=oscar)
    events = AuditEvent.objects.filter(action=Action.FLAG_CHANGED).order_by("seq")
    assert [(event.tenant, event.object_version) for event in events] == [("harbor", 1), ("atlas", 1), ("atlas", 2), ("harbor", 2)]


def test_a_move_of_many_flags_takes_as_many_queries_as_a_move_of_one(production, approved, new_files, oscar, django_assert_max_num_queries):
    from registry.models import Tenant

    tenants = Tenant.objects.bulk_create(Tenant(name=f"t{number}") for number in range(50))
    TenantFlag.objects.bulk_create(
        TenantFlag(
            environment=production, tenant=tenant, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="x", changed_by=oscar
        )
        for tenant in tenants
    )
    with django_assert_max_num_queries(60):
        assert len(move_environment(production, base_model=new_files, actor=oscar).flags_off) == 50


def test_database_refuses_two_fingerprints_of_one_name_in_an_environment(production, base_model, new_files, oscar):
    with refuses("environment_serves_one_fingerprint_of_a_name"):
        EnvironmentBaseModel.objects.create(environment=production, name="harbor-support", base_model=new_files, moved_by=oscar)


def test_database_refuses_a_base_model_served_under_another_name(production, base_model):
    with transaction.atomic(), connection.cursor() as cursor:
        EnvironmentBaseModel.objects.update(name="other")
        with pytest.raises(IntegrityError, match="environment_serves_a_base_model_under_its_own_name"):
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        transaction.set_rollback(True)
