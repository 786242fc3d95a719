"""GateSet manifests: planned with what names them, refused by what is wrong with them, and moved only when a plan says so."""

import pytest

from registry.manifests.documents import ManifestsRefused
from registry.manifests.export import export_manifests
from registry.models import GateSet, Job, RiskPolicy
from tests.support.declaring import actions, manifest

FACTS = {"metric": "facts", "kind": "min", "threshold": "0.9", "why": "Nine of ten."}


def tone(name="our-tone", **change):
    return manifest("GateSet", name, about="Tone.", gates=[{**FACTS, **change}])


def recipe(gates):
    inputs = {"baseModel": "harbor-support", "contrastSet": "empathy", "suites": ["tickets", "facts", "refusals"]}
    return manifest("SteeringVector", "warm", recipe={**inputs, "gates": gates})


def billing(gates):
    (low,) = export_manifests(kinds=["RiskPolicy"], names=["low"])
    return manifest("RiskPolicy", "billing", **{**low["spec"], "gateSet": gates})


def test_a_set_and_what_names_it_are_made_in_one_plan_and_found_as_they_are(
    base_model, contrast_set, suites, plan, apply, grace, ada, person
):
    both = person("both", "author", "approver")
    wanted = [tone(), billing("our-tone"), recipe("our-tone")]
    assert set(actions(plan(wanted)).values()) == {"create"}
    apply(wanted, actor=both)
    assert RiskPolicy.objects.get(name="billing").gate_set == "our-tone@1"
    assert Job.objects.get().recipe["gate_set"]["digest"] == GateSet.objects.get().digest
    assert set(actions(plan(wanted)).values()) == {"no-op"}
    assert set(actions(plan(export_manifests(kinds=["GateSet", "RiskPolicy", "SteeringVector"]))).values()) == {"no-op"}


def test_other_gates_move_whoever_names_the_set_without_a_version_and_the_plan_says_so(base_model, plan, apply, grace):
    apply([tone(), billing("our-tone")], actor=grace)
    moved = plan([tone(threshold="0.95"), billing("our-tone")])
    assert actions(moved) == {"GateSet our-tone": "update", "RiskPolicy billing": "update"}
    (step,) = [step for step in moved.steps if step.kind == "RiskPolicy"]
    assert [(change.field, change.before, change.after) for change in step.changes] == [("spec.gateSet", "our-tone@1", "our-tone@2")]
    assert actions(plan([tone(threshold="0.95"), billing("our-tone@1")]))["RiskPolicy billing"] == "no-op"


@pytest.mark.parametrize(
    ("documents", "code", "path"),
    [
        ([tone("default")], "GATE_SET_TAKEN", "metadata.name"),
        ([tone(metric="charm")], "GATE_INVALID", "spec.gates"),
        ([tone(kind="about")], "GATE_INVALID", "spec.gates"),
    ],
)
def test_a_set_that_cannot_be_is_refused_when_it_is_planned(db, plan, documents, code, path):
    with pytest.raises(ManifestsRefused) as refused:
        plan(documents)
    assert [(fault["code"], fault["field"]) for fault in refused.value.errors] == [(code, f"documents.0.{path}")]


def test_a_set_that_nobody_declared_is_no_reference(base_model, contrast_set, suites, plan):
    for document, path in ((recipe("nothing"), "spec.recipe.gates"), (billing("nothing"), "spec.gateSet")):
        with pytest.raises(ManifestsRefused) as refused:
            plan([document])
        assert [(fault["code"], fault["field"]) for fault in refused.value.errors] == [("MANIFEST_REFERENCE", f"documents.0.{path}")]
