"""SteeringVector: a direction, from a file or from a recipe whose job makes it."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from registry.blobs import get_blob
from registry.manifests.accounts import Risk, StatusCondition, condition, judge_evidence
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import Spec, file
from registry.manifests.kind import Names, Reference, References, Writer
from registry.manifests.kinds.base_model import BaseModels, current_fingerprints, get_base_model, match_base_model, refer_to_base_model
from registry.manifests.kinds.contrast_set import ContrastSets
from registry.manifests.kinds.eval_suite import EvalSuites
from registry.manifests.kinds.gate_set import GateSets, complete_gates
from registry.manifests.kinds.probe import Probes
from registry.manifests.kinds.sealed import Sealed, get_version
from registry.manifests.kinds.vector_recipe import (
    RECIPE,
    as_asked,
    foresee_job,
    parse_recipe,
    read_settings,
    refuse_what_leads_nowhere,
    render_recipe,
    render_settings,
)
from registry.manifests.steps import CREATE, Recorded, Step
from registry.models import ContrastSet, EvalSuite, Evaluation, Job, JobKind, JobState, Profile, SteeringVector
from registry.reads.gates import find_gate_set
from registry.services.job_requests import request_extraction
from registry.services.recipes import parse_extraction_recipe
from registry.services.repeats import describe_failure, find_failed_before
from registry.services.vectors import import_vector
from steernode.errors import SteerError
from steernode.gates import gate_sets


class Vectors(Sealed):
    name = "SteeringVector"
    about = "A direction, from a file or from a recipe. Another file or recipe becomes the next version."
    spec = {**file("A vector file, in safetensors, or a recipe.", recipe=RECIPE), "required": []}
    model = SteeringVector
    # A recipe may name a profile.
    is_written_first = False

    def versions(self) -> "QuerySet[SteeringVector]":
        related = SteeringVector.objects.select_related("base_model", "job__base_model", "job__contrast_set", "job__draft_for")
        return related.prefetch_related("job__suites")

    def render(self, row: SteeringVector) -> Spec:
        return {"recipe": render_recipe(row.job)} if row.job else {"digest": row.digest}

    def what_makes(self, spec: Spec) -> Spec:
        """Neither the profile that a recipe ends as a draft of nor the trace is part of the vector: with others it makes the same bytes."""
        recipe = spec.get("recipe")
        return {"recipe": {name: value for name, value in recipe.items() if name not in ("profile", "trace")}} if recipe else spec

    def govern(self, recorded: Spec, wanted: Spec) -> Spec:
        """Without the profile that the job ended as a draft of, where the manifest no longer names it; and traced as the manifest says:
        both were said to the job alone."""
        if "recipe" not in recorded or "recipe" not in wanted:
            return recorded
        left_out = () if "profile" in wanted["recipe"] else ("profile",)
        kept = {name: value for name, value in recorded["recipe"].items() if name not in left_out}
        return {"recipe": kept | {name: wanted["recipe"][name] for name in ("trace",) if name in kept and name in wanted["recipe"]}}

    def note(self, recorded: Spec, wanted: Spec) -> str:
        if recorded == wanted or self.govern(recorded, wanted) != wanted:
            return ""
        was, now = recorded["recipe"], wanted["recipe"]
        notes = []
        if "profile" in was and "profile" not in now:
            said = "it was said to the job that makes the vector, and leaving it out undoes nothing"
            notes.append(f"spec.recipe.profile stays {was['profile']}: {said}")
        if was.get("trace") != now.get("trace"):
            notes.append("spec.recipe.trace is said to the job that makes the vector: the next version is traced, or not, as it says")
        return "; ".join(notes)

    def read(self, names: Names = None) -> dict[str, Recorded[Any]]:
        """By name, the latest version, or the job that is making the next one."""
        found = super().read(names)
        jobs = Job.objects.filter(kind=JobKind.EXTRACTION, state__in=[JobState.QUEUED, JobState.RUNNING])
        jobs = jobs if names is None else jobs.filter(recipe__vector__in=names)
        for job in jobs.select_related("base_model", "contrast_set", "draft_for").prefetch_related("suites").order_by("requested_at"):
            found[job.recipe["vector"]] = Recorded({"recipe": render_recipe(job)}, job, is_finished=False)
        return found

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        recipe = manifest.spec.get("recipe")
        if recipe is None:
            return
        if "profile" in recipe:
            yield Reference("SteeringProfile", "spec.recipe.profile", recipe["profile"])
        yield Reference(BaseModels.name, "spec.recipe.baseModel", recipe["baseModel"])
        yield Reference(ContrastSets.name, "spec.recipe.contrastSet", recipe["contrastSet"])
        for index, suite in enumerate(recipe["suites"]):
            yield Reference(EvalSuites.name, f"spec.recipe.suites.{index}", suite)
        if isinstance(recipe["gates"], str) and recipe["gates"] not in gate_sets():
            yield Reference(GateSets.name, "spec.recipe.gates", recipe["gates"])
        for named, kind in (("probe", Probes), ("vector", Vectors)):
            if named in recipe.get("condition", {}):
                yield Reference(kind.name, f"spec.recipe.condition.{named}", recipe["condition"][named])

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        recipe = manifest.spec.get("recipe")
        if recipe is None:
            return manifest.spec, []
        versions: Spec = {
            "contrastSet": references.of(ContrastSets).complete(recipe["contrastSet"]),
            "suites": sorted(references.of(EvalSuites).complete(suite) for suite in recipe["suites"]),
            "gates": complete_gates(recipe["gates"], references) if isinstance(recipe["gates"], str) else recipe["gates"],
        }
        if "condition" in recipe:
            complete = {"probe": references.of(Probes).complete, "vector": references.of(Vectors).complete}
            versions["condition"] = {
                name: complete[name](value) if name in complete else value for name, value in recipe["condition"].items()
            }
        base_model = references.of(BaseModels).find(recipe["baseModel"])
        if base_model is None or (isinstance(versions["gates"], str) and find_gate_set(versions["gates"]) is None):
            # Its layers and its gates are not known before they are on record; the job's own check comes then.
            return {"recipe": {**recipe, **versions}}, []
        try:
            settings = parse_extraction_recipe(read_settings(manifest.name, {**recipe, **versions}), base_model)
        except SteerError as error:
            return manifest.spec, [manifest.fault("spec.recipe", error.code, error.message)]
        rendered = render_settings(settings.to_document(), base_model)
        return {"recipe": {**recipe, **versions, "baseModel": refer_to_base_model(base_model), **rendered}}, []

    def find_refused(self, step: Step) -> Iterator[Fault]:
        """A job that would be asked for, and whose request would be refused by what is on record already."""
        if "recipe" not in step.spec or step.manifest is None or (settings := parse_recipe(step)) is None:
            return
        try:
            refuse_what_leads_nowhere(settings, as_asked(step))
        except SteerError as error:
            yield step.manifest.fault("spec.recipe", error.code, error.message)

    def write(self, step: Step, writer: Writer) -> None:
        if "digest" in step.spec:
            import_vector(step.name, data=get_blob(step.spec["digest"]), author=writer.actor)
            return
        recipe = as_asked(step)
        request_extraction(
            base_model=get_base_model(recipe["baseModel"]),
            contrast_set=get_version(ContrastSet.objects.all(), recipe["contrastSet"]),
            suites=[get_version(EvalSuite.objects.all(), suite) for suite in recipe["suites"]],
            recipe=read_settings(step.name, recipe),
            draft_for=Profile.objects.get(name=recipe["profile"]) if "profile" in recipe else None,
            actor=writer.actor,
            # The plan said what became of it the last time.
            again=True,
        )

    def judge(self, rows: Mapping[str, Any]) -> Mapping[str, list[StatusCondition]]:
        vectors = {name: row for name, row in rows.items() if not isinstance(row, Job)}
        current = current_fingerprints()
        looks = Evaluation.objects.filter(vector__in=vectors.values()).order_by("evaluated_at")
        evaluations = {row.vector_id: row for row in looks}
        found = dict(super().judge(vectors))
        for name, row in vectors.items():
            found[name] += [
                match_base_model(row.base_model, current),
                judge_evidence(evaluations.get(row.pk)),
                condition("LineageKnown", not row.is_lineage_claimed, "Claimed" if row.is_lineage_claimed else "MadeHere"),
            ]
        for name in rows.keys() - vectors.keys():
            found[name] = [condition("Sealed", False, f"Job{rows[name].state.title()}", f"job {rows[name].pk} is {rows[name].state}")]
        return found

    def find_risks(self, step: Step) -> Iterator[Risk]:
        if "recipe" in step.spec and step.changes_record:
            recipe = step.spec["recipe"]
            verb = "makes" if step.action == CREATE else "makes another version of"
            onward = f", and if it passes its validation, a draft of {recipe['profile']}" if "profile" in recipe else ""
            same = self.what_makes(step.spec)
            earlier = find_failed_before(
                lambda job: self.what_makes({"recipe": render_recipe(job)}) == same, kind=JobKind.EXTRACTION, recipe__vector=step.name
            )
            if earlier:
                yield Risk("JOB_FAILED_BEFORE", f"{describe_failure(earlier)}; applying asks for it again")
            yield from (Risk(notice["code"], notice["sentence"]) for notice in foresee_job(step))
            yield Risk("JOB_QUEUED", f"a job {verb} the vector from {recipe['contrastSet']} and {recipe['baseModel']}{onward}")
