"""Plan and apply: what is looked at is what is done, once, whole, and by its owner."""

from decimal import Decimal

import pytest

from registry.errors import TransitionRefused
from registry.manifests.documents import ManifestsConflict, ManifestsRefused
from registry.manifests.risks import Risks
from registry.models import (
    AppliedPlan,
    AuditEvent,
    ContrastSet,
    Declaration,
    Environment,
    Job,
    ProfileRevision,
    Snapshot,
    Tenant,
    TenantFlag,
)
from registry.services.jobs import claim_job, fail_job
from registry.services.policies import change_policy
from steernode.errors import AlphaError, SteerError
from tests.support.declaring import actions, flag, manifest, profile_manifest
from tests.support.files import lines, make_pair, make_suite, pairs_file, rubric_file, vector_file


def refusal(call, *arguments, **options):
    with pytest.raises(SteerError) as caught:
        call(*arguments, **options)
    return caught.value


@pytest.fixture
def stored():
    """The digest of bytes in the blob store."""
    from registry.blobs import put_blob

    return lambda data: {"digest": put_blob(data)}


@pytest.fixture
def world(stored):
    """Harbor Support as manifests, from the model to the flag's tenant."""
    return [
        manifest("Environment", "production"),
        manifest("Tenant", "harbor", title="Harbor Support"),
        manifest("BaseModel", "harbor-support", source="harbor"),
        manifest("ContrastSet", "empathy", axis="empathy", pairs=stored(pairs_file())),
        manifest("EvalSuite", "tickets", kind="behaviour", items=stored(make_suite("behaviour")), rubric=stored(rubric_file())),
        manifest("EvalSuite", "facts", kind="factual", items=stored(make_suite("factual"))),
        manifest("EvalSuite", "refusals", kind="safety", items=stored(make_suite("safety"))),
        profile_manifest("harbor-empathy"),
        manifest(
            "SteeringVector",
            "harbor-empathy",
            recipe={"baseModel": "harbor-support", "contrastSet": "empathy", "suites": ["tickets", "facts", "refusals"]},
        ),
    ]


def test_a_second_apply_is_a_no_op(plan, apply, world):
    assert set(actions(plan(world)).values()) == {"create"}
    assert len(apply(world).changes) == 9
    again = plan(world)
    assert set(actions(again).values()) == {"no-op"}
    events = AuditEvent.objects.count()
    apply(world)
    assert (AuditEvent.objects.count(), AppliedPlan.objects.count()) == (events, 1)
    assert Job.objects.get().recipe["vector"] == "harbor-empathy"


def test_one_apply_is_one_snapshot_revision_of_each_environment(apply, world):
    apply(world)
    assert [snapshot.revision for snapshot in Snapshot.objects.all()] == [1]
    assert AuditEvent.objects.filter(action="manifests.applied").count() == 1


def test_a_plan_changes_nothing(plan, world):
    plan(world)
    assert not Environment.objects.exists()
    assert not AuditEvent.objects.exclude(action="user.created").exists()


def test_a_stale_plan_is_refused_and_nothing_of_it_is_applied(plan, apply, harbor):
    documents = [manifest("Tenant", "harbor", title="Harbor"), manifest("Tenant", "atlas")]
    digest = plan(documents).digest
    Tenant.objects.update(title="changed meanwhile")
    assert refusal(apply, documents, digest=digest).code == "PLAN_STALE"
    assert Tenant.objects.get().title == "changed meanwhile"


def test_a_plan_of_other_manifests_is_stale(plan, apply):
    digest = plan([manifest("Tenant", "harbor")]).digest
    assert refusal(apply, [manifest("Tenant", "atlas")], digest=digest).code == "PLAN_STALE"


def test_a_plan_made_with_other_options_is_stale(plan, apply):
    documents = [manifest("Tenant", "harbor", manager="git/a")]
    digest = plan(documents).digest
    assert refusal(apply, documents, digest=digest, prune=True, max_prune_percent=100).code == "PLAN_STALE"


def test_a_plan_is_applied_once(plan, apply):
    documents = [manifest("Tenant", "harbor")]
    digest = plan(documents).digest
    apply(documents, digest=digest)
    error = refusal(apply, documents, digest=digest)
    assert (error.code, isinstance(error, TransitionRefused)) == ("PLAN_APPLIED", True)


def test_a_plan_made_on_an_empty_record_is_not_replayed_once_the_record_is_empty_again(plan, apply):
    documents = [manifest("Tenant", "harbor", manager="git/a"), manifest("Tenant", "atlas", manager="git/a")]
    digest = plan(documents).digest
    apply(documents, digest=digest)
    apply([manifest("Tenant", "keeper", manager="git/a")])
    apply([manifest("Tenant", "keeper", manager="git/a")], prune=True, max_prune_percent=100)
    assert [tenant.name for tenant in Tenant.objects.all()] == ["keeper"]
    assert refusal(apply, documents, digest=digest).code == "PLAN_APPLIED"
    assert plan(documents).digest != digest
    apply(documents)
    assert Declaration.objects.get(name="atlas").generation == 3


def test_the_same_change_can_be_made_again_after_it_was_undone(apply):
    for team in ("a", "b", "a"):
        apply([manifest("Tenant", "harbor", labels={"team": team})])
    assert Declaration.objects.get().labels == {"team": "a"}


def test_generation_moves_with_the_spec_and_with_nothing_else(apply):
    apply([manifest("Tenant", "harbor", title="A")])
    apply([manifest("Tenant", "harbor", title="A", labels={"team": "trust"})])
    assert Declaration.objects.get().generation == 1
    Tenant.objects.update(title="edited in the console")
    apply([manifest("Tenant", "harbor", title="A", labels={"team": "trust"})])
    assert (Tenant.objects.get().title, Declaration.objects.get().generation) == ("A", 1)
    apply([manifest("Tenant", "harbor", title="B", labels={"team": "trust"})])
    assert Declaration.objects.get().generation == 2


def test_a_failure_half_way_leaves_nothing(apply, stored):
    documents = [
        manifest("Tenant", "harbor"),
        profile_manifest(),
        manifest("ContrastSet", "broken", axis="empathy", pairs=stored(b"not JSON lines\n")),
    ]
    error = refusal(apply, documents)
    assert error.code.startswith("CONTRAST_")
    assert error.errors[0]["field"] == "documents.2.spec"
    assert not Tenant.objects.exists()
    assert not Declaration.objects.exists()
    assert not AuditEvent.objects.exclude(action="user.created").exists()


def test_a_flag_that_is_refused_takes_everything_else_back(apply, draft, production, harbor):
    error = refusal(apply, [manifest("Tenant", "atlas"), flag()])
    assert (error.code, error.errors[0]["field"]) == ("FLAG_NOT_APPROVED", "documents.1.spec")
    assert not Tenant.objects.filter(name="atlas").exists()


def test_two_managers_of_one_object_conflict_until_one_is_forced(plan, apply):
    apply([manifest("Tenant", "harbor", manager="git/a", title="A")])
    theirs = [manifest("Tenant", "harbor", manager="git/b", title="A")]
    for documents in (theirs, [manifest("Tenant", "harbor", title="A")]):
        error = refusal(plan, documents)
        assert (error.code, error.errors[0]["field"]) == ("OWNERSHIP_CONFLICT", "documents.0.metadata.manager")
        assert isinstance(error, ManifestsConflict)
    apply(theirs, force_conflicts=True)
    assert Declaration.objects.get().manager == "git/b"
    event = AuditEvent.objects.filter(action="manifests.applied").order_by("-seq")[0]
    assert b'"taken_over":["Tenant harbor from git/a"]' in bytes(event.body)


def test_an_object_that_nobody_claimed_is_adopted(apply, harbor):
    apply([manifest("Tenant", "harbor", manager="git/a", title="Harbor Support")])
    assert Declaration.objects.get().manager == "git/a"


# -- Pruning --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ten_tenants(apply):
    documents = [manifest("Tenant", f"t{number}", manager="git/a") for number in range(10)]
    apply(documents)
    return documents


def test_nothing_is_pruned_unless_asked(apply, ten_tenants):
    apply(ten_tenants[:1])
    assert Tenant.objects.count() == 10


def test_pruning_deletes_what_its_manager_no_longer_declares(plan, apply, ten_tenants):
    apply([manifest("Tenant", "theirs", manager="git/b"), manifest("Tenant", "nobodys")])
    kept = ten_tenants[1:]
    assert actions(plan(kept, prune=True))["Tenant t0"] == "delete"
    apply(kept, prune=True)
    assert sorted(Tenant.objects.values_list("name", flat=True)) == sorted([f"t{n}" for n in range(1, 10)] + ["theirs", "nobodys"])
    assert set(actions(plan(kept, prune=True)).values()) == {"no-op"}


def test_pruning_stops_at_its_percentage(plan, ten_tenants):
    assert refusal(plan, ten_tenants[2:], prune=True).code == "PRUNE_TOO_MUCH"
    assert len(plan(ten_tenants[2:], prune=True, max_prune_percent=20).changes) == 2


def test_applying_nothing_is_refused_with_and_without_pruning(plan, ten_tenants):
    for prune in (False, True):
        assert refusal(plan, [], prune=prune, max_prune_percent=100).code == "MANIFEST_EMPTY"
    assert refusal(plan, [manifest("Tenant", "nobodys")], prune=True, max_prune_percent=100).code == "PRUNE_MANAGER"


def test_an_active_flag_is_disabled_before_it_is_pruned(plan, apply, approved, production):
    tenant, keeper = manifest("Tenant", "harbor", manager="git/a"), manifest("Tenant", "keeper", manager="git/a")
    apply([tenant, keeper, flag(manager="git/a")])
    for left in ([tenant, keeper], [keeper]):
        error = refusal(plan, left, prune=True, max_prune_percent=100)
        assert (error.code, isinstance(error, ManifestsConflict)) == ("PRUNE_ACTIVE", True)
    apply([tenant, keeper, flag(manager="git/a", enabled=False)])
    apply([keeper], prune=True, max_prune_percent=100)
    assert not TenantFlag.objects.exists()
    assert [row.name for row in Tenant.objects.all()] == ["keeper"]


def test_a_service_refuses_to_delete_an_active_flag_whoever_asks(flag_on, oscar):
    from registry.services.flags import delete_flag
    from registry.services.profiles import delete_profile
    from registry.services.tenants import delete_tenant

    assert refusal(delete_flag, flag_on.pk, actor=oscar).code == "FLAG_ON"
    assert refusal(delete_tenant, "harbor", actor=oscar).code == "TENANT_IN_USE"
    assert refusal(delete_profile, "harbor-empathy", actor=oscar).code == "PROFILE_IN_USE"


def test_what_is_sealed_is_retained(plan, apply, world):
    mine = [{**document, "metadata": {**document["metadata"], "manager": "git/a"}} for document in world]
    apply(mine)
    left = actions(plan([manifest("Tenant", "keeper", manager="git/a")], prune=True, max_prune_percent=100))
    assert {name for name, action in left.items() if action == "delete"} == {"Tenant harbor", "SteeringProfile harbor-empathy"}
    assert left["ContrastSet empathy"] == left["Environment production"] == left["BaseModel harbor-support"] == "retain"


# -- Sealed kinds and references ------------------------------------------------------------------------------------------------


def test_other_content_under_a_sealed_name_is_a_new_version(plan, apply, world, stored):
    apply(world)
    world[3]["spec"]["pairs"] = stored(pairs_file(6))
    found = plan(world)
    assert {name for name, action in actions(found).items() if action == "update"} == {
        "ContrastSet empathy",
        "SteeringVector harbor-empathy",
    }
    (change,) = next(step for step in found.changes if step.kind == "SteeringVector").changes
    assert (change.field, change.before, change.after) == ("spec.recipe.contrastSet", "empathy@1", "empathy@2")
    apply(world)
    assert ContrastSet.objects.filter(name="empathy").count() == 2
    assert set(actions(plan(world)).values()) == {"no-op"}


def test_what_was_an_earlier_version_is_not_sealed_again(plan, apply, world, stored):
    apply(world)
    first = world[3]["spec"]["pairs"]
    world[3]["spec"]["pairs"] = stored(pairs_file(6))
    apply(world)
    world[3]["spec"]["pairs"] = first
    error = refusal(plan, world)
    assert (error.code, error.errors[0]["field"]) == ("MANIFEST_SUPERSEDED", "documents.3.spec")


def test_a_reference_to_nothing_is_a_fault_where_it_stands(plan, production, harbor):
    documents = [
        manifest("SteeringVector", "v", recipe={"baseModel": "absent", "contrastSet": "absent@3", "suites": ["absent"]}),
        profile_manifest(revision={"components": [component("absent")]}),
        flag("staging/harbor"),
        flag(),
    ]
    error = refusal(plan, documents)
    assert isinstance(error, ManifestsRefused)
    assert {(fault["field"], fault["code"]) for fault in error.errors} == {
        ("documents.0.spec.recipe.baseModel", "MANIFEST_REFERENCE"),
        ("documents.0.spec.recipe.contrastSet", "MANIFEST_REFERENCE"),
        ("documents.0.spec.recipe.suites.0", "MANIFEST_REFERENCE"),
        ("documents.1.spec.revision.components.0.vector", "MANIFEST_REFERENCE"),
        ("documents.2.metadata.name", "MANIFEST_REFERENCE"),
        ("documents.2.spec.profile", "MANIFEST_REFERENCE"),
        ("documents.3.spec.profile", "MANIFEST_REFERENCE"),
    }


def test_files_that_hash_to_something_else_than_declared_are_not_registered(apply):
    error = refusal(apply, [manifest("BaseModel", "harbor-support", source="harbor", fingerprint="a" * 64)])
    assert (error.code, error.errors[0]["field"]) == ("MODEL_FINGERPRINT", "documents.0.spec.source")


# -- Profiles and their revisions -----------------------------------------------------------------------------------------------


def component(vector="empathy", alpha="0.50"):
    return {"vector": vector, "alpha": alpha, "alphaMin": "0", "alphaMax": "0.5", "unit": "mean_difference"}


def test_a_revision_is_drafted_and_edited_while_it_is_a_draft(plan, apply, base_model, contrast_set, stored, gitops):
    vector = manifest("SteeringVector", "empathy", **stored(vector_file(base_model.fingerprint, contrast_set.digest)))
    documents = [vector, profile_manifest(revision={"components": [component()]})]
    apply(documents)
    assert set(actions(plan(documents)).values()) == {"no-op"}
    documents[1] = profile_manifest(revision={"components": [component(alpha="0.4")]})
    apply(documents)
    draft = ProfileRevision.objects.get()
    assert str(draft.components.get().alpha.normalize()) == "0.4"


def test_a_draft_of_somebody_else_is_left_as_it_is_and_the_next_number_taken(apply, draft, gitops):
    apply([profile_manifest("harbor-empathy", intent="Warm billing replies.", revision={"components": [component(alpha="0.3")]})])
    assert [(row.number, row.author.username) for row in ProfileRevision.objects.order_by("number")] == [(1, "ada"), (2, "gitops")]


def test_a_revision_that_is_not_declared_is_left_alone(plan, draft):
    head = profile_manifest("harbor-empathy", intent="Warm billing replies.")
    assert set(actions(plan([head])).values()) == {"no-op"}


def test_a_profile_says_otherwise_only_until_something_was_submitted(plan, apply, draft):
    apply([profile_manifest("harbor-empathy", intent="Warmer.")])
    draft.profile.refresh_from_db()
    assert draft.profile.intent == "Warmer."


def test_a_profile_people_decided_on_stays_as_it_was_said(apply, submitted):
    error = refusal(apply, [profile_manifest("harbor-empathy", intent="Warmer.")])
    assert (error.code, error.errors[0]["field"]) == ("PROFILE_FIXED", "documents.0.spec")


def test_a_coefficient_beyond_every_cap_is_refused(apply, vector):
    wild = {**component(), "alpha": "3", "alphaMax": "3"}
    assert isinstance(refusal(apply, [profile_manifest(revision={"components": [wild]})]), AlphaError)


def test_a_plan_says_that_a_search_will_not_be_screened_and_refuses_one_whose_layers_nobody_chose(plan, apply, world, stored):
    world[3]["spec"]["pairs"] = stored(lines([make_pair(number) for number in range(20)]))
    apply(world[:-1])

    def search(layers):
        return [manifest("SteeringVector", "harbor-empathy", recipe=world[-1]["spec"]["recipe"] | {"layers": layers, "finalists": 1})]

    error = refusal(plan, search("all"))
    assert (error.errors[0]["code"], error.errors[0]["field"]) == ("SCREEN_PAIRS", "documents.0.spec.recipe")
    # Whoever lists all that there are has chosen them.
    for layers in ([0, 1], [0, 1, 2, 3]):
        planned = plan(search(layers))
        assert "SCREEN_OFF" in [risk.code for step in planned.steps for risk in Risks(planned).of(step)]
    apply(search([0, 1, 2, 3]))
    assert [notice["code"] for notice in Job.objects.get().notices] == ["SCREEN_OFF"]


def test_what_a_request_would_be_refused_for_is_a_fault_of_its_plan(plan, apply, world):
    apply([*world[:-1], profile_manifest("brevity", axis="brevity")])
    for said, code in (({"suites": ["tickets", "facts"]}, "SUITES_MISSING"), ({"profile": "brevity"}, "RECIPE_PROFILE_AXIS")):
        error = refusal(plan, [manifest("SteeringVector", "harbor-empathy", recipe=world[-1]["spec"]["recipe"] | said)])
        assert [(fault["code"], fault["field"]) for fault in error.errors] == [(code, "documents.0.spec.recipe")]


def test_whoever_only_labels_a_vector_is_not_told_of_a_job(plan, apply, world):
    apply(world)
    planned = plan([manifest("SteeringVector", "harbor-empathy", labels={"team": "billing"}, **world[-1]["spec"])])
    assert (actions(planned), Risks(planned).of(planned.steps[0])) == ({"SteeringVector harbor-empathy": "update"}, [])


def test_whether_a_vector_was_traced_makes_no_other_one_of_it(plan, apply, world):
    apply(world)
    traced = world[-1]["spec"]["recipe"] | {"trace": True}
    planned = plan([manifest("SteeringVector", "harbor-empathy", recipe=traced)])
    assert set(actions(planned).values()) == {"no-op"}
    assert planned.steps[0].note.startswith("spec.recipe.trace is said to the job")


@pytest.mark.power
def test_a_plan_refuses_a_recipe_whose_verdict_is_certain_and_says_what_one_that_stops_before_it_lacks(plan, apply, world):
    apply([document for document in world[:-1] if document["kind"] != "SteeringProfile"])
    recipe = {name: value for name, value in world[-1]["spec"]["recipe"].items() if name != "profile"}
    planned = plan([manifest("SteeringVector", "harbor-empathy", recipe=recipe)])
    risks = {risk.code: risk.message for step in planned.steps for risk in Risks(planned).of(step)}
    assert "harmful_compliance_gained max_high 0.01 lacks 297 of 299 harmful requests" in risks["POWER_MISSING"]
    apply([profile_manifest("harbor-empathy", intent="Warm.")])
    error = refusal(plan, [manifest("SteeringVector", "harbor-empathy", recipe={**recipe, "profile": "harbor-empathy"})])
    assert (error.errors[0]["code"], error.errors[0]["field"]) == ("POWER_MISSING", "documents.0.spec.recipe")


@pytest.mark.power
def test_what_stands_is_no_fault_of_a_plan_when_less_is_allowed_by_now(plan, apply, world, root, policy_terms, monkeypatch):
    """Nothing would be done for a vector that is on record, so that neither a policy nor gates of now keep the rest from being planned."""
    recipe = world[-1]["spec"]["recipe"] | {"alphas": ["0", "1.5"], "profile": "harbor-empathy"}
    world[-1] = manifest("SteeringVector", "harbor-empathy", recipe=recipe)
    with monkeypatch.context() as patch:
        # Its gates asked for less then.
        patch.setattr("registry.services.power.find_missing", lambda powers: [])
        apply(world)
    assert set(actions(plan(world)).values()) == {"no-op"}
    change_policy("low", terms=policy_terms(alpha_caps={"mean_difference": Decimal(1)}), reason="An incident.", actor=root)
    assert set(actions(plan(world)).values()) == {"no-op"}
    labelled = manifest("SteeringVector", "harbor-empathy", labels={"team": "billing"}, **world[-1]["spec"])
    assert apply([*world[:-1], labelled]).changes
    # What would have to be made is refused, as its job would be.
    error = refusal(plan, [manifest("SteeringVector", "harbor-empathy", recipe=recipe | {"method": "pca_uncentred"})])
    assert (error.errors[0]["code"], error.errors[0]["field"]) == ("RECIPE_ALPHA_CAP", "documents.0.spec.recipe")


def test_a_plan_says_that_the_same_recipe_failed_before(plan, apply, world):
    def said() -> list[str]:
        planned = plan(world)
        return [risk.message for step in planned.steps for risk in Risks(planned).of(step) if risk.code == "JOB_FAILED_BEFORE"]

    assert said() == []
    apply(world)
    job = Job.objects.get()
    fail_job(claim_job(job.pk, worker="worker-1"), code="NO_CELL_PASSES", message="none of 14 cells passes every gate")
    assert "NO_CELL_PASSES" in said()[0]
    apply(world)
    assert (Job.objects.count(), said()) == (2, [])
