"""What happens when two people, or two workers, do the same thing at once. Real transactions, real threads."""

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from registry.audit import Action
from registry.models import AuditEvent, Environment, Job, JobState, Kill, Snapshot, StopStatement, TenantFlag, VectorComparison
from registry.services.approvals import approve_revision, reject_revision
from registry.services.base_model_moves import move_environment
from registry.services.base_models import register_base_model
from registry.services.comparisons import compare_evidence
from registry.services.compositions import request_composition
from registry.services.contrast import seal_contrast_set
from registry.services.flags import set_flag
from registry.services.job_requests import request_extraction, request_validation
from registry.services.jobs import claim_job
from registry.services.kills import engage_kill
from registry.services.profiles import create_profile, draft_revision, edit_profile
from registry.services.proposals import accept_proposal
from registry.services.results import ExtractionResult, complete_extraction, complete_validation
from registry.services.tenants import create_environment, create_tenant
from registry.services.transition import all_or_nothing
from registry.services.vectors import import_vector
from registry.snapshots.compile import compile_content
from steernode.errors import SteerError
from steernode.records.sweep import read_sweep
from steernode.stop.document import parse_stop
from tests.support.files import lines, make_pair, vector_file, write_model_folder
from tests.support.racing import at_once, somebody_waits
from tests.support.serving import wait_until
from tests.support.working import make_evidence

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_reviewers_at_once_approve_once(submitted, grace, mary):
    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    results = at_once(*(lambda who=who: approve_revision(submitted.pk, reviewer=who, comment="yes", **digests) for who in (grace, mary)))
    submitted.refresh_from_db()
    assert submitted.state == "approved"
    refused = [result for result in results if isinstance(result, SteerError)]
    assert [error.code for error in refused] == ["REVISION_STATE"]
    assert AuditEvent.objects.filter(action=Action.REVISION_APPROVED).count() == 1


def test_of_fifty_decisions_at_once_one_wins_and_leaves_one_event(submitted, person):
    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    reviewers = [person(f"reviewer-{number}", "approver") for number in range(50)]
    decides = [approve_revision if number % 2 else reject_revision for number in range(50)]
    results = at_once(
        *(
            lambda who=who, decide=decide: decide(submitted.pk, reviewer=who, comment="I decide.", **digests)
            for who, decide in zip(reviewers, decides, strict=True)
        )
    )
    codes = [result.code for result in results if isinstance(result, SteerError)]
    assert codes == ["REVISION_STATE"] * 49, results
    submitted.refresh_from_db()
    assert submitted.state in ("approved", "rejected")
    assert submitted.approvals.count() == 1
    assert AuditEvent.objects.filter(action__in=[Action.REVISION_APPROVED, Action.REVISION_REJECTED]).count() == 1


def test_one_reviewer_twice_at_once_decides_once(submitted, grace):
    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    at_once(*(lambda: approve_revision(submitted.pk, reviewer=grace, comment="yes", **digests) for _ in range(3)))
    assert submitted.approvals.count() == 1


def test_changes_at_once_get_numbers_without_gaps(ada, oscar, base_model, contrast_set, vector, component):
    profile = create_profile("busy", intent="x", purpose="tone", axis="empathy", risk_class="low", owner=ada)
    works = [lambda number=number: create_tenant(f"tenant-{number}", actor=oscar) for number in range(4)]
    works += [lambda: draft_revision(profile, components=[component], author=ada) for _ in range(3)]
    results = at_once(*works)
    assert not [result for result in results if isinstance(result, Exception)]
    assert sorted(profile.revisions.values_list("number", flat=True)) == [1, 2, 3]
    seqs = list(AuditEvent.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


def test_one_file_sealed_twice_at_once_is_one_version(ada):
    data = lines([make_pair(number) for number in range(3)])
    results = at_once(*(lambda: seal_contrast_set("empathy", axis="empathy", data=data, author=ada) for _ in range(3)))
    assert len({result.pk for result in results}) == 1


def test_statements_rise_when_kills_race(production, harbor, atlas, oscar, grace):
    results = at_once(
        lambda: engage_kill("tenant", target="harbor", reason="a", actor=oscar),
        lambda: engage_kill("tenant", target="atlas", reason="b", actor=grace),
        lambda: engage_kill("everything", reason="c", actor=oscar),
        lambda: engage_kill("everything", reason="d", actor=grace),
    )
    assert not [result for result in results if isinstance(result, Exception)]
    assert Kill.objects.count() == 3
    statements = [parse_stop(stop.payload) for stop in StopStatement.objects.order_by("pk")]
    assert [len(statement.kills) for statement in statements] == [1, 2, 3]
    assert [statement.sequence for statement in statements] == sorted({statement.sequence for statement in statements})


@pytest.fixture
def new_files(model_root, base_model, ada):
    folder = write_model_folder(model_root / "harbor-2")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return register_base_model("harbor-support", source="harbor-2", actor=ada)


def test_two_environments_that_move_at_once_invalidate_what_neither_serves_any_more(new_files, base_model, approved, oscar):
    environments = [create_environment(name, actor=oscar) for name in ("production", "staging")]
    for environment in environments:
        move_environment(environment, base_model=base_model, actor=oscar)
    moves = at_once(*(lambda to=to: move_environment(to, base_model=new_files, actor=oscar) for to in environments))
    assert not [move for move in moves if isinstance(move, Exception)]
    approved.refresh_from_db()
    assert approved.state == "invalidated"
    assert AuditEvent.objects.filter(action=Action.REVISION_INVALIDATED).count() == 1


def test_one_environment_moved_twice_at_once_moves_once(flag_on, production, new_files, oscar, grace):
    at_once(*(lambda who=who: move_environment(production, base_model=new_files, actor=who) for who in (oscar, grace)))
    assert AuditEvent.objects.filter(action=Action.REVISION_INVALIDATED).count() == 1
    assert AuditEvent.objects.filter(action=Action.ENVIRONMENT_MOVED, base_model_fingerprint=new_files.fingerprint).count() == 1


def test_a_flag_turned_on_while_its_environment_moves_ends_off_or_is_refused(production, harbor, approved, new_files, oscar):
    for _ in range(3):
        at_once(
            lambda: move_environment(production, base_model=new_files, actor=oscar),
            lambda: set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar),
        )
        assert not TenantFlag.objects.filter(enabled=True).exists()
        assert not compile_content(production).tenants


def test_an_approval_given_while_the_environment_moves_does_not_survive_it(production, submitted, new_files, grace, oscar):
    digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
    results = at_once(
        lambda: approve_revision(submitted.pk, reviewer=grace, comment="yes", **digests),
        lambda: move_environment(production, base_model=new_files, actor=oscar),
    )
    assert not isinstance(results[1], Exception)
    submitted.refresh_from_db()
    assert submitted.state == "invalidated"


def test_a_move_while_a_flag_flips_leaves_one_snapshot_for_each_change(production, flag_on, harbor, approved, new_files, oscar):
    results = at_once(
        lambda: move_environment(production, base_model=new_files, actor=oscar),
        lambda: set_flag(production, harbor, revision=approved, enabled=False, alpha_scale=Decimal(1), reason="stop", actor=oscar),
    )
    assert not [result for result in results if isinstance(result, Exception)]
    revisions = list(Snapshot.objects.order_by("revision").values_list("revision", flat=True))
    assert revisions == list(range(1, len(revisions) + 1))
    assert not compile_content(production).tenants


def test_one_proposal_accepted_three_times_at_once_queues_one_job(production, base_model, contrast_set, suites, new_files, ada, oscar):
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "v"}, actor=ada)
    data = vector_file(base_model.fingerprint, contrast_set.digest)
    complete_extraction(claim_job(job.pk, worker="w"), ExtractionResult(data, read_sweep({}), b"", Decimal("0.5"), "mean_difference"))
    (proposal,) = move_environment(production, base_model=new_files, actor=oscar).proposals
    accepted = at_once(*(lambda: accept_proposal(proposal.pk, actor=ada) for _ in range(3)))
    assert len({result.job_id for result in accepted}) == 1
    assert Job.objects.filter(base_model=new_files).count() == 1


def test_a_new_environment_serves_what_is_registered_by_then(base_model, model_root, oscar):
    write_model_folder(model_root / "other", vocab_size=130)
    at_once(
        lambda: create_environment("production", actor=oscar),
        lambda: register_base_model("other-model", source="other", actor=oscar),
    )
    served = set(Environment.objects.get().served.values_list("name", flat=True))
    assert "harbor-support" in served <= {"harbor-support", "other-model"}


def test_one_environment_made_twice_at_once_is_one(base_model, oscar):
    made = at_once(*(lambda: create_environment("production", actor=oscar) for _ in range(3)))
    assert {environment.pk for environment in made} == {Environment.objects.get().pk}


def test_an_environment_is_made_after_a_batch_and_not_in_the_middle_of_it(production, oscar):
    """So the environments that a batch locked at its start are all there are."""
    with ThreadPoolExecutor(1) as beside:
        with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=oscar):
            making = beside.submit(at_once, lambda: create_environment("staging", actor=oscar))
            wait_until(lambda: somebody_waits("advisory"))
            assert list(Environment.objects.values_list("name", flat=True)) == ["production"]
        (staging,) = making.result(20)
    assert staging.head_revision == 1


def test_a_draft_waits_for_no_batch_that_edits_its_profile_and_drafts_too(production, profile, component, ada):
    """It would hold the profile's numbers meanwhile, and the batch needs one."""
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=ada):
        edit_profile(profile.name, intent="Warmer.", purpose="tone", axis="empathy", risk_class="low", actor=ada)
        (theirs,) = at_once(lambda: draft_revision(profile, components=[component], author=ada))
        ours = draft_revision(profile, components=[component], author=ada)
    assert (theirs.number, ours.number) == (1, 2)


def test_a_draft_waits_for_no_vector_that_is_asked_to_be_judged(production, combined, component, profile, suites, ada):
    with all_or_nothing(cause=Action.MANIFESTS_APPLIED, actor=ada):
        request_composition(revision=combined, suites=suites, actor=ada)
        (draft,) = at_once(lambda: draft_revision(profile, components=[component], author=ada))
    assert draft.number == combined.number + 1


def test_two_validations_that_end_at_once_leave_a_comparison_that_says_so(base_model, new_files, contrast_set, suites, ada, monkeypatch):
    seeds = [vector_file(files.fingerprint, contrast_set.digest, seed=seed) for files, seed in ((base_model, 7), (new_files, 8))]
    vectors = [import_vector("empathy", data=data, author=ada) for data in seeds]
    options = {"suites": suites, "actor": ada, "alpha": Decimal("0.5"), "unit": "mean_difference"}
    jobs = [claim_job(request_validation(vector=vector, **options).pk, worker="w") for vector in vectors]
    both_are_written = threading.Barrier(2)

    def meet(evaluation):
        both_are_written.wait(5)
        compare_evidence(evaluation)

    monkeypatch.setattr("registry.services.results.compare_evidence", meet)
    done = at_once(*(lambda job=job: complete_validation(job, make_evidence(job.vector)) for job in jobs))
    assert [evaluation.vector for evaluation in done] == vectors
    comparison = VectorComparison.objects.get(vector=vectors[1])
    assert (comparison.evidence, comparison.evidence_missing) == ({}, "")


def test_two_workers_with_one_message_run_one_job(base_model, contrast_set, suites, ada):
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe={"vector": "v"}, actor=ada)
    results = at_once(*(lambda name=name: claim_job(job.pk, worker=name) for name in ("one", "two", "three")))
    assert sum(result is not None for result in results) == 1
    job = Job.objects.get()
    assert (job.state, job.attempt) == (JobState.RUNNING, 1)
