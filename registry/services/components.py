"""What a revision is made of, as an author writes it: checked by the reader that nodes use, then written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registry.errors import InvalidInput
from registry.models import BaseModel, Component, Probe, ProfileRevision, RiskPolicy
from registry.reads.documents import component_document, policy_document
from registry.reads.probes import describe_probe
from registry.services.conditions import Direction, write_condition
from registry.services.demands import check_limits, refuse_unmet
from steernode.canonical import canonical_json
from steernode.errors import AlphaError, FieldError
from steernode.snapshot.readers import read_component
from steernode.snapshot.records import STATED
from steernode.strict import are_same_arguments, refused_as
from steernode.words import LONGEST_SCHEDULE, MAX_OVERRIDES, STRENGTH_OPERATORS


@dataclass(frozen=True, slots=True)
class Made:
    """What to write of a revision: its components, the conditions of its safety override, the one base model that all are for, and the
    probes that conditions name, as the revision's document lists them."""

    components: list[Component]
    safety_override: list[dict[str, Any]]
    base_model: BaseModel
    probes: list[dict[str, Any]]


@refused_as(InvalidInput, "COMPONENT_INVALID")
def make_components(stated: Sequence[Component], *, safety_override: Sequence[Mapping[str, Any]] = (), policy: RiskPolicy) -> Made:
    """What comes of what an author says. Nothing is written yet.

    `stated` are rows that say it. Conditions are as nodes read them, except that a condition of the kind probe names a `Probe`, and
    nothing else; or a `SteeringVector` as its vector, whose layer and site it then has.
    Raises: InvalidInput REVISION_EMPTY, REVISION_BASE_MODELS, TEMPLATE_ARGUMENTS_DIFFER, COMPONENT_INVALID, COMPONENT_BOUND,
    PROBE_LAYER; SpellingError SPELLING; AlphaError ALPHA_RANGE, ALPHA_STRENGTH, ALPHA_CAP, COMPOSITION_BUDGET.
    """
    if not stated:
        raise InvalidInput("REVISION_EMPTY", "a revision needs at least one component")
    if len(safety_override) > MAX_OVERRIDES:
        raise FieldError("safety_override", f"has {len(safety_override)} conditions; at most {MAX_OVERRIDES} are read")
    read: list[Direction] = [component.vector for component in stated]
    components = [_make_component(component, position, read) for position, component in enumerate(stated)]
    overrides = [write_condition(condition, f"safety_override[{position}]", read) for position, condition in enumerate(safety_override)]
    base_models = {direction.base_model for direction in read}
    if len(base_models) != 1:
        named = ", ".join(dict.fromkeys(f"{direction} of {direction.base_model}" for direction in read))
        raise InvalidInput("REVISION_BASE_MODELS", f"a revision steers one base model, and these belong to {len(base_models)}: {named}")
    _refuse_two_templates(read)
    probes = sorted({each for each in read if isinstance(each, Probe)}, key=lambda probe: (probe.name, probe.version))
    _refuse_late_probe(probes, stated)
    # Better here than once it is evaluated, submitted and approved.
    refuse_unmet(check_limits(components, policy_document(policy)))
    return Made(components, overrides, base_models.pop(), [describe_probe(probe) for probe in probes])


def _refuse_late_probe(probes: Sequence[Probe], stated: Sequence[Component]) -> None:
    """Raises: InvalidInput PROBE_LAYER."""
    first = min(component.vector.layer for component in stated)
    late = next((probe for probe in probes if probe.layer >= first), None)
    if late is not None:
        message = (
            f"{late} reads at layer {late.layer}, and steering begins at layer {first}: only a probe below that is decided before it, in "
            f"the same pass; train one with `below: {first}`"
        )
        raise InvalidInput("PROBE_LAYER", message, str(late))


def _refuse_two_templates(vectors: Sequence[Direction]) -> None:
    """A reply has one prompt, so what steers it was read from prompts written in the same way. Raises: InvalidInput."""
    first = vectors[0]
    other = next((vector for vector in vectors if not are_same_arguments(vector.template_arguments, first.template_arguments)), None)
    if other is not None:
        raise InvalidInput(
            "TEMPLATE_ARGUMENTS_DIFFER",
            f"{first} was read with the template arguments {_write(first)}, {other} with {_write(other)}; a revision asks in one way",
            str(other),
        )


def _write(vector: Direction) -> str:
    return canonical_json(vector.template_arguments).decode()


def write_components(revision: ProfileRevision, components: Sequence[Component]) -> None:
    """In place of those that the draft has."""
    revision.components.all().delete()
    for component in components:
        component.revision = revision
    Component.objects.bulk_create(components)


def _make_component(stated: Component, position: int, read: list[Direction]) -> Component:
    path = f"components[{position}]"
    _check_alpha(stated)
    if (stated.bound is not None) != (stated.operator == "clamp") or stated.bound == 0:
        raise InvalidInput(
            "COMPONENT_BOUND", f"{path}: clamp has a bound, above or below 0 for the side it caps, and nothing else has one", path
        )
    # A row of its own, because the same one may be stated twice.
    component = Component(position=position, vector=stated.vector, **{each.name: getattr(stated, each.name) for each in STATED})
    if component.condition is not None:
        component.condition = write_condition(component.condition, f"{path}.condition", read)
    parameters = read_component(component_document(component), path).schedule.parameters
    if any(tokens > LONGEST_SCHEDULE for _, tokens in parameters):
        raise FieldError(f"{path}.schedule", f"lasts more than {LONGEST_SCHEDULE} tokens")
    return component


def _check_alpha(component: Component) -> None:
    alpha, lowest, highest = component.alpha, component.alpha_min, component.alpha_max
    if not all(number.is_finite() for number in (alpha, lowest, highest)) or not lowest <= alpha <= highest:
        raise AlphaError("ALPHA_RANGE", f"α {alpha} is outside its own range {lowest} to {highest}", str(alpha))
    if component.operator in STRENGTH_OPERATORS and not 0 <= lowest <= highest <= 1:
        raise AlphaError("ALPHA_STRENGTH", f"{component.operator} has a strength from 0 to 1, not {lowest} to {highest}")
