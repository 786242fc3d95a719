"""Requests for jobs: each is held against what is on record, then refused, or queued as a job. What becomes of that is in `jobs`."""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

from registry.audit import Action, record
from registry.dispatch import send_job
from registry.errors import InvalidInput, TransitionRefused
from registry.models import (
    BaseModel,
    ContrastPair,
    ContrastSet,
    EvalItem,
    EvalSuite,
    Job,
    JobKind,
    JobState,
    Profile,
    SteeringVector,
    SuiteKind,
    User,
)
from registry.models.fields import refuse_rounding
from registry.reads.material import Material
from registry.reads.openings import ANY_AXIS, axis_of, judged_axis
from registry.services.base_models import resolve_model_folder
from registry.services.conditions import refuse_unmet_condition
from registry.services.names import check_new_name
from registry.services.notices import foresee_notices, say_few_pairs
from registry.services.openings import open_splits, refuse_opened
from registry.services.power import foresee_power, notice_power, refuse_certain
from registry.services.recipes import parse_decoding, parse_extraction_recipe, parse_gates, refuse_beyond_cap, resolve_dtype
from registry.services.repeats import refuse_known, refuse_repeat
from registry.services.transition import transition
from steernode.canonical import format_decimal, parse_alpha
from steernode.errors import ContrastSetError
from steernode.files.splits import refuse_nothing_to_extract
from steernode.files.templates import reads_clock
from steernode.gates import Gate
from steernode.placement import AUTO
from steernode.records.decoding import GREEDY_WORD
from steernode.records.recipe import ExtractionRecipe, ValidationRecipe
from steernode.words import CLOCK_ARGUMENT, MIN_PAIRS_FOR_SCREEN, SPLITS

# The fields that a job's result depends on, beside its suites.
_WHAT_IS_DONE = ("recipe", "base_model", "contrast_set", "prompt_set", "vector", "components_digest")
# What a search and a validation cannot be judged without.
NEEDED_KINDS = (SuiteKind.BEHAVIOUR, SuiteKind.FACTUAL, SuiteKind.SAFETY)


@transition
def request_extraction(
    *,
    base_model: BaseModel,
    contrast_set: ContrastSet,
    suites: Sequence[EvalSuite],
    recipe: dict[str, Any],
    actor: User,
    draft_for: Profile | None = None,
    again: bool = False,
) -> Job:
    """nothing -> queued: extract directions, sweep layers, search α on the select split.

    With `draft_for` the job goes on by itself: to a validation with the same suites, and if that passes to a draft revision of
    the profile, written in the name of `actor`.
    Raises: InvalidInput RECIPE_*, TEMPLATE_CLOCK, SCREEN_PAIRS, SUITES_MISSING, SUITE_AXIS, INTENT_NOBODY_SENDS, CONDITION_NEVER, and
    POWER_MISSING with `draft_for`;
    LayerError; AlphaError; ContrastSetError CONTRAST_SUITE_OVERLAP, CONTRAST_EXTRACT_EMPTY;
    TransitionRefused VECTOR_EXISTS, where the record has the vector that it would make; TEST_SPLIT_OPENED, with `draft_for`;
    JOB_FAILED_BEFORE, unless it is asked for `again`.
    """
    parsed = parse_extraction_recipe(recipe, base_model)
    refuse_beyond_cap(parsed, draft_for)
    refuse_clock(base_model, parsed.template_arguments)
    check_new_name(SteeringVector, parsed.vector)
    material = Material(suites, contrast_set)
    refuse_extraction(parsed, recipe.get("layers"), material, draft_for)
    refuse_known(parsed, base_model, material)
    if draft_for is not None:
        # The validation that follows would be refused, after all the work.
        refuse_certain(foresee_power(parsed.gates, material, parsed.condition))
        refuse_opened(suites, contrast_set.axis, base_model, searched=suites)
    return queue_job(
        JobKind.EXTRACTION,
        suites=suites,
        recipe=parsed.to_document(),
        base_model=base_model,
        contrast_set=contrast_set,
        draft_for=draft_for,
        requested_by=actor,
        notices=foresee_notices(parsed, material),
        again=again,
    )


def refuse_extraction(recipe: ExtractionRecipe, layers: Any, material: Material, draft_for: Profile | None) -> None:
    """By all that its material says, as its plan does beforehand. `layers` are as they were asked for.

    Raises: InvalidInput SUITES_*, SUITE_AXIS, RECIPE_PROFILE_AXIS, INTENT_NOBODY_SENDS, CONDITION_NEVER, SCREEN_PAIRS; ContrastSetError.
    """
    check_suites(material, [axis_of(material)])
    refuse_overlap(material)
    refuse_nothing_to_extract(material.parts)
    _check_axis(material, draft_for)
    refuse_unmet_condition(recipe.condition, material, SPLITS)
    _refuse_unscreened(recipe, layers, material)


def _refuse_unscreened(recipe: ExtractionRecipe, layers: Any, material: Material) -> None:
    """Layers that nobody chose, and that cannot be screened, would each write replies at every α.

    Raises: InvalidInput SCREEN_PAIRS.
    """
    if not isinstance(layers, list) and (few := say_few_pairs(recipe, material)):
        raise InvalidInput(
            "SCREEN_PAIRS",
            f"the layers cannot be screened: {few}. Name the layers to search, {recipe.finalists} or a few more, or make more "
            f"pairs ({MIN_PAIRS_FOR_SCREEN} in that split are about {MIN_PAIRS_FOR_SCREEN * 7} in all)",
            "layers",
        )


def refuse_clock(base_model: BaseModel, arguments: Mapping[str, Any]) -> None:
    """Where no argument says what the clock shows. Whether the one that is given does, the job finds out at once."""
    folder = resolve_model_folder(base_model.source)
    if folder.is_dir() and not arguments and reads_clock(folder):
        raise InvalidInput(
            "TEMPLATE_CLOCK",
            f"the chat template of {base_model.name} writes today's date, and would be another template tomorrow; give it one in "
            f"template_arguments: {CLOCK_ARGUMENT}, such as 2026-11-30, or the argument that it looks at before the clock",
            CLOCK_ARGUMENT,
        )


@transition
def request_validation(
    *,
    vector: SteeringVector,
    suites: Sequence[EvalSuite],
    actor: User,
    alpha: Decimal | None = None,
    unit: str = "",
    decoding: Any = None,
    gates: Any = None,
    draft_for: Profile | None = None,
    again: bool = False,
) -> Job:
    """nothing -> queued: open the test split of these suites for this vector, at the proposed α unless another is given.

    Test items judge one axis on one base model once: another look, at this vector or at another, takes suites with new ones.

    Replies are chosen as `decoding` says, or as the recipe of the vector's extraction does, or greedily; they are held to `gates`, a set
    by its name or a list, or to those of that recipe, or to the set `default`. With `draft_for` it ends as a draft revision of the
    profile, if it passes.
    Raises: TransitionRefused TEST_SPLIT_OPENED, VALIDATION_RUNNING, JOB_FAILED_BEFORE unless `again`;
    InvalidInput ALPHA_MISSING, RECIPE_DECODING, RECIPE_GATES, SUITES_MISSING, SUITE_AXIS, RECIPE_PROFILE_AXIS, INTENT_NOBODY_SENDS,
    CONDITION_NEVER, POWER_MISSING; GateError GATE_INVALID.
    """
    locking = SteeringVector.objects.select_for_update(of=("self",), no_key=True)
    vector = locking.select_related("base_model", "contrast_set").get(pk=vector.pk)
    if vector.validations.filter(state__in=[JobState.QUEUED, JobState.RUNNING]).exists():
        raise TransitionRefused("VALIDATION_RUNNING", f"a validation of {vector} is under way", str(vector))
    material = Material(suites, vector.contrast_set)
    check_suites(material, [axis_of(material)])
    refuse_overlap(material)
    _check_axis(material, draft_for)
    made_by = _recipe_of(vector)
    condition = made_by.condition if made_by else None
    refuse_unmet_condition(condition, material)
    held_to, _ = _choose_gates(made_by, gates)
    powers = foresee_power(held_to, material, condition)
    refuse_certain(powers)
    asked = {"alpha": alpha, "unit": unit, "decoding": decoding, "gates": gates, "notices": notice_power(powers)}
    return queue_validation(vector, suites=suites, **asked, requested_by=actor, draft_for=draft_for, again=again)


def _recipe_of(vector: SteeringVector) -> ExtractionRecipe | None:
    return ExtractionRecipe.from_document(vector.job.recipe) if vector.job else None


def _choose_gates(extraction: ExtractionRecipe | None, gates: Any) -> tuple[tuple[Gate, ...], Mapping[str, Any]]:
    """What is asked for, or what the vector's extraction was held to, or the set `default`; and which set that is."""
    if gates is None and extraction and not isinstance(extraction.gates, str):
        return extraction.gates, extraction.gate_set
    return parse_gates(gates or (extraction.gates if extraction else "default"))


def queue_validation(
    vector: SteeringVector, *, alpha: Decimal | None = None, unit: str = "", decoding: Any = None, gates: Any = None, **fields: Any
) -> Job:
    """A validation by these gates, or by those of the vector's extraction, where it is to act and as it is to be served; with the `fields`
    of `queue_job`.

    Raises: TransitionRefused TEST_SPLIT_OPENED; InvalidInput ALPHA_MISSING, RECIPE_DECODING, RECIPE_GATES; AlphaError ALPHA_FORMAT;
    GateError GATE_INVALID.
    """
    refuse_opened(fields["suites"], axis_of(vector), vector.base_model)
    alpha = vector.proposed_alpha if alpha is None else parse_alpha(alpha)
    if alpha is None:
        raise InvalidInput("ALPHA_MISSING", f"{vector} proposes no α; say at which α to validate it", str(vector))
    extraction = _recipe_of(vector)
    if decoding is None:
        decoding = extraction.decoding if extraction else GREEDY_WORD
    held_to, gate_set = _choose_gates(extraction, gates)
    recipe = ValidationRecipe(
        alpha=format_decimal(refuse_rounding(alpha)),
        unit=unit or vector.proposed_unit or "mean_difference",
        gates=held_to,
        gate_set=gate_set,
        max_new_tokens=extraction.max_new_tokens if extraction else 64,
        template_arguments=vector.template_arguments,
        decoding=parse_decoding(decoding),
        model_dtype=extraction.model_dtype if extraction else resolve_dtype(AUTO, vector.base_model),
        system_message=extraction.system_message if extraction else "",
        condition=extraction.condition if extraction else None,
    )
    job = queue_job(JobKind.VALIDATION, recipe=recipe.to_document(), base_model=vector.base_model, vector=vector, **fields)
    open_splits(job, fields["suites"])
    return job


def _check_axis(material: Material, profile: Profile | None) -> None:
    """Raises: InvalidInput RECIPE_PROFILE_AXIS."""
    axis = axis_of(material)
    if profile is not None and axis not in (profile.axis, ANY_AXIS):
        raise InvalidInput(
            "RECIPE_PROFILE_AXIS",
            f"{material.contrast_set} is about {axis}, the profile {profile} about {profile.axis}; name a profile of that axis",
            profile.name,
        )


def queue_job(kind: JobKind, *, suites: Sequence[EvalSuite], again: bool = False, **fields: Any) -> Job:
    """The last step of every request: a job with its suites, its event, and its message on commit. `fields` are the job's own.

    Raises: TransitionRefused JOB_FAILED_BEFORE, unless it is asked for `again`.
    """
    if not again:
        refuse_repeat(kind=kind, suites=suites, **{name: fields[name] for name in _WHAT_IS_DONE if name in fields})
    job = Job.objects.create(kind=kind, **fields)
    job.suites.set(suites)
    record(
        Action.JOB_REQUESTED,
        actor=job.requested_by,
        subject=job,
        details={
            "kind": job.kind,
            "suites": sorted(str(suite) for suite in suites),
            "draft_for": job.draft_for.name if job.draft_for else None,
            "follows": str(job.follows_id) if job.follows_id else None,
        },
        base_model_fingerprint=job.base_model.fingerprint,
    )
    send_job(job)
    return job


def check_suites(material: Material, axes: Collection[str]) -> None:
    """What is named is what judges: one suite of each kind that there must be, and at most one of any other. The behaviour suite judges
    one of the axes that the vectors are about.

    Raises: InvalidInput SUITES_MISSING, SUITES_OF_ONE_KIND, SUITE_NOT_RUN, SUITE_AXIS.
    """
    suites = material.suites
    of_kind = {kind: [str(suite) for suite in suites if suite.kind == kind] for kind in SuiteKind.values}
    for kind, named in of_kind.items():
        if len(named) > 1:
            message = f"{' and '.join(sorted(named))} are of the kind {kind}; one suite of a kind judges, so name one, or put both into one"
            raise InvalidInput("SUITES_OF_ONE_KIND", message, kind)
    for suite in suites:
        if suite.kind == SuiteKind.FLUENCY and not all(item.turns for item in material.files[suite].items):
            # It would stand on record as having judged.
            problem = "only conversations of several turns are; fluency is measured on the replies to the other suites"
            raise InvalidInput("SUITE_NOT_RUN", f"not all items of {suite} are read: {problem}", str(suite))
    for kind in NEEDED_KINDS:
        if not of_kind[kind]:
            raise InvalidInput("SUITES_MISSING", f"name a {kind} suite", kind)
    judged = judged_axis(suites)
    if judged not in axes and ANY_AXIS not in axes:
        (judge,) = of_kind[SuiteKind.BEHAVIOUR]
        problem = f"{judge} judges {judged}, and what it is to judge is about {' and '.join(sorted(axes))}; name a suite of that axis"
        raise InvalidInput("SUITE_AXIS", problem, judge)


def refuse_overlap(material: Material) -> None:
    """A prompt in both would let a vector be judged by what it was made from."""
    pairs = ContrastPair.objects.filter(contrast_set=material.contrast_set)
    clash = EvalItem.objects.filter(suite__in=material.suites, prompt_key__in=pairs.values("prompt_key")).select_related("suite").first()
    if clash is not None:
        pair = pairs.filter(prompt_key=clash.prompt_key).first()
        pair_id = pair.pair_id if pair else ""
        raise ContrastSetError(
            "CONTRAST_SUITE_OVERLAP",
            f"pair {pair_id!r} of {material.contrast_set} asks the same as item {clash.item_id!r} of {clash.suite}",
            pair_id,
        )
