"""SteeringVector: a direction, from a file or from a recipe whose job makes it."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import QuerySet

from registry.blobs import get_blob
from registry.errors import InvalidInput
from registry.manifests.accounts import Risk, StatusCondition, condition, judge_evidence
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import (
    FieldMap,
    Spec,
    arguments,
    choice,
    decimal,
    either,
    file,
    list_of,
    mapping,
    reference,
    slug,
    switch,
    text,
    whole,
)
from registry.manifests.kind import Names, Reference, References, Writer
from registry.manifests.kinds.base_model import (
    BaseModels,
    base_model_reference,
    current_fingerprints,
    get_base_model,
    match_base_model,
    refer_to_base_model,
)
from registry.manifests.kinds.condition import CONDITION
from registry.manifests.kinds.contrast_set import ContrastSets
from registry.manifests.kinds.eval_suite import EvalSuites
from registry.manifests.kinds.gate_set import GATE, GateSets, complete_gates
from registry.manifests.kinds.probe import Probes
from registry.manifests.kinds.sealed import Sealed, get_version
from registry.manifests.steps import CREATE, Recorded, Step
from registry.models import BaseModel, ContrastSet, EvalSuite, Evaluation, Job, JobKind, JobState, Profile, Site, SteeringVector, Unit
from registry.reads.gates import find_gate_set
from registry.reads.lookups import find_version
from registry.services.conditions import refuse_unmet_condition
from registry.services.job_requests import refuse_unscreened, request_extraction
from registry.services.notices import Notice, foresee_notices
from registry.services.power import refuse_certain
from registry.services.recipes import LAYER_NAMES, MODEL_DTYPES, ask_again, parse_extraction_recipe, refuse_beyond_cap
from registry.services.repeats import describe_failure, find_failed_before
from registry.services.vectors import import_vector
from steernode.errors import SteerError
from steernode.gates import MOST_GATES, gate_sets
from steernode.records.decoding import GREEDY_WORD, MAX_SEEDS
from steernode.records.recipe import ExtractionRecipe
from steernode.words import AUTO_ALPHAS, CLOCK_ARGUMENT, DTYPES, MAX_SYSTEM_MESSAGE, METHODS, READ_POSITIONS, SPLITS

_GATE = mapping("A threshold that must be met.", required=GATE)

# What a recipe says beside its inputs.
_SETTINGS = {
    "method": choice("The formula of the direction.", METHODS, default=METHODS[0]),
    "site": choice("Where in a layer.", Site.values, default=Site.RESID_POST.value),
    "readPosition": choice("Which tokens are read.", READ_POSITIONS, default=READ_POSITIONS[0]),
    "layers": either(
        "Which layers are searched; candidates are those that the gates do not refuse for their depth.",
        choice("", LAYER_NAMES),
        list_of("", whole("A layer.", 0, 10_000), low=1, high=1000),
        default=LAYER_NAMES[0],
    ),
    "alphas": either(
        "Which coefficients are tried: auto, each layer's own by how far they move the next token, or one grid for all, in which 0 is the "
        "unsteered baseline.",
        choice("", [AUTO_ALPHAS]),
        list_of("", decimal("A coefficient."), low=2, high=32),
        default=AUTO_ALPHAS,
    ),
    "unit": choice("Of the coefficients.", Unit.values, default=Unit.MEAN_DIFFERENCE.value),
    "gates": either(
        f"What a candidate must meet: {', '.join(gate_sets())}, a GateSet of your own, or gates of the recipe's own.",
        reference(""),
        list_of("", _GATE, low=1, high=MOST_GATES),
        default="default",
    ),
    "maxNewTokens": whole("How long replies may become.", 1, 1024, default=64),
    "dtype": choice("Of the stored vector.", DTYPES, default=DTYPES[0]),
    "modelDtype": choice(
        "What the model is run in; auto is its own if that is bfloat16, else float32.", MODEL_DTYPES, default=MODEL_DTYPES[0]
    ),
    "finalists": whole("How many layers are measured on the whole select split.", 1, 10_000, default=2),
    "trace": switch(
        "Whether the job also traces which layers and tokens carry the behaviour; it may take longer than the search and decides nothing.",
        default=False,
    ),
    "templateArguments": arguments(
        "What the chat template is given beside the messages, such as `enable_thinking: false`; whatever the vector is served in is asked "
        f"with the same. `{CLOCK_ARGUMENT}`, a date, is what a template that writes today's date writes.",
        default={},
    ),
    "decoding": either(
        "How the replies of the validation that follows are chosen. The search is greedy.",
        choice("", [GREEDY_WORD]),
        mapping(
            "",
            required={
                "temperature": decimal("From 0.01 to 2."),
                "seeds": list_of("One reply to each item is drawn for each.", whole("A seed.", 0, 2**53 - 1), low=1, high=MAX_SEEDS),
            },
            optional={"topP": decimal("Only the most likely tokens of this probability are drawn from.", default="1")},
        ),
        default=GREEDY_WORD,
    ),
    "systemMessage": text(
        "What the model is served under; every item of the suites is asked under it that has no system message of its own.",
        max_length=MAX_SYSTEM_MESSAGE,
        min_length=0,
        default="",
    ),
    "condition": {**CONDITION, "description": "Where the vector is to act; its validation judges it there, and elsewhere nothing is done."},
}
_FIELDS = FieldMap(_SETTINGS, as_text=True)

_RECIPE = mapping(
    "How to make the vector. Its job extracts, searches and seals a version; other inputs or settings make another version.",
    required={
        "baseModel": base_model_reference("The base model"),
        "contrastSet": reference("The pairs."),
        "suites": list_of(
            "What candidates are judged by: one behaviour, one factual and one safety suite.", reference("A suite."), low=1, high=20
        ),
    },
    optional={"profile": slug("The profile that its job, and the validation that follows, end as a draft revision of."), **_SETTINGS},
)


class Vectors(Sealed):
    name = "SteeringVector"
    about = "A direction, from a file or from a recipe. Another file or recipe becomes the next version."
    spec = {**file("A vector file, in safetensors, or a recipe.", recipe=_RECIPE), "required": []}
    model = SteeringVector
    # A recipe may name a profile.
    is_written_first = False

    def versions(self) -> "QuerySet[SteeringVector]":
        related = SteeringVector.objects.select_related("base_model", "job__base_model", "job__contrast_set", "job__draft_for")
        return related.prefetch_related("job__suites")

    def render(self, row: SteeringVector) -> Spec:
        return {"recipe": _render_recipe(row.job)} if row.job else {"digest": row.digest}

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
            found[job.recipe["vector"]] = Recorded({"recipe": _render_recipe(job)}, job, is_finished=False)
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
            settings = parse_extraction_recipe(_read_settings(manifest.name, {**recipe, **versions}), base_model)
        except SteerError as error:
            return manifest.spec, [manifest.fault("spec.recipe", error.code, error.message)]
        rendered = _render_settings(settings.to_document(), base_model)
        return {"recipe": {**recipe, **versions, "baseModel": refer_to_base_model(base_model), **rendered}}, []

    def find_refused(self, step: Step) -> Iterator[Fault]:
        """A job that would be asked for, and whose request would be refused by what is on record already."""
        recipe = step.spec.get("recipe")
        if recipe is None or step.manifest is None or (settings := _parse(step)) is None:
            return
        try:
            _refuse_what_leads_nowhere(settings, recipe)
        except SteerError as error:
            yield step.manifest.fault("spec.recipe", error.code, error.message)

    def write(self, step: Step, writer: Writer) -> None:
        if "digest" in step.spec:
            import_vector(step.name, data=get_blob(step.spec["digest"]), author=writer.actor)
            return
        recipe = step.spec["recipe"]
        request_extraction(
            base_model=get_base_model(recipe["baseModel"]),
            contrast_set=get_version(ContrastSet.objects.all(), recipe["contrastSet"]),
            suites=[get_version(EvalSuite.objects.all(), suite) for suite in recipe["suites"]],
            recipe=_read_settings(step.name, recipe),
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
        if "recipe" in step.spec:
            recipe = step.spec["recipe"]
            verb = "makes" if step.action == CREATE else "makes another version of"
            onward = f", and if it passes its validation, a draft of {recipe['profile']}" if "profile" in recipe else ""
            same = self.what_makes(step.spec)
            earlier = find_failed_before(
                lambda job: self.what_makes({"recipe": _render_recipe(job)}) == same, kind=JobKind.EXTRACTION, recipe__vector=step.name
            )
            if earlier:
                yield Risk("JOB_FAILED_BEFORE", f"{describe_failure(earlier)}; applying asks for it again")
            yield from (Risk(notice["code"], notice["sentence"]) for notice in _foresee(step))
            yield Risk("JOB_QUEUED", f"a job {verb} the vector from {recipe['contrastSet']} and {recipe['baseModel']}{onward}")


def _refuse_what_leads_nowhere(settings: ExtractionRecipe, recipe: Spec) -> None:
    """As the request of the job would, of what is on record already.

    Raises: InvalidInput RECIPE_ALPHA_CAP, INTENT_NOBODY_SENDS, CONDITION_NEVER, POWER_MISSING.
    """
    profile = Profile.objects.select_related("risk_class").filter(name=recipe.get("profile", "")).first()
    refuse_beyond_cap(settings, profile)
    contrast_set, suites = _find_inputs(recipe)
    if suites:
        refuse_unmet_condition(settings.condition, suites, SPLITS)
    if profile is not None and contrast_set is not None and suites:
        refuse_certain(settings.gates, suites, contrast_set, settings.condition)


def _find_inputs(recipe: Spec) -> tuple[ContrastSet | None, list[EvalSuite]]:
    """What the recipe names; no suites while the plan is yet to bring one of them."""
    suites = [find_version(EvalSuite.objects.all(), suite) for suite in recipe["suites"]]
    found = [suite for suite in suites if suite is not None]
    return find_version(ContrastSet.objects.all(), recipe["contrastSet"]), found if len(found) == len(suites) else []


def _foresee(step: Step) -> list[Notice]:
    """As the job will have it; nothing while the plan is yet to bring what it works on."""
    recipe = step.spec["recipe"]
    contrast_set, suites = _find_inputs(recipe)
    if contrast_set is None or not suites:
        return []
    settings = _parse(step)
    if settings is None:
        return []
    try:
        refuse_unscreened(recipe, settings.to_document(), contrast_set)
    except InvalidInput as refusal:
        return [{"code": refusal.code, "sentence": f"the job will be refused: {refusal.message}"}]
    return foresee_notices(settings.to_document(), contrast_set, suites)


def _parse(step: Step) -> ExtractionRecipe | None:
    """None while the plan is yet to bring its base model or its gates; the job's own check comes then."""
    recipe = step.spec["recipe"]
    try:
        return parse_extraction_recipe(_read_settings(step.name, recipe), get_base_model(recipe["baseModel"]))
    except (SteerError, IndexError):
        return None


def _render_recipe(job: Job) -> Spec:
    contrast_set = job.contrast_set
    return {
        "baseModel": refer_to_base_model(job.base_model),
        "contrastSet": f"{contrast_set.name}@{contrast_set.version}" if contrast_set else "",
        "suites": sorted(f"{suite.name}@{suite.version}" for suite in job.suites.all()),
        **({"profile": job.draft_for.name} if job.draft_for else {}),
        **_render_settings(job.recipe, job.base_model),
    }


def _render_settings(settings: dict[str, Any], base_model: BaseModel) -> Spec:
    """Layers by name where they have one. A recipe that this hub cannot read any more is shown as it was written."""
    try:
        recipe = ExtractionRecipe.from_document(settings)
        return _FIELDS.to_spec({"system_message": recipe.system_message, **ask_again(recipe, base_model)})
    except SteerError:
        return _FIELDS.to_spec(settings)


def _read_settings(name: str, recipe: Spec) -> dict[str, Any]:
    """The recipe as jobs take it, without its inputs."""
    return {"vector": name, **_FIELDS.to_record(recipe)}
