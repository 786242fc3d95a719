"""Compositions: a draft of several components is judged as a whole, because parts that each pass can break safety together.
So is one component that does anything but add its vector to what is generated, which the vector's validation says nothing of."""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.errors import InvalidInput, TransitionRefused
from registry.models import (
    Component,
    EvalSuite,
    Evaluation,
    Job,
    JobKind,
    JobState,
    ProfileRevision,
    RevisionState,
    SteeringVector,
    User,
)
from registry.reads.documents import digest_components, evaluated_components
from registry.reads.evidence import evidence_of_part, is_as_validated, only_removes
from registry.reads.material import Material
from registry.reads.openings import axis_of
from registry.reads.waivers import waivers_in_force
from registry.services.conditions import refuse_unmet_condition
from registry.services.gate_demands import demanded_gates, find_unmet_gate, find_weaker_part, say_unmeasured
from registry.services.job_requests import check_suites, queue_job, refuse_overlap
from registry.services.openings import open_splits, refuse_chosen_by
from registry.services.power import foresee_power, notice_power, refuse_certain
from registry.services.recipes import parse_decoding, resolve_dtype
from registry.services.transition import transition
from steernode.canonical import format_decimal
from steernode.gates import Gate, composition_gates
from steernode.placement import AUTO
from steernode.records.recipe import CompositionRecipe, ValidationRecipe
from steernode.words import MAX_COMPONENTS


@transition
def request_composition(
    *, revision: ProfileRevision, suites: Sequence[EvalSuite], actor: User, decoding: Any = None, again: bool = False
) -> Job:
    """nothing -> queued: open the test split for all components of a draft together, once for these components.

    Every vector must have passed alone, at its α or beyond it, but for what is waived, and by gates as strict as the policy's where these
    can only be asked of one vector. The whole is held to the gates of a composition, to those that each
    vector had to pass, and to those of the profile's risk policy (`steernode.gates.composition_gates`); nobody chooses among
    them. Replies are chosen as in the vectors' own validations, unless `decoding` says how.
    Raises: TransitionRefused REVISION_STATE, EVIDENCE_MISSING, GATES_FAILED, GATES_UNDECIDABLE, GATES_WEAK, TEST_SPLIT_OPENED,
    COMPOSITION_RUNNING, JOB_FAILED_BEFORE unless it is asked for `again`;
    InvalidInput COMPOSITION_SIZE, DECODING_DIFFERS, SYSTEM_MESSAGE_DIFFERS, RECIPE_DECODING, REVISION_BASE_MODELS, SUITES_MISSING,
    SUITE_AXIS, INTENT_NOBODY_SENDS, CONDITION_NEVER, POWER_MISSING;
    ContrastSetError CONTRAST_SUITE_OVERLAP.
    """
    revision = (
        ProfileRevision.objects.select_for_update(of=("self",))
        .select_related("profile__risk_class", "author", "base_model")
        .get(pk=revision.pk)
    )
    if revision.state != RevisionState.DRAFT:
        raise TransitionRefused("REVISION_STATE", f"{revision} is {revision.state}, not draft", str(revision))
    components = list(revision.components.select_related("vector__base_model", "vector__contrast_set").order_by("position"))
    _check_components(revision, components)
    vectors = list(dict.fromkeys(component.vector for component in components))
    # The vectors' rows make two requests for the same components queue, whichever drafts they are of.
    list(SteeringVector.objects.select_for_update(no_key=True).filter(pk__in=[vector.pk for vector in vectors]).order_by("pk"))
    evaluations = list(dict.fromkeys(_need_evidence(component, revision) for component in components))
    digest = digest_components(revision)
    _refuse_second_look(revision, digest)
    axes = {axis_of(vector) for vector in vectors}
    material = Material(suites)
    check_suites(material, axes)
    for component in components:
        refuse_unmet_condition(component.condition, material)
    for axis in sorted(axes):
        refuse_chosen_by(suites, axis, revision.base_model)
    for vector in vectors:
        refuse_overlap(Material(suites, vector.contrast_set))
    validations = [ValidationRecipe.from_document(evaluation.job.recipe) for evaluation in evaluations]
    dtypes = {validation.model_dtype for validation in validations}
    recipe = CompositionRecipe(
        components=tuple(
            {"name": name, **document} for name, document in zip(_name(components), evaluated_components(revision), strict=True)
        ),
        gates=_choose_gates(revision, components, validations),
        max_new_tokens=max(validation.max_new_tokens for validation in validations),
        # Every vector's, or there would be no such draft.
        template_arguments=vectors[0].template_arguments,
        decoding=_agree_on_decoding(validations) if decoding is None else parse_decoding(decoding),
        system_message=_agree_on_system_message(validations),
        # Those that were judged in one dtype are judged together in it.
        model_dtype=dtypes.pop() if len(dtypes) == 1 else resolve_dtype(AUTO, revision.base_model),
    )
    # What is said of one direction is no gate here, so that no pairs are counted.
    powers = foresee_power(recipe.gates, material)
    refuse_certain(powers)
    job = queue_job(
        JobKind.COMPOSITION,
        suites=suites,
        notices=notice_power(powers),
        recipe=recipe.to_document(),
        base_model=revision.base_model,
        revision=revision,
        components_digest=digest,
        requested_by=actor,
        again=again,
    )
    open_splits(job, suites)
    return job


def _check_components(revision: ProfileRevision, components: Sequence[Component]) -> None:
    if is_as_validated(components):
        problem = f"{revision} adds one vector to what is generated, which the validation of the vector covers"
        raise InvalidInput("COMPOSITION_SIZE", problem, str(revision))
    if len(components) > MAX_COMPONENTS:
        problem = f"{revision} has {len(components)} components; at most {MAX_COMPONENTS} are judged together"
        raise InvalidInput("COMPOSITION_SIZE", problem, str(revision))
    foreign = next((component for component in components if component.vector.base_model_id != revision.base_model_id), None)
    if foreign is not None:
        raise InvalidInput(
            "REVISION_BASE_MODELS",
            f"{revision} steers {revision.base_model.name}, and {foreign.vector} is of another base model",
            str(revision),
        )


def _need_evidence(component: Component, revision: ProfileRevision) -> Evaluation:
    """What the vector showed alone at the α that it is to have, by gates as strict as the policy's where the whole is not asked."""
    evaluation = evidence_of_part(component)
    if evaluation is None:
        raise say_unmeasured(component)
    if problem := find_unmet_gate(evaluation, list(waivers_in_force(evaluation, author=revision.author)), author=revision.author):
        vector = component.vector
        raise TransitionRefused(problem.code, f"{vector} is no part of a composition: alone, {problem.message}", str(vector))
    if problem := find_weaker_part(component, revision.profile.risk_class.gate_set):
        raise problem
    return evaluation


def _choose_gates(revision: ProfileRevision, components: Sequence[Component], validations: Sequence[ValidationRecipe]) -> tuple[Gate, ...]:
    policy = revision.profile.risk_class
    budget = {"metric": "norm_share", "kind": "max", "threshold": format_decimal(policy.composition_budget)}
    asked = [*(validation.gates for validation in validations), demanded_gates(policy.gate_set), [budget]]
    return composition_gates(asked, only_removes=only_removes(components))


def _agree_on_decoding(validations: Sequence[ValidationRecipe]) -> str | Mapping[str, Any]:
    first = validations[0].decoding
    if any(validation.decoding != first for validation in validations):
        raise InvalidInput(
            "DECODING_DIFFERS", "the vectors were validated with replies chosen in different ways; say in which to judge them"
        )
    return first


def _agree_on_system_message(validations: Sequence[ValidationRecipe]) -> str:
    first = validations[0].system_message
    if any(validation.system_message != first for validation in validations):
        raise InvalidInput(
            "SYSTEM_MESSAGE_DIFFERS", "the vectors were validated under different system messages, and a model is served under one"
        )
    return first


def _refuse_second_look(revision: ProfileRevision, digest: str) -> None:
    if Evaluation.objects.filter(components_digest=digest).exists():
        raise TransitionRefused(
            "TEST_SPLIT_OPENED", f"the test split was opened for the components of {revision} already; change them first", str(revision)
        )
    if Job.objects.filter(components_digest=digest, state__in=[JobState.QUEUED, JobState.RUNNING]).exists():
        raise TransitionRefused("COMPOSITION_RUNNING", f"a composition of the components of {revision} is under way", str(revision))


def _name(components: Sequence[Component]) -> list[str]:
    """What people call each: its vector, with its place where one vector is there twice."""
    vectors = [str(component.vector) for component in components]
    return [
        name if vectors.count(name) == 1 else f"{name}, component {component.position + 1}"
        for name, component in zip(vectors, components, strict=True)
    ]
