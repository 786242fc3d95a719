"""What a revision is made of, as an author writes it: checked by the readers that nodes use, then written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from registry.errors import InvalidInput
from registry.models import BaseModel, Component, ProfileRevision, RiskPolicy, SteeringVector, TokenScope
from registry.models.profiles import constant_schedule
from registry.reads.documents import component_document, policy_document, vector_entry
from registry.services.demands import check_limits, refuse_unmet
from steernode.errors import AlphaError, FieldError
from steernode.snapshot.conditions import read_known_condition
from steernode.snapshot.readers import read_component
from steernode.strict import refused_as
from steernode.words import LONGEST_SCHEDULE, MAX_CONDITION_ENTRIES, MAX_OVERRIDES, STRENGTH_OPERATORS


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One component as an author writes it. α inside [alpha_min, alpha_max]; for ablate and clamp a strength from 0 to 1.

    `schedule` and `condition` are as nodes read them, except that a probe names a `SteeringVector` as its vector; its layer and
    site are the vector's.
    """

    vector: SteeringVector
    alpha: Decimal
    alpha_min: Decimal
    alpha_max: Decimal
    unit: str
    operator: str = "add"
    scope: str = TokenScope.GENERATED.value
    bound: Decimal | None = None
    preserve_norm: bool = False
    schedule: Mapping[str, Any] = field(default_factory=constant_schedule)
    condition: Mapping[str, Any] | None = None


@refused_as(InvalidInput, "COMPONENT_INVALID")
def make_components(
    specs: Sequence[ComponentSpec], *, safety_override: Sequence[Mapping[str, Any]] = (), policy: RiskPolicy
) -> tuple[list[Component], list[dict[str, Any]], BaseModel]:
    """The components and conditions to write, and the one base model that all of them are for. Nothing is written yet.

    Raises: InvalidInput REVISION_EMPTY, REVISION_BASE_MODELS, COMPONENT_INVALID, COMPONENT_BOUND;
    AlphaError ALPHA_RANGE, ALPHA_STRENGTH, ALPHA_CAP, COMPOSITION_BUDGET.
    """
    if not specs:
        raise InvalidInput("REVISION_EMPTY", "a revision needs at least one component")
    if len(safety_override) > MAX_OVERRIDES:
        raise FieldError("safety_override", f"has {len(safety_override)} conditions; at most {MAX_OVERRIDES} are read")
    vectors = [spec.vector for spec in specs]
    components = [_make_component(spec, position, vectors) for position, spec in enumerate(specs)]
    overrides = [_write_condition(condition, f"safety_override[{position}]", vectors) for position, condition in enumerate(safety_override)]
    base_models = {vector.base_model for vector in vectors}
    if len(base_models) != 1:
        raise InvalidInput("REVISION_BASE_MODELS", f"the vectors belong to {len(base_models)} base models; a revision steers one")
    # Better here than once it is evaluated, submitted and approved.
    refuse_unmet(check_limits(components, policy_document(policy)))
    return components, overrides, base_models.pop()


def write_components(revision: ProfileRevision, components: Sequence[Component]) -> None:
    """In place of those that the draft has."""
    revision.components.all().delete()
    for component in components:
        component.revision = revision
    Component.objects.bulk_create(components)


def _make_component(spec: ComponentSpec, position: int, vectors: list[SteeringVector]) -> Component:
    path = f"components[{position}]"
    _check_alpha(spec)
    if (spec.bound is not None) != (spec.operator == "clamp") or spec.bound == 0:
        raise InvalidInput(
            "COMPONENT_BOUND", f"{path}: clamp has a bound, above or below 0 for the side it caps, and nothing else has one", path
        )
    component = Component(
        position=position,
        vector=spec.vector,
        operator=spec.operator,
        alpha=spec.alpha,
        alpha_min=spec.alpha_min,
        alpha_max=spec.alpha_max,
        unit=spec.unit,
        scope=spec.scope,
        bound=spec.bound,
        preserve_norm=spec.preserve_norm,
        schedule=dict(spec.schedule),
        condition=None if spec.condition is None else _write_condition(spec.condition, f"{path}.condition", vectors),
    )
    if any(tokens > LONGEST_SCHEDULE for _, tokens in read_component(component_document(component), path).schedule.parameters):
        raise FieldError(f"{path}.schedule", f"lasts more than {LONGEST_SCHEDULE} tokens")
    return component


def _check_alpha(spec: ComponentSpec) -> None:
    numbers = (spec.alpha, spec.alpha_min, spec.alpha_max)
    if not all(number.is_finite() for number in numbers) or not spec.alpha_min <= spec.alpha <= spec.alpha_max:
        raise AlphaError("ALPHA_RANGE", f"α {spec.alpha} is outside its own range {spec.alpha_min} to {spec.alpha_max}", str(spec.alpha))
    if spec.operator in STRENGTH_OPERATORS and not 0 <= spec.alpha_min <= spec.alpha_max <= 1:
        raise AlphaError("ALPHA_STRENGTH", f"{spec.operator} has a strength from 0 to 1, not {spec.alpha_min} to {spec.alpha_max}")


def _write_condition(condition: Mapping[str, Any], path: str, vectors: list[SteeringVector]) -> dict[str, Any]:
    """The condition as nodes read it, its probe's vector among `vectors`. Raises: FieldError."""
    written = dict(condition)
    if written.get("kind") == "probe":
        vector = written.get("vector")
        if not isinstance(vector, SteeringVector) or {"layer", "site"} & set(written):
            raise FieldError(path, "is a probe, which names a vector on record and reads at its layer and site")
        vectors.append(vector)
        written |= {"vector": vector_entry(vector), "layer": vector.layer, "site": vector.site}
    entries = written.get("labels", written.get("values", []))
    if isinstance(entries, list) and len(entries) > MAX_CONDITION_ENTRIES:
        raise FieldError(path, f"lists {len(entries)} entries; at most {MAX_CONDITION_ENTRIES} are read")
    read_known_condition(written, path)
    return written
