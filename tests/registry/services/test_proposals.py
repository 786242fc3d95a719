"""A move proposes to extract again what it left behind; an author accepts, and that queues one job."""

import json

import pytest
from django.db import transaction
from django.utils import timezone

from registry.errors import NotFound, TransitionRefused
from registry.models import AuditEvent, Job, JobState, Notification, Proposal, SteeringVector
from registry.reads.lookups import open_proposals
from registry.services.base_model_moves import move_environment
from registry.services.base_models import register_base_model
from registry.services.jobs import request_cancel
from registry.services.profiles import create_profile, draft_revision
from registry.services.proposals import accept_proposal, decline_proposal
from steernode.errors import LayerError
from tests.support.components import add
from tests.support.files import write_model_folder
from tests.support.refusals import refuses


def proposed() -> list[str]:
    return sorted(str(proposal.vector) for proposal in Proposal.objects.select_related("vector"))


def draft(vector: SteeringVector, profile, author):
    return draft_revision(profile, components=[add(vector, "0.5")], author=author)


def test_a_move_proposes_the_newest_version_of_each_name_and_whatever_is_in_use(
    extract, production, base_model, new_files, profile, ada, oscar
):
    used = extract(base_model, seed=1)
    extract(base_model, seed=2, max_new_tokens=16)
    extract(base_model, "formality", seed=3, max_new_tokens=32)
    newest = extract(base_model, seed=4, max_new_tokens=48)
    draft(used, profile, ada)
    move = move_environment(production, base_model=new_files, actor=oscar)
    assert proposed() == ["empathy v1", str(newest), "formality v1"]
    assert len(move.proposals) == 3
    assert not Job.objects.filter(state=JobState.QUEUED).exists()


def test_the_author_is_told_once_with_all_names(extract, production, base_model, new_files, ada, oscar):
    extract(base_model, seed=1)
    extract(base_model, "formality", seed=2, max_new_tokens=32)
    move_environment(production, base_model=new_files, actor=oscar)
    told = Notification.objects.get(object_type="proposal")
    assert told.person == ada
    assert "2 vectors of yours again by the same recipe: empathy v1, formality v1" in told.text


def test_an_imported_vector_has_no_recipe_to_run_again(vector, production, new_files, oscar):
    assert move_environment(production, base_model=new_files, actor=oscar).proposals == []


def test_what_was_extracted_from_the_new_files_already_is_not_proposed(extract, production, base_model, new_files, oscar):
    extract(base_model, seed=1)
    extract(new_files, seed=2)
    assert move_environment(production, base_model=new_files, actor=oscar).proposals == []


def test_a_second_environment_that_moves_proposes_nothing_again(extract, production, base_model, new_files, oscar):
    from registry.services.tenants import create_environment

    staging = create_environment("staging", actor=oscar)
    move_environment(staging, base_model=base_model, actor=oscar)
    extract(base_model)
    Proposal.objects.all().delete()
    assert len(move_environment(production, base_model=new_files, actor=oscar).proposals) == 1
    assert move_environment(staging, base_model=new_files, actor=oscar).proposals == []
    assert len(proposed()) == 1


def test_accepting_queues_the_same_recipe_for_the_new_files(extract, production, base_model, new_files, suites, ada, oscar):
    vector = extract(base_model, method="pca_uncentred", alphas=["0", "0.3"])
    move_environment(production, base_model=new_files, actor=oscar)
    job = accept_proposal(Proposal.objects.get().pk, actor=ada).job
    assert (job.state, job.base_model, job.requested_by) == ("queued", new_files, ada)
    assert job.recipe == vector.job.recipe
    assert (job.contrast_set, set(job.suites.all())) == (vector.contrast_set, set(suites))


def test_a_recipe_from_when_it_had_a_seed_is_run_again_without_it(extract, production, base_model, new_files, ada, oscar):
    vector = extract(base_model)
    Job.objects.filter(pk=vector.job_id).update(recipe={**vector.job.recipe, "seed": 7})
    move_environment(production, base_model=new_files, actor=oscar)
    assert accept_proposal(Proposal.objects.get().pk, actor=ada).job.recipe == vector.job.recipe


def test_the_job_of_a_vector_in_use_goes_on_to_a_draft_of_its_profile(extract, production, base_model, new_files, profile, ada, oscar):
    vector = extract(base_model)
    draft(vector, profile, ada)
    move_environment(production, base_model=new_files, actor=oscar)
    assert accept_proposal(Proposal.objects.get().pk, actor=ada).job.draft_for == profile


def test_a_vector_in_use_for_two_profiles_drafts_for_neither(extract, production, base_model, new_files, profile, ada, oscar):
    vector = extract(base_model)
    other = create_profile("warmer", intent="x", purpose="tone", axis="empathy", risk_class="low", owner=ada)
    draft(vector, profile, ada)
    draft(vector, other, ada)
    move_environment(production, base_model=new_files, actor=oscar)
    assert Proposal.objects.get().profile is None


def test_accepting_twice_gives_the_job_that_is_there(extract, production, base_model, new_files, ada, oscar, person):
    extract(base_model)
    move_environment(production, base_model=new_files, actor=oscar)
    proposal = Proposal.objects.get()
    first = accept_proposal(proposal.pk, actor=ada)
    second = accept_proposal(proposal.pk, actor=person("bea", "author"))
    assert (second.job, second.accepted_by) == (first.job, ada)
    assert Job.objects.filter(base_model=new_files).count() == 1


def test_a_job_that_was_cancelled_may_be_asked_for_again(extract, production, base_model, new_files, ada, oscar):
    extract(base_model)
    move_environment(production, base_model=new_files, actor=oscar)
    proposal = Proposal.objects.get()
    cancelled = accept_proposal(proposal.pk, actor=ada).job
    request_cancel(cancelled.pk, actor=ada)
    again = accept_proposal(proposal.pk, actor=ada).job
    assert again != cancelled
    assert again.state == "queued"


def test_a_recipe_that_does_not_fit_the_new_files_is_refused_and_the_proposal_stays_open(
    extract, production, base_model, model_root, ada, oscar
):
    extract(base_model, layers=[3])
    write_model_folder(model_root / "harbor-small", num_hidden_layers=2)
    small = register_base_model("harbor-support", source="harbor-small", actor=ada)
    move_environment(production, base_model=small, actor=oscar)
    proposal = Proposal.objects.get(base_model=small)
    with pytest.raises(LayerError):
        accept_proposal(proposal.pk, actor=ada)
    proposal.refresh_from_db()
    assert proposal.state == "proposed"


@pytest.mark.parametrize(
    ("recipe", "adapted"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"gates": [{"metric": "facts", "kind": "min", "threshold": "0.9"}]}, [0, 1, 2, 3, 4, 5]),
        ({"layers": [1, 3]}, [1, 3]),
    ],
)
def test_a_recipe_for_all_that_its_gates_allow_is_so_for_the_new_files(
    extract, production, base_model, model_root, ada, oscar, recipe, adapted
):
    extract(base_model, **recipe)
    write_model_folder(model_root / "harbor-deep", num_hidden_layers=6)
    deep = register_base_model("harbor-support", source="harbor-deep", actor=ada)
    move_environment(production, base_model=deep, actor=oscar)
    assert accept_proposal(Proposal.objects.get().pk, actor=ada).job.recipe["layers"] == adapted


def test_after_a_move_back_the_proposals_for_the_other_files_are_not_open_any_more(extract, production, base_model, new_files, oscar):
    extract(base_model)
    move_environment(production, base_model=new_files, actor=oscar)
    assert open_proposals().count() == 1
    move_environment(production, base_model=base_model, actor=oscar)
    assert open_proposals().count() == 0


def test_what_is_declined_is_off_the_list_until_somebody_accepts_it(extract, production, base_model, new_files, ada, oscar):
    extract(base_model)
    (proposal,) = move_environment(production, base_model=new_files, actor=oscar).proposals
    for reason in ("not worth the hours", "again"):
        assert decline_proposal(proposal.pk, reason=reason, actor=ada).state == "declined"
    assert not open_proposals().exists()
    (event,) = AuditEvent.objects.filter(action="proposal.declined")
    assert json.loads(bytes(event.body))["details"]["reason"] == "not worth the hours"
    assert accept_proposal(proposal.pk, actor=ada).state == "accepted"
    with pytest.raises(TransitionRefused) as refused:
        decline_proposal(proposal.pk, reason="too late", actor=ada)
    assert refused.value.code == "PROPOSAL_ACCEPTED"
    proposal.refresh_from_db()
    assert (proposal.state, proposal.declined_by, proposal.declined_reason) == ("accepted", None, "")


def test_database_refuses_half_a_decline(extract, production, base_model, new_files, ada, oscar):
    extract(base_model)
    (proposal,) = move_environment(production, base_model=new_files, actor=oscar).proposals
    halves = ({"declined_by": ada}, {"declined_reason": "x"}, {"declined_by": ada, "declined_at": timezone.now()})
    for half in halves:
        with refuses("proposal_is_declined_by_somebody_for_a_reason_or_not"), transaction.atomic():
            Proposal.objects.filter(pk=proposal.pk).update(**half)


def test_a_proposal_that_is_not_there_is_not_found(ada, db):
    with pytest.raises(NotFound, match="no such proposal"):
        accept_proposal("00000000-0000-0000-0000-000000000000", actor=ada)


def test_database_refuses_half_an_acceptance(extract, production, base_model, new_files, ada, oscar):
    extract(base_model)
    move_environment(production, base_model=new_files, actor=oscar)
    with refuses("proposal_has_a_job_exactly_when_somebody_accepted"):
        Proposal.objects.update(accepted_by=ada)


def test_database_refuses_the_same_proposal_twice(extract, production, base_model, new_files, oscar):
    extract(base_model)
    move_environment(production, base_model=new_files, actor=oscar)
    proposal = Proposal.objects.get()
    proposal.pk = None
    with refuses("proposal_once_for_a_vector_and_a_base_model"):
        proposal.save(force_insert=True)
