"""An approval covers the base model that was measured, and of its forms those that it names and its policy lets be covered."""

import json
from decimal import Decimal

import pytest

from registry.audit import Action
from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, BaseModel, CoveredForm, ProfileRevision
from registry.reads.documents import revision_document
from registry.reads.forms import list_forms, relate
from registry.services.approvals import approve_revision
from registry.services.base_models import register_base_model
from registry.services.demands import list_requirements
from registry.services.policies import change_policy
from registry.services.profiles import draft_revision, edit_revision, submit_revision
from steernode.canonical import canonical_json, sha256_hex
from tests.support.families import add_form
from tests.support.refusals import refuses

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def halves(base_model, model_root, ada) -> BaseModel:
    """The same weights in bfloat16."""
    return add_form(base_model, "harbor-halves", model_root, ada, verdict="another dtype", worst="0.0039")


@pytest.fixture
def small(base_model, model_root, ada) -> BaseModel:
    """Quantised, and dequantised again."""
    return add_form(base_model, "harbor-small", model_root, ada, verdict="quantised", worst="0.05")


@pytest.fixture
def allow(policy_terms, root):
    return lambda forms: change_policy("low", terms=policy_terms(coverable_forms=forms), reason="test", actor=root)


def covering(profile, component, ada, *forms) -> ProfileRevision:
    return draft_revision(profile, components=[component], covers=forms, author=ada)


# -- What is refused ------------------------------------------------------------------------------------------------------------


def test_what_no_comparison_makes_a_form_is_not_covered(profile, component, base_model, model_root, ada):
    stranger = register_base_model("stranger", source=add_folder(model_root, "stranger"), actor=ada)
    with pytest.raises(InvalidInput) as refused:
        covering(profile, component, ada, stranger)
    assert (refused.value.code, refused.value.item) == ("FORM_UNRELATED", "stranger")
    assert not ProfileRevision.objects.exists()


def add_folder(model_root, name: str) -> str:
    from tests.support.families import write_other_folder

    return write_other_folder(model_root, name).name


def test_a_form_is_named_once_and_what_was_measured_is_no_form_of_itself(profile, component, base_model, halves, ada):
    again = register_base_model("harbor-again", source=halves.source, actor=ada)
    for forms in ([base_model], [halves, halves], [halves, again]):
        with pytest.raises(InvalidInput) as refused:
            covering(profile, component, ada, *forms)
        assert refused.value.code == "FORM_REPEATED"


def test_there_are_only_so_many(profile, component, base_model, halves, ada):
    with pytest.raises(InvalidInput) as refused:
        covering(profile, component, ada, *[halves] * 17)
    assert refused.value.code == "FORM_LIMIT"


def test_what_is_refused_leaves_the_draft_as_it_was(draft, component, halves, small, ada):
    edit_revision(draft.pk, components=[component], covers=[halves], actor=ada)
    with pytest.raises(TransitionRefused):
        edit_revision(draft.pk, components=[component], covers=[small], actor=ada)
    assert [covered.base_model for covered in draft.covers.all()] == [halves]


def test_two_base_models_cannot_be_forms_of_each_other(base_model, halves, model_root, ada):
    comparison = {**halves.comparison, "base": halves.fingerprint, "derived": base_model.fingerprint}
    with pytest.raises(InvalidInput) as refused:
        register_base_model("harbor-support", source="harbor", actor=ada, derived_from=halves, comparison=comparison)
    assert refused.value.code == "FORM_NOT_DERIVED"


# -- What a policy lets be covered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("allowed", "halves_too", "small_too"), [("none", False, False), ("close", True, False), ("any", True, True)])
def test_a_policy_says_which_forms_may_be_covered(allow, profile, component, halves, small, ada, allowed, halves_too, small_too):
    allow(allowed)
    for form, may in ((halves, halves_too), (small, small_too)):
        if may:
            assert covering(profile, component, ada, form).covers.get().base_model == form
            continue
        with pytest.raises(TransitionRefused) as refused:
            covering(profile, component, ada, form)
        assert (refused.value.code, refused.value.item) == ("FORM_NOT_COVERED", form.name)


def test_a_form_that_reads_conversations_as_other_tokens_is_not_close(allow, base_model, profile, component, model_root, ada):
    other = add_form(base_model, "harbor-other", model_root, ada, verdict="equal", worst="0", template="{{ messages }}")
    with pytest.raises(TransitionRefused, match="chat template") as refused:
        covering(profile, component, ada, other)
    assert refused.value.code == "FORM_NOT_COVERED"
    allow("any")
    assert covering(profile, component, ada, other).covers.count() == 1


@pytest.mark.parametrize("config", [{"num_hidden_layers": 3}, {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}])
def test_the_same_weights_in_another_class_or_in_fewer_layers_are_not_close(profile, component, base_model, model_root, ada, config):
    other = add_form(base_model, "harbor-other", model_root, ada, verdict="equal", worst="0", **config)
    with pytest.raises(TransitionRefused) as refused:
        covering(profile, component, ada, other)
    assert refused.value.code == "FORM_NOT_COVERED"


def test_a_rounding_of_a_rounding_of_a_rounding_is_not_close(profile, component, base_model, halves, model_root, ada):
    """Each step is off by half of a last place of what the one before left, so that a long way of them ends anywhere."""
    other = add_form(base_model, "harbor-float16", model_root, ada, verdict="another dtype", worst="0.0002")
    equal = add_form(other, "harbor-widened", model_root, ada, verdict="equal", worst="0")
    assert relate(halves, equal).is_close
    again = add_form(equal, "harbor-again", model_root, ada, verdict="another dtype", worst="0.0039")
    farther = add_form(again, "harbor-farther", model_root, ada, verdict="another dtype", worst="0.0039")
    assert covering(profile, component, ada, again).covers.get().base_model == again
    with pytest.raises(TransitionRefused, match="rounded 3 times on the way") as refused:
        covering(profile, component, ada, farther)
    assert refused.value.code == "FORM_NOT_COVERED"


def test_what_a_policy_forbids_since_the_draft_is_neither_submitted_nor_approved(allow, profile, component, halves, evaluation, ada, grace):
    revision = covering(profile, component, ada, halves)
    submitted = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert [each.problem for each in list_requirements(submitted) if "covered forms" in each.demand] == [None]
    allow("none")
    # A changed policy gives back what waits.
    with pytest.raises(TransitionRefused) as refused:
        submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    assert refused.value.code == "FORM_NOT_COVERED"


def test_a_policy_that_says_nothing_of_it_has_the_terms_that_it_had(submitted, allow):
    assert "coverable_forms" not in submitted.demands
    allow("any")
    [event] = AuditEvent.objects.filter(action=Action.POLICY_CHANGED)
    details = json.loads(bytes(event.body))["details"]
    assert (details["before"], details["after"]) == ({"coverable_forms": "close"}, {"coverable_forms": "any"})


# -- What is approved -----------------------------------------------------------------------------------------------------------


def test_what_it_covers_is_part_of_what_is_approved(profile, component, halves, base_model, evaluation, ada, grace):
    revision = submit_revision(covering(profile, component, ada, halves).pk, evaluation=evaluation, actor=ada)
    document = revision_document(revision)
    assert document["covers"] == [{"base_model": halves.fingerprint, "verdict": "another dtype", "worst": "0.0039"}]
    assert document["base_model"] == base_model.fingerprint
    assert sha256_hex(canonical_json(document)) == revision.digest
    shown = {"revision_digest": revision.digest, "evidence_digest": evaluation.digest}
    edited = edit_revision(revision.pk, components=[component], actor=ada)
    assert (edited.state, edited.covers.count()) == ("draft", 0)
    again = submit_revision(edited.pk, evaluation=evaluation, actor=ada)
    with pytest.raises(TransitionRefused) as refused:
        approve_revision(again.pk, reviewer=grace, comment="", **shown)
    assert refused.value.code == "DIGEST_MISMATCH"


def test_without_covered_forms_documents_are_as_they_were(submitted):
    assert "covers" not in revision_document(submitted)


def test_the_log_says_what_was_covered_when_it_was_drafted_submitted_and_approved(profile, component, halves, evaluation, ada, grace):
    revision = submit_revision(covering(profile, component, ada, halves).pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": revision.digest, "evidence_digest": evaluation.digest}
    approve_revision(revision.pk, reviewer=grace, comment="", **digests)
    said = [f"{halves}: another dtype, off by at most 0.0039 of the largest weight of a tensor"]
    for action in (Action.REVISION_DRAFTED, Action.REVISION_SUBMITTED, Action.REVISION_APPROVED):
        [event] = AuditEvent.objects.filter(action=action)
        assert json.loads(bytes(event.body))["details"]["covers"] == said


def test_a_form_of_a_form_and_a_form_of_the_same_are_related_by_the_steps_between(base_model, halves, small, model_root, ada):
    tiny = add_form(small, "harbor-tiny", model_root, ada, verdict="another dtype", worst="0.001")
    relation = relate(halves, tiny)
    assert (relation.verdict, relation.worst, len(relation.steps)) == ("quantised", "0.0549", 3)
    assert [(each.form.name, each.verdict) for each in list_forms(tiny)] == [
        ("harbor-halves", "quantised"),
        ("harbor-small", "another dtype"),
        ("harbor-support", "quantised"),
    ]
    assert relate(base_model, base_model) is None


# -- The database is the last reviewer ------------------------------------------------------------------------------------------


def test_the_database_keeps_what_is_covered_once_it_is_submitted(profile, component, halves, small, evaluation, ada):
    revision = submit_revision(covering(profile, component, ada, halves).pk, evaluation=evaluation, actor=ada)
    covered = revision.covers.get()
    for change in (
        lambda: CoveredForm.objects.create(revision=revision, base_model=small, verdict="quantised", worst="0.05"),
        lambda: CoveredForm.objects.filter(pk=covered.pk).update(worst="0"),
        covered.delete,
    ):
        with refuses("covered_form_changes_only_in_a_draft"):
            change()


def test_the_database_refuses_to_submit_what_covers_a_stranger_or_what_was_measured(draft, evaluation, base_model, model_root, ada):
    stranger = register_base_model("stranger", source=add_folder(model_root, "stranger"), actor=ada)
    for wrong in (stranger, base_model):
        row = CoveredForm.objects.create(revision=draft, base_model=wrong, verdict="equal", worst="0")
        with refuses("revision_covers_forms_of_its_base_model"):
            ProfileRevision.objects.filter(pk=draft.pk).update(
                state="submitted", digest="ab" * 32, evaluation=evaluation,
                demands={"approvals_needed": 1, "reviewer_roles": [], "approval_valid_days": 1},
            )  # fmt: skip
        with pytest.raises(TransitionRefused) as refused:
            submit_revision(draft.pk, evaluation=evaluation, actor=ada)
        assert refused.value.code == "FORM_NOT_COVERED"
        row.delete()


@pytest.mark.parametrize(
    ("change", "rule"), [({"verdict": "different"}, "covered_form_is_a_form"), ({}, "covered_form_once_in_a_revision")]
)
def test_the_database_refuses_what_is_no_form_and_one_twice(draft, halves, change, rule):
    row = {"revision": draft, "base_model": halves, "verdict": "equal", "worst": "0"}
    if not change:
        CoveredForm.objects.create(**row)
    with refuses(rule):
        CoveredForm.objects.create(**row | change)


def test_the_database_keeps_what_a_base_model_is_a_form_of(base_model, halves, small):
    for change in ({"derived_from": small}, {"comparison": small.comparison}, {"derived_from": None, "comparison": None}):
        with refuses("base_model_is_a_form_as_it_was_stated"):
            BaseModel.objects.filter(pk=halves.pk).update(**change)


def test_a_form_that_is_stated_otherwise_past_the_guards_is_not_submitted(draft, component, halves, evaluation, ada):
    edit_revision(draft.pk, components=[component], covers=[halves], actor=ada)
    CoveredForm.objects.update(worst="0")
    with pytest.raises(TransitionRefused) as refused:
        submit_revision(draft.pk, evaluation=evaluation, actor=ada)
    assert refused.value.code == "FORM_NOT_COVERED"
    assert Decimal(halves.comparison["worst"]) > 0
