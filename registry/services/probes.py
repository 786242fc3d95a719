"""Probes: asked for by a recipe over labelled prompts, and sealed with what the test split says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import InvalidInput
from registry.models import BaseModel, Job, JobKind, Probe, PromptSet, Site, User
from registry.models.fields import NAME
from registry.services.job_requests import queue_job, refuse_clock
from registry.services.jobs import complete_job, lock_attempt
from registry.services.names import check_new_name
from registry.services.recipes import MODEL_DTYPES, parse_template_arguments, read_choice, resolve_dtype
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.canonical import canonical_json, format_decimal, parse_alpha, parse_layer
from steernode.errors import AlphaError
from steernode.files.prompts import refuse_classes
from steernode.records.recipe import ProbeRecipe
from steernode.words import PROBE_READ_POSITIONS

DEFAULT_RATE, DEFAULT_LEAST_AUC = "0.05", "0.7"
# Of a recipe that names none: so many, evenly spread below the first steered layer.
MAX_LAYERS = 12


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a worker leaves: the vector file, the canonical document, and the ROC curve (PNG)."""

    vector: bytes
    document: Mapping[str, Any]
    condition: Mapping[str, Any]
    roc: bytes


@transition
def request_probe(*, base_model: BaseModel, prompt_set: PromptSet, recipe: dict[str, Any], actor: User, again: bool = False) -> Job:
    """nothing -> queued: fit a probe on the train split, choose layer and threshold on the select split, judge on the test split.

    Raises: InvalidInput RECIPE_*, PROBE_LAYER, TEMPLATE_CLOCK, NAME_CASE; PromptSetError PROBE_INTENT, PROBE_TOO_FEW;
    LayerError; TransitionRefused JOB_FAILED_BEFORE, unless it is asked for `again`.
    """
    full = parse_probe_recipe(recipe, base_model)
    refuse_classes(prompt_set.counts, full.intent, float(full.target_false_positive_rate))
    refuse_clock(base_model, full.template_arguments)
    check_new_name(Probe, full.probe)
    inputs = {"recipe": full.to_document(), "base_model": base_model, "prompt_set": prompt_set}
    return queue_job(JobKind.PROBE, suites=[], **inputs, requested_by=actor, again=again)


def parse_probe_recipe(recipe: dict[str, Any], base_model: BaseModel) -> ProbeRecipe:
    """The recipe with every default filled in. Beside its fields it may say `below`, the first steered layer, which all layers are below.

    Raises: InvalidInput RECIPE_*, PROBE_LAYER; LayerError LAYER_RANGE.
    """
    unknown = sorted(set(recipe) - {field.name for field in fields(ProbeRecipe)} - {"below"})
    if unknown:
        raise InvalidInput("RECIPE_UNKNOWN_FIELD", f"a recipe of a probe has no field {unknown[0]!r}", unknown[0])
    if not isinstance(recipe.get("probe"), str) or not NAME.fullmatch(recipe["probe"]):
        raise InvalidInput("RECIPE_PROBE", "a recipe names the probe it makes, in letters, digits, '-' and '_'", "probe")
    intent = recipe.get("intent", "")
    if not isinstance(intent, str):
        raise InvalidInput("RECIPE_INTENT", f"intent {intent!r} is not a word", str(intent))
    site = read_choice(recipe, "site", (Site.RESID_POST.value, *(value for value in Site.values if value != Site.RESID_POST.value)))
    return ProbeRecipe(
        probe=recipe["probe"],
        intent=intent,
        layers=_parse_layers(recipe.get("layers"), recipe.get("below"), site, base_model),
        site=site,
        read_position=read_choice(recipe, "read_position", PROBE_READ_POSITIONS),
        target_false_positive_rate=_parse_share(recipe, "target_false_positive_rate", DEFAULT_RATE),
        least_auc=_parse_share(recipe, "least_auc", DEFAULT_LEAST_AUC),
        template_arguments=parse_template_arguments(recipe.get("template_arguments", {})),
        model_dtype=resolve_dtype(read_choice(recipe, "model_dtype", MODEL_DTYPES), base_model),
    )


def _parse_layers(layers: Any, below: Any, site: str, base_model: BaseModel) -> tuple[int, ...]:
    first_steered = base_model.n_layers if below is None else parse_layer(below, base_model.n_layers)
    if layers is None:
        if first_steered == 0:
            raise InvalidInput("PROBE_LAYER", "there is no layer below 0 to read at; steer at a higher one", "below")
        every = [0] if site == Site.EMBEDDING.value else list(range(first_steered))
        count = min(MAX_LAYERS, len(every))
        layers = every if len(every) <= MAX_LAYERS else [every[round(place * (len(every) - 1) / (count - 1))] for place in range(count)]
    if not isinstance(layers, list) or not layers:
        raise InvalidInput("RECIPE_LAYERS", f"layers is a list of layers to read at; got {layers!r}", "layers")
    read = tuple(sorted({parse_layer(layer, base_model.n_layers) for layer in layers}))
    if read[-1] >= first_steered:
        message = f"layer {read[-1]} is not below {first_steered}, the first steered one: no engine could decide it in the same pass"
        raise InvalidInput("PROBE_LAYER", message, str(read[-1]))
    return read


def _parse_share(recipe: Mapping[str, Any], field: str, default: str) -> str:
    """A decimal between 0 and 1, as text."""
    try:
        share = parse_alpha(recipe.get(field, default))
    except AlphaError as error:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field}: {error.message}", field) from error
    if not 0 < share < 1:
        raise InvalidInput(f"RECIPE_{field.upper()}", f"{field} is between 0 and 1, got {share}", field)
    return format_decimal(share)


@transition
def complete_probe(job: Job, result: ProbeResult) -> Probe | None:
    """running -> succeeded, with its sealed probe. None when another attempt owns the job: nothing is written.

    Raises: InvalidInput PROBE_EXISTS, because the same recipe over the same prompts makes the same bytes.
    """
    locked = lock_attempt(job)
    if locked is None or job.prompt_set is None:
        return None
    document_digest = put_blob(canonical_json(result.document))
    known = Probe.objects.filter(document_digest=document_digest).first()
    if known is not None:
        raise InvalidInput("PROBE_EXISTS", f"the recipe made {known} again, byte for byte", str(known))
    recipe, document = ProbeRecipe.from_document(locked.recipe), result.document
    held_out = {name: value for name, value in document["held_out"].items() if name != "roc"}
    probe = Probe.objects.create(
        name=recipe.probe,
        version=next_version(Probe, name=recipe.probe),
        base_model=job.base_model,
        prompt_set=job.prompt_set,
        job=locked,
        digest=put_blob(result.vector),
        layer=document["layer"],
        site=document["site"],
        intent=recipe.intent,
        template_arguments=dict(recipe.template_arguments),
        condition=dict(result.condition),
        held_out=held_out,
        document_digest=document_digest,
        roc_digest=put_blob(result.roc),
        author=job.requested_by,
    )
    record(
        Action.PROBE_TRAINED,
        actor=locked.lease_owner,
        subject=probe,
        details={"digest": probe.digest, "document_digest": document_digest, "layer": probe.layer, "auc": held_out["auc"]["value"]},
        base_model_fingerprint=job.base_model.fingerprint,
    )
    complete_job(locked, result_digest=document_digest)
    return probe
