"""Probe: which prompts a profile steers, from a recipe whose job trains it."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from registry.manifests.accounts import Risk, StatusCondition, condition
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import FieldMap, Spec, arguments, choice, decimal, list_of, mapping, reference, text, whole
from registry.manifests.kind import Names, Reference, References, Writer
from registry.manifests.kinds.base_model import (
    BaseModels,
    base_model_reference,
    current_fingerprints,
    get_base_model,
    match_base_model,
    refer_to_base_model,
)
from registry.manifests.kinds.prompt_set import PromptSets
from registry.manifests.kinds.sealed import Sealed, get_version
from registry.manifests.steps import CREATE, Recorded, Step
from registry.models import Job, JobKind, JobState, Probe, PromptSet, Site
from registry.services.probes import DEFAULT_LEAST_AUC, DEFAULT_RATE, parse_probe_recipe, request_probe
from registry.services.recipes import MODEL_DTYPES
from registry.services.repeats import describe_failure, find_failed_before
from steernode.errors import SteerError
from steernode.words import PROBE_READ_POSITIONS

_SETTINGS = {
    "intent": text("Which prompts it fires on; left out where they are labelled true and false.", max_length=64, min_length=0, default=""),
    "layers": list_of("Where it is tried; left out, layers below `below`.", whole("A layer.", 0, 10_000), low=1, high=1000),
    "site": choice("Where in a layer.", Site.values, default=Site.RESID_POST.value),
    "readPosition": choice("Which tokens are read.", PROBE_READ_POSITIONS, default=PROBE_READ_POSITIONS[0]),
    "targetFalsePositiveRate": decimal("What the threshold keeps to on the select split.", default=DEFAULT_RATE),
    "leastAuc": decimal("What the low end of the AUC's interval must reach.", default=DEFAULT_LEAST_AUC),
    "modelDtype": choice(
        "What the model is run in; auto is its own if that is bfloat16, else float32.", MODEL_DTYPES, default=MODEL_DTYPES[0]
    ),
    "templateArguments": arguments("What the chat template is given beside the messages, as whatever is served is asked with.", default={}),
}
_FIELDS = FieldMap(_SETTINGS, as_text=True)


class Probes(Sealed):
    name = "Probe"
    about = "Which prompts a profile steers, learned from labelled ones. Another recipe becomes the next version."
    spec = mapping(
        "How to train it. Its job fits, chooses layer and threshold, judges and seals a version.",
        required={"baseModel": base_model_reference("The base model"), "promptSet": reference("The labelled prompts.")},
        optional={
            "below": whole("The first layer that will be steered: all layers are below it.", 1, 10_000),
            **_SETTINGS,
        },
    )
    model = Probe
    is_written_first = True

    def versions(self) -> "QuerySet[Probe]":
        return Probe.objects.select_related("base_model", "job__base_model", "job__prompt_set")

    def render(self, row: Probe) -> Spec:
        return _render_recipe(row.job)

    def read(self, names: Names = None) -> dict[str, Recorded[Any]]:
        """By name, the latest version, or the job that is making the next one."""
        found = super().read(names)
        jobs = Job.objects.filter(kind=JobKind.PROBE, state__in=[JobState.QUEUED, JobState.RUNNING])
        jobs = jobs if names is None else jobs.filter(recipe__probe__in=names)
        for job in jobs.select_related("base_model", "prompt_set").order_by("requested_at"):
            found[job.recipe["probe"]] = Recorded(_render_recipe(job), job, is_finished=False)
        return found

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        yield Reference(BaseModels.name, "spec.baseModel", manifest.spec["baseModel"])
        yield Reference(PromptSets.name, "spec.promptSet", manifest.spec["promptSet"])

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        spec = {**manifest.spec, "promptSet": references.of(PromptSets).complete(manifest.spec["promptSet"])}
        base_model = references.of(BaseModels).find(spec["baseModel"])
        if base_model is None:
            # Its layers are not known before it is registered; the job's own check comes then.
            return spec, []
        try:
            settings = parse_probe_recipe(_read_settings(manifest.name, spec), base_model).to_document()
        except SteerError as error:
            return manifest.spec, [manifest.fault("spec", error.code, error.message)]
        # What `below` means is in the layers.
        return {"promptSet": spec["promptSet"], "baseModel": refer_to_base_model(base_model), **_FIELDS.to_spec(settings)}, []

    def write(self, step: Step, writer: Writer) -> None:
        request_probe(
            base_model=get_base_model(step.spec["baseModel"]),
            prompt_set=get_version(PromptSet.objects.all(), step.spec["promptSet"]),
            recipe=_read_settings(step.name, step.spec),
            actor=writer.actor,
            # The plan said what became of it the last time.
            again=True,
        )

    def judge(self, rows: Mapping[str, Any]) -> Mapping[str, list[StatusCondition]]:
        probes = {name: row for name, row in rows.items() if not isinstance(row, Job)}
        current = current_fingerprints()
        found = dict(super().judge(probes))
        for name, row in probes.items():
            auc = row.held_out["auc"]
            said = f"AUC {auc['value']} [{auc['low']}, {auc['high']}] on the test split"
            found[name] += [match_base_model(row.base_model, current), condition("Separates", True, "Measured", said)]
        for name in rows.keys() - probes.keys():
            found[name] = [condition("Sealed", False, f"Job{rows[name].state.title()}", f"job {rows[name].pk} is {rows[name].state}")]
        return found

    def find_risks(self, step: Step) -> Iterator[Risk]:
        verb = "trains" if step.action == CREATE else "trains another version of"
        earlier = find_failed_before(lambda job: _render_recipe(job) == step.spec, kind=JobKind.PROBE, recipe__probe=step.name)
        if earlier:
            yield Risk("JOB_FAILED_BEFORE", f"{describe_failure(earlier)}; applying asks for it again")
        yield Risk("JOB_QUEUED", f"a job {verb} the probe from {step.spec['promptSet']} and {step.spec['baseModel']}")


def _render_recipe(job: Job) -> Spec:
    prompt_set = job.prompt_set
    return {
        "baseModel": refer_to_base_model(job.base_model),
        "promptSet": f"{prompt_set.name}@{prompt_set.version}" if prompt_set else "",
        **_FIELDS.to_spec(job.recipe),
    }


def _read_settings(name: str, spec: Spec) -> dict[str, Any]:
    """The recipe as jobs take it, without its inputs."""
    below = {"below": spec["below"]} if "below" in spec else {}
    return {"probe": name, **below, **_FIELDS.to_record(spec)}
