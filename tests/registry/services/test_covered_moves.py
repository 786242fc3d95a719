"""What an environment serves, and what a move takes with it, where revisions cover forms of what they were measured on."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from registry.console.base_models import _view
from registry.errors import TransitionRefused
from registry.manifests.kinds.raising import change_served, plan_move
from registry.models import TenantFlag
from registry.services.approvals import approve_revision
from registry.services.base_model_moves import move_environment
from registry.services.flags import ArmSpec, set_flag
from registry.services.freezes import declare_freeze
from registry.services.profiles import draft_revision, submit_revision
from registry.services.tenants import create_environment
from registry.snapshots import read_head
from registry.snapshots.explain import explain_request
from tests.support.families import add_form
from tests.support.steering import put, reason_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def halves(base_model, model_root, ada):
    """A form of the base model, registered under its name: an environment serves one of the two."""
    return add_form(base_model, "harbor-support", model_root, ada, verdict="another dtype", worst="0.0039", source="harbor-halves")


@pytest.fixture
def approve(profile, component, evaluation, ada, grace):
    """A revision for the base model that covers these forms, approved."""

    def approve(*forms):
        revision = draft_revision(profile, components=[component], covers=forms, author=ada)
        revision = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
        digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
        return approve_revision(revision.pk, reviewer=grace, comment="", **digests)

    return approve


@pytest.fixture
def covering(approve, halves):
    """For the base model and the form."""
    return approve(halves)


@pytest.fixture
def production(oscar, base_model):
    """Made before the form, so that it serves what was measured."""
    return create_environment("production", actor=oscar)


def test_a_snapshot_lists_the_fingerprints_that_a_profile_covers(production, covering, halves, base_model, harbor, oscar):
    put(production, harbor, covering, oscar)
    _, snapshot = read_head(production)
    [profile] = snapshot.profiles
    assert (profile.base_model, profile.covers) == (base_model.fingerprint, (halves.fingerprint,))
    assert "covered_forms" in snapshot.capabilities
    assert [profile.is_for(each.fingerprint) for each in (base_model, halves)] == [True, True]


def test_a_move_to_a_covered_form_leaves_its_flags_on_and_invalidates_nothing(production, covering, halves, base_model, harbor, oscar):
    flag = put(production, harbor, covering, oscar)
    for wanted in (halves, base_model, halves):
        move = move_environment(production, base_model=wanted, actor=oscar)
        assert (move.flags_off, move.invalidated) == ([], [])
        assert (reason_for(production, "harbor"), TenantFlag.objects.get(pk=flag.pk).enabled) == ("flag_on", True)
        assert [each.fingerprint for each in read_head(production)[1].base_models] == [wanted.fingerprint]


def test_a_flag_is_turned_on_where_a_covered_form_is_served_and_not_where_any_other_is(
    production, covering, halves, base_model, model_root, harbor, ada, oscar
):
    move_environment(production, base_model=halves, actor=oscar)
    assert put(production, harbor, covering, oscar).enabled
    other = add_form(base_model, "harbor-support", model_root, ada, verdict="equal", worst="0", source="not-covered")
    move_environment(production, base_model=other, actor=oscar)
    assert reason_for(production, "harbor") == "no_flag"
    covering.refresh_from_db()
    assert covering.state == "invalidated"


def test_what_an_environment_serves_a_covered_form_for_still_stands(production, covering, halves, new_files, oscar):
    staging = create_environment("staging", actor=oscar)
    move_environment(staging, base_model=halves, actor=oscar)
    move_environment(production, base_model=new_files, actor=oscar)
    covering.refresh_from_db()
    assert covering.state == "approved"
    move_environment(staging, base_model=new_files, actor=oscar)
    covering.refresh_from_db()
    assert covering.state == "invalidated"


@pytest.fixture
def new_files(model_root, ada, base_model):
    """Other files of the same name that nothing relates."""
    from registry.services.base_models import register_base_model
    from tests.support.families import write_other_folder

    write_other_folder(model_root, "unrelated")
    return register_base_model("harbor-support", source="unrelated", actor=ada)


def test_a_flag_goes_off_with_what_was_measured_though_a_form_of_it_is_served_under_another_name(
    production, approve, new_files, base_model, harbor, oscar, model_root, ada
):
    """Else moving back would steer the old files again, and nobody would have looked."""
    copy = add_form(base_model, "harbor-copy", model_root, ada, verdict="equal", worst="0")
    move_environment(production, base_model=copy, actor=oscar)
    revision = approve(copy)
    put(production, harbor, revision, oscar)
    assert len(move_environment(production, base_model=new_files, actor=oscar).flags_off) == 1
    assert move_environment(production, base_model=base_model, actor=oscar).invalidated == []
    assert reason_for(production, "harbor") == "no_flag"
    assert put(production, harbor, revision, oscar).enabled


def test_of_two_arms_both_must_cover_the_new_files(production, covering, halves, also_approved, harbor, oscar):
    arms = [ArmSpec("warm", 1, covering), ArmSpec("short", 1, also_approved), ArmSpec("control", 1, None, Decimal(0))]
    set_flag(production, harbor, enabled=True, revision=covering, arms=arms, reason="test", actor=oscar)
    assert len(move_environment(production, base_model=halves, actor=oscar).flags_off) == 1


def test_a_freeze_refuses_to_serve_a_form_that_more_nodes_would_be_steered_with(production, covering, halves, harbor, oscar, grace):
    put(production, harbor, covering, oscar)
    plan = plan_move(production, base_model=halves, actor=oscar)
    assert plan.raises == f"harbor-empathy r1 would steer nodes with harbor-support {halves.fingerprint[:12]}, and steers none of these now"
    assert f"harbor-support ({halves.fingerprint[:12]}): another dtype, off by at most 0.0039" in str(plan.risks)
    declare_freeze(production, ends_at=timezone.now() + timedelta(hours=1), reason="launch", actor=oscar)
    with pytest.raises(TransitionRefused) as refused:
        change_served(production, base_model=halves, reason="x", actor=oscar, confirmed=plan.digest)
    assert refused.value.code == "FREEZE"


def test_the_page_of_a_form_counts_the_flags_that_a_move_turns_off(production, covering, halves, new_files, harbor, oscar):
    put(production, harbor, covering, oscar)
    assert [_view(production, each).flags_on for each in (halves, new_files)] == [0, 1]


def test_an_explanation_says_which_forms_are_steered_though_nothing_was_measured_on_them(production, covering, halves, harbor, oscar):
    put(production, harbor, covering, oscar)
    move_environment(production, base_model=halves, actor=oscar)
    [step] = [step for step in explain_request(production, "harbor", "").rules if step.rule == "base model"]
    assert f"harbor-support {halves.fingerprint[:12]}, a form on which nothing was measured" in step.says
