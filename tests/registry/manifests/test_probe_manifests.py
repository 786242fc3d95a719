"""PromptSet and Probe as manifests, and a profile whose condition names a probe."""

import pytest

from registry.manifests.documents import ManifestsRefused
from registry.manifests.export import export_manifests
from registry.models import Job, Probe
from tests.support.declaring import actions, manifest, profile_manifest
from tests.support.working import train

PART = {"vector": "empathy@1", "alpha": "0.5", "alphaMin": "0", "alphaMax": "0.5", "unit": "mean_difference"}
NAMED = {"kind": "probe", "probe": "refund-intent@1"}


def probe_manifest(**spec):
    return manifest(
        "Probe", "refund-intent", **{"baseModel": "harbor-support", "promptSet": "intents", "intent": "refund", "below": 2, **spec}
    )


def test_a_recipe_asks_for_a_job_once_and_is_exported_as_it_was_asked(plan, apply, base_model, prompt_set):
    planned = plan([probe_manifest()])
    assert actions(planned) == {"Probe refund-intent": "create"}
    apply([probe_manifest()])
    job = Job.objects.get()
    assert (job.kind, job.recipe["layers"], job.prompt_set) == ("probe", [0, 1], prompt_set)
    # While its job runs, and after.
    assert actions(plan([probe_manifest()])) == {"Probe refund-intent": "no-op"}
    train(job)
    assert actions(plan([probe_manifest()])) == {"Probe refund-intent": "no-op"}
    exported = export_manifests(kinds=["Probe", "PromptSet"], with_status=True)
    assert {document["kind"] for document in exported} == {"Probe", "PromptSet"}
    assert set(actions(plan(exported)).values()) == {"no-op"}
    conditions = {each["type"]: each for each in next(each for each in exported if each["kind"] == "Probe")["status"]["conditions"]}
    assert "AUC 0.97" in conditions["Separates"]["message"]
    changed = plan([probe_manifest(targetFalsePositiveRate="0.1")])
    assert actions(changed) == {"Probe refund-intent": "update"}


def test_a_recipe_that_gives_no_probe_is_a_fault_of_its_file(plan, base_model, prompt_set):
    for spec, code in (({"layers": [2]}, "PROBE_LAYER"), ({"promptSet": "nobody"}, "MANIFEST_REFERENCE")):
        with pytest.raises(ManifestsRefused) as refused:
            plan([probe_manifest(**spec)])
        assert [each["code"] for each in refused.value.errors] == [code]


def test_a_profile_names_a_probe_and_is_exported_with_the_name(plan, apply, vector, train_probe):
    train_probe()
    revision = {"components": [{**PART, "condition": NAMED}], "safetyOverride": [NAMED]}
    documents = [profile_manifest("warm", revision=revision)]
    apply(documents)
    (exported,) = export_manifests(kinds=["SteeringProfile"], names=["warm"])
    assert exported["spec"]["revision"]["components"][0]["condition"] == NAMED
    assert exported["spec"]["revision"]["safetyOverride"] == [NAMED]
    assert set(actions(plan([exported])).values()) == {"no-op"}
    latest = [profile_manifest("warm", revision={**revision, "safetyOverride": [{**NAMED, "probe": "refund-intent"}]})]
    assert set(actions(plan(latest)).values()) == {"no-op"}
    missing = [profile_manifest("warm", revision={**revision, "safetyOverride": [{**NAMED, "probe": "nobody"}]})]
    with pytest.raises(ManifestsRefused) as refused:
        plan(missing)
    assert [each["code"] for each in refused.value.errors] == ["MANIFEST_REFERENCE"]
    assert Probe.objects.count() == 1


@pytest.mark.parametrize("version", [1, 2])
def test_of_two_probes_that_say_the_same_the_one_that_is_named_is_exported(plan, apply, vector, train_probe, version):
    first, second = train_probe(layers=[0, 1]), train_probe(layers=[1])
    assert (first.condition == second.condition, first.document_digest == second.document_digest) == (True, False)
    named = {"kind": "probe", "probe": f"refund-intent@{version}"}
    revision = {"components": [{**PART, "condition": named}], "safetyOverride": [named]}
    apply([profile_manifest("warm", revision=revision)])
    (exported,) = export_manifests(kinds=["SteeringProfile"], names=["warm"])
    assert exported["spec"]["revision"]["components"][0]["condition"] == named
    assert exported["spec"]["revision"]["safetyOverride"] == [named]
    assert set(actions(plan([exported])).values()) == {"no-op"}
