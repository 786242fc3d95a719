"""The recipe of a vector: how a manifest says it, how a job takes it, and what is known of that job before it is asked for."""

from typing import Any

from registry.manifests.fields import (
    FieldMap,
    Spec,
    arguments,
    choice,
    decimal,
    either,
    list_of,
    mapping,
    reference,
    slug,
    switch,
    text,
    whole,
)
from registry.manifests.kinds.base_model import base_model_reference, get_base_model, refer_to_base_model
from registry.manifests.kinds.condition import CONDITION
from registry.manifests.kinds.gate_set import GATE
from registry.manifests.steps import Step
from registry.models import BaseModel, ContrastSet, EvalSuite, Job, Profile, Site, Unit
from registry.reads.lookups import find_version
from registry.reads.material import Material
from registry.services.conditions import refuse_unmet_condition
from registry.services.job_requests import refuse_clock, refuse_extraction
from registry.services.notices import Notice, foresee_notices
from registry.services.power import foresee_power, refuse_certain
from registry.services.recipes import LAYER_NAMES, MODEL_DTYPES, ask_again, parse_extraction_recipe, refuse_beyond_cap
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

RECIPE = mapping(
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


def as_asked(step: Step) -> Spec:
    """The recipe with every reference in its one form, and the layers as the manifest says them: a list of all of them was chosen."""
    return {**step.spec["recipe"], "layers": (step.manifest or step).spec["recipe"]["layers"]}


def refuse_what_leads_nowhere(settings: ExtractionRecipe, recipe: Spec) -> None:
    """As the request of the job would, of what is on record already, whose layers are as they were asked for. Raises: as that."""
    profile = Profile.objects.select_related("risk_class").filter(name=recipe.get("profile", "")).first()
    refuse_beyond_cap(settings, profile)
    refuse_clock(get_base_model(recipe["baseModel"]), settings.template_arguments)
    material = _find_material(recipe)
    if material.suites and material.contrast_set:
        refuse_extraction(settings, recipe["layers"], material, profile)
        if profile is not None:
            refuse_certain(foresee_power(settings.gates, material, settings.condition))
    elif material.suites:
        refuse_unmet_condition(settings.condition, material, SPLITS)


def _find_material(recipe: Spec) -> Material:
    """What the recipe names; no suites while the plan is yet to bring one of them."""
    suites = [find_version(EvalSuite.objects.all(), suite) for suite in recipe["suites"]]
    found = [suite for suite in suites if suite is not None]
    contrast_set = find_version(ContrastSet.objects.all(), recipe["contrastSet"])
    return Material(found if len(found) == len(suites) else [], contrast_set)


def foresee_job(step: Step) -> list[Notice]:
    """As the job will have it; nothing while the plan is yet to bring what it works on."""
    settings, material = parse_recipe(step), _find_material(step.spec["recipe"])
    return foresee_notices(settings, material) if settings and material.suites and material.contrast_set else []


def parse_recipe(step: Step) -> ExtractionRecipe | None:
    """None while the plan is yet to bring its base model or its gates; the job's own check comes then."""
    recipe = step.spec["recipe"]
    try:
        return parse_extraction_recipe(read_settings(step.name, recipe), get_base_model(recipe["baseModel"]))
    except (SteerError, IndexError):
        return None


def render_recipe(job: Job) -> Spec:
    contrast_set = job.contrast_set
    return {
        "baseModel": refer_to_base_model(job.base_model),
        "contrastSet": f"{contrast_set.name}@{contrast_set.version}" if contrast_set else "",
        "suites": sorted(f"{suite.name}@{suite.version}" for suite in job.suites.all()),
        **({"profile": job.draft_for.name} if job.draft_for else {}),
        **render_settings(job.recipe, job.base_model),
    }


def render_settings(settings: dict[str, Any], base_model: BaseModel) -> Spec:
    """Layers by name where they have one. A recipe that this hub cannot read any more is shown as it was written."""
    try:
        recipe = ExtractionRecipe.from_document(settings)
        return _FIELDS.to_spec({"system_message": recipe.system_message, **ask_again(recipe, base_model)})
    except SteerError:
        return _FIELDS.to_spec(settings)


def read_settings(name: str, recipe: Spec) -> dict[str, Any]:
    """The recipe as jobs take it, without its inputs."""
    return {"vector": name, **_FIELDS.to_record(recipe)}
