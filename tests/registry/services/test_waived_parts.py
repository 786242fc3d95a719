"""Waivers of a composition: of its own gates by nobody who made a part of it, and those of its parts go with whatever rests on it."""

import pytest
from django.db import transaction
from django.utils import timezone

from registry.errors import TransitionRefused
from registry.models import ProfileRevision, RevisionState, Waiver
from registry.reads.documents import revision_document
from registry.services.compositions import request_composition
from registry.services.demands import list_requirements
from registry.services.profiles import draft_revision, edit_revision
from registry.services.vectors import import_vector
from registry.services.waivers import ask_waiver, confirm_waiver, withdraw_waiver
from tests.support.components import add
from tests.support.files import vector_file
from tests.support.refusals import refuses
from tests.support.waiving import REASON, age, approve, submit, waive


def refused(code):
    return pytest.raises(TransitionRefused, check=lambda found: found.code == code)


@pytest.fixture
def cid(person):
    return person("cid", "author", "approver")


@pytest.fixture
def bob(person):
    return person("bob", "author", "approver")


@pytest.fixture
def eve(person):
    return person("eve", "author", "approver")


@pytest.fixture
def make(base_model, contrast_set, evaluate):
    """A vector of somebody that passes alone: make("bobs", bob, seed=12)."""

    def run(name, author, seed):
        vector = import_vector(name, data=vector_file(base_model.fingerprint, contrast_set.digest, seed=seed), author=author)
        evaluate(vector, alpha="0.3")
        return vector

    return run


@pytest.fixture
def open_part(vector, evaluate):
    """Of a direction alone, which no composition asks."""
    return evaluate(vector, undecidable=["slope"])


@pytest.fixture
def waived(open_part, grace, mary):
    return waive(open_part, "slope", asked_by=grace, confirmed_by=mary)


@pytest.fixture
def rests_on_parts(profile, component, brevity, waived, ada):
    return draft_revision(profile, components=[component, add(brevity, "0.3")], author=ada)


# -- Whose work it is -------------------------------------------------------------------------------------------------------------


def test_who_made_a_composition_is_who_made_what_was_judged_whatever_its_draft_holds_now(
    profile, component, evaluation, make, compose, bob, cid, eve
):
    draft = draft_revision(profile, components=[component, add(make("bobs", bob, 12), "0.3")], author=cid)
    judged = compose(draft, undecidable=["harmful_compliance_gained"])
    edit_revision(draft.pk, components=[component, add(make("eves", eve, 13), "0.3")], actor=cid)
    asked = {"metric": "harmful_compliance_gained", "kind": "max_high", "reason": REASON, "days": 30}
    for maker in (bob, cid):
        with refused("WAIVER_AUTHOR"):
            ask_waiver(judged.pk, **asked, actor=maker)
    waiver = ask_waiver(judged.pk, **asked, actor=eve)
    with refused("WAIVER_AUTHOR"):
        confirm_waiver(waiver.pk, actor=bob)
    by_bob = {"confirmed_by": bob, "confirmed_by_person": bob.pk, "confirmed_at": timezone.now()}
    with refuses("waiver_is_not_by_the_author"), transaction.atomic():
        Waiver.objects.filter(pk=waiver.pk).update(**by_bob)
    assert sorted(judged.judged_people) == sorted([bob.pk, cid.pk, component.vector.author_id])


# -- Their parts ------------------------------------------------------------------------------------------------------------------


def test_a_waiver_of_a_part_is_named_wherever_one_of_the_whole_is(rests_on_parts, compose, open_part, waived, mary):
    submitted = submit(rests_on_parts, compose(rests_on_parts))
    (said,) = revision_document(submitted)["waivers"]
    assert (said["id"], said["part"], said["part_evidence"]) == (str(waived.pk), str(open_part), open_part.digest)
    (demand,) = [each for each in list_requirements(submitted) if "waived" in each.demand]
    assert f"slope above_low 0 of {open_part} alone, waived by grace and mary until" in demand.demand
    assert demand.problem is None
    assert approve(submitted, mary).review_due_at == waived.ends_at


def test_withdrawing_it_takes_the_ground_from_what_rests_on_the_whole(rests_on_parts, compose, waived, mary, oscar):
    approved = approve(submit(rests_on_parts, compose(rests_on_parts)), mary)
    withdraw_waiver(waived.pk, reason="No.", actor=oscar)
    approved.refresh_from_db()
    assert approved.state == RevisionState.INVALIDATED


def test_it_must_still_stand_when_the_whole_is_submitted_and_approved(rests_on_parts, compose, waived, mary):
    whole = compose(rests_on_parts)
    submitted = submit(rests_on_parts, whole)
    age(waived, days=31)
    with refused("WAIVER_ENDED"):
        approve(submitted, mary)
    edit_revision(submitted.pk, components=list(submitted.components.all()), actor=submitted.author)
    with refused("GATES_UNDECIDABLE"):
        submit(rests_on_parts, whole)


def test_nobody_composes_or_submits_on_a_waiver_of_their_own(profile, component, brevity, open_part, compose, suites, ada, cid, grace):
    waive(open_part, "slope", asked_by=cid, confirmed_by=grace)
    parts = [component, add(brevity, "0.3")]
    own = draft_revision(profile, components=parts, author=cid)
    with refused("GATES_UNDECIDABLE"):
        request_composition(revision=own, suites=suites, actor=cid)
    # What somebody else had judged fits this draft too.
    whole = compose(draft_revision(profile, components=parts, author=ada))
    with pytest.raises(TransitionRefused, match="does not count here: cid wrote the revision"):
        submit(own, whole)


def test_database_submits_no_whole_on_an_open_gate_of_a_part(rests_on_parts, compose, waived):
    whole = compose(rests_on_parts)
    demands = {"approvals_needed": 1, "reviewer_roles": [], "approval_valid_days": 30}
    said = {"state": "submitted", "digest": "a" * 64, "evaluation": whole, "demands": demands, "submitted_at": timezone.now()}
    with refuses("revision_rests_on_no_undecidable_gate_without_a_waiver"), transaction.atomic():
        ProfileRevision.objects.filter(pk=rests_on_parts.pk).update(**said)
    named = [{"id": str(waived.pk)}]
    assert ProfileRevision.objects.filter(pk=rests_on_parts.pk).update(**said, waivers=named) == 1
