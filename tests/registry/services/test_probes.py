"""Labelled prompts and probes on record, and a component or an override that names a probe."""

import json
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from registry.errors import InvalidInput, TransitionRefused
from registry.models import AuditEvent, Job, Probe, ProfileRevision, PromptSet
from registry.reads.documents import revision_document
from registry.reads.evidence import evidence_of
from registry.reads.steering import head_snapshot
from registry.services.approvals import approve_revision
from registry.services.base_models import register_base_model
from registry.services.flags import set_flag
from registry.services.profiles import draft_revision, edit_revision, submit_revision
from registry.services.prompts import seal_prompt_set
from steernode.errors import PromptSetError
from steernode.snapshot.conditions import ProbeCondition, parse_condition
from tests.support.components import add
from tests.support.files import write_model_folder
from tests.support.prompts import prompt_file, prompt_rows


def of_refunds(vector, probe):
    component = add(vector, "0.5")
    component.condition = {"kind": "probe", "probe": probe}
    return component


def test_prompts_are_sealed_whole_or_refused_whole(ada, prompt_set):
    assert (str(prompt_set), prompt_set.prompt_count, prompt_set.intents) == ("intents v1", 120, ["parcel", "refund"])
    assert prompt_set.counts["test"] == {"parcel": 20, "refund": 20}
    same = prompt_file(prompt_rows(positive="refund", negative="parcel"))
    assert seal_prompt_set("intents", data=same, author=ada) == prompt_set
    with pytest.raises(TransitionRefused, check=lambda error: error.code == "PROMPTS_EXIST"):
        seal_prompt_set("others", data=same, author=ada)
    rows = prompt_rows()
    with pytest.raises(PromptSetError, check=lambda error: error.code == "PROMPTS_CONTRADICTION"):
        seal_prompt_set("others", data=prompt_file([*rows, {**rows[0], "id": "again", "label": False}]), author=ada)
    assert PromptSet.objects.count() == 1


def test_a_trained_probe_is_sealed_with_its_event_and_a_second_delivery_changes_nothing(train_probe):
    probe = train_probe()
    assert (str(probe), probe.layer, probe.intent) == ("refund-intent v1", 1, "refund")
    assert "roc" not in probe.held_out
    details = json.loads(bytes(AuditEvent.objects.get(action="probe.trained").body))["details"]
    assert (details["digest"], details["auc"]) == (probe.digest, "0.97")
    assert train_probe(threshold="2").version == 2
    assert Job.objects.filter(state="succeeded").count() == 2


def test_a_component_names_a_probe_and_carries_what_nodes_read(ada, profile, vector, train_probe):
    probe = train_probe()
    revision = draft_revision(profile, components=[of_refunds(vector, probe)], author=ada)
    written = revision.components.get().condition
    condition = parse_condition(written)
    assert isinstance(condition, ProbeCondition)
    assert (condition.vector.sha256, str(condition.threshold)) == (probe.digest, "0.2")
    [named] = revision_document(revision)["probes"]
    assert (named["name"], named["version"], named["document"]) == ("refund-intent", 1, probe.document_digest)
    assert named["held_out"]["auc"]["value"] == "0.97"
    edited = edit_revision(revision.pk, components=[add(vector, "0.5")], actor=ada)
    assert "probes" not in revision_document(edited)


def test_what_is_served_is_the_probe(ada, grace, oscar, profile, vector, evaluate, compose, train_probe, production, harbor):
    probe = train_probe()
    evaluate(vector)
    revision = draft_revision(profile, components=[of_refunds(vector, probe)], author=ada)
    evaluation = evidence_of(revision) or compose(revision)
    submitted = submit_revision(revision.pk, evaluation=evaluation, actor=ada)
    digests = {"revision_digest": submitted.digest, "evidence_digest": evaluation.digest}
    approved = approve_revision(revision.pk, reviewer=grace, comment="Its ROC is good.", **digests)
    set_flag(production, harbor, revision=approved, enabled=True, alpha_scale=Decimal(1), reason="go", actor=oscar)
    snapshot = json.loads(head_snapshot(production).payload)
    [component] = snapshot["profiles"][0]["components"]
    assert component["condition"] == probe.condition
    assert "probes" not in snapshot["profiles"][0]
    # Nothing of what was approved is changed past the service either.
    with pytest.raises(IntegrityError, match="revision_is_sealed_once_submitted"), transaction.atomic():
        ProfileRevision.objects.filter(pk=revision.pk).update(probes=[])


@pytest.mark.parametrize("layer", [2, 3])
def test_a_probe_that_reads_where_something_is_steered_is_refused(ada, profile, vector, train_probe, layer):
    late = train_probe(layer=layer)
    for content in (
        {"components": [of_refunds(vector, late)]},
        {"components": [add(vector, "0.5")], "safety_override": [{"kind": "probe", "probe": late}]},
    ):
        with pytest.raises(InvalidInput, check=lambda error: error.code == "PROBE_LAYER") as refused:
            draft_revision(profile, author=ada, **content)
        assert "below: 2" in refused.value.message
    assert not ProfileRevision.objects.exists()


def test_a_probe_of_another_base_model_is_refused(ada, profile, vector, train_probe, model_root):
    write_model_folder(model_root / "other-probe", vocab_size=512)
    other = train_probe(base=register_base_model("other", source="other-probe", actor=ada))
    with pytest.raises(InvalidInput, check=lambda error: error.code == "REVISION_BASE_MODELS") as refused:
        draft_revision(profile, components=[of_refunds(vector, other)], author=ada)
    assert "refund-intent v1" in refused.value.message


def test_a_probe_that_was_asked_otherwise_is_refused(ada, profile, vector, train_probe):
    other = train_probe(template_arguments={"enable_thinking": False})
    with pytest.raises(InvalidInput, check=lambda error: error.code == "TEMPLATE_ARGUMENTS_DIFFER"):
        draft_revision(profile, components=[of_refunds(vector, other)], author=ada)


@pytest.mark.parametrize("condition", [{"probe": "refund-intent@1"}, {"probe": 7}, {"threshold": "1"}])
def test_a_probe_says_all_the_rest_itself(ada, profile, vector, train_probe, condition):
    component = of_refunds(vector, train_probe())
    component.condition |= condition
    with pytest.raises(InvalidInput, check=lambda error: error.code == "COMPONENT_INVALID"):
        draft_revision(profile, components=[component], author=ada)


def test_a_probe_on_record_stays_as_it_is(train_probe, prompt_set):
    train_probe()
    with pytest.raises(Exception, match="protected"):
        prompt_set.delete()
    assert Probe.objects.count() == 1
