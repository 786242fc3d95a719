"""Revisions as manifests: their components and conditions, by the names of vectors where nodes have their bytes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from registry.models import Component, ProfileRevision, SteeringVector
from steernode.canonical import format_decimal

Spec = dict[str, Any]
# As manifests write the fields of schedules and conditions, where it is not as nodes read them.
_WORDS = {
    "halfLifeTokens": "half_life_tokens",
    "firstToken": "first_token",
    "lastToken": "last_token",
    "readPosition": "read_position",
}
_SAID = {ours: theirs for theirs, ours in _WORDS.items()}


def find_vectors(revision: Spec) -> Iterator[tuple[str, Spec, str]]:
    """Path, the mapping that holds it and text of every name of a vector in a spec's revision."""
    for position, component in enumerate(revision["components"]):
        yield f"components.{position}.vector", component, component["vector"]
        if "vector" in component.get("condition", {}):
            yield f"components.{position}.condition.vector", component["condition"], component["condition"]["vector"]
    for position, condition in enumerate(revision["safetyOverride"]):
        if "vector" in condition:
            yield f"safetyOverride.{position}.vector", condition, condition["vector"]


def rename_vectors(revision: Spec, rename: Callable[[str], str]) -> Spec:
    """The revision with every name of a vector in another form."""

    def of_condition(condition: Spec) -> Spec:
        return {**condition, "vector": rename(condition["vector"])} if "vector" in condition else condition

    def of_component(component: Spec) -> Spec:
        renamed = {**component, "vector": rename(component["vector"])}
        return {**renamed, "condition": of_condition(component["condition"])} if "condition" in component else renamed

    components = [of_component(component) for component in revision["components"]]
    return {**revision, "components": components, "safetyOverride": [of_condition(condition) for condition in revision["safetyOverride"]]}


def probed_digests(revisions: Iterable[ProfileRevision]) -> set[str]:
    """The digests of the vectors that conditions of these revisions probe with; their names are not in the rows."""
    conditions = [component.condition for revision in revisions for component in revision.components.all()]
    conditions += [condition for revision in revisions for condition in revision.safety_override]
    return {condition["vector"]["sha256"] for condition in conditions if condition and "vector" in condition}


def render_revision(revision: ProfileRevision, probes: Mapping[str, str]) -> Spec:
    """`probes` has NAME@VERSION by the digest of each vector that a condition probes with."""
    components = sorted(revision.components.all(), key=lambda component: component.position)
    return {
        "components": [_render_component(component, probes) for component in components],
        "stalePolicy": revision.stale_policy,
        "maxStalenessSeconds": revision.max_staleness_seconds,
        "safetyOverride": [_render_condition(condition, probes) for condition in revision.safety_override],
        "rationale": revision.rationale,
    }


def _render_component(component: Component, probes: Mapping[str, str]) -> Spec:
    spec = {
        "vector": f"{component.vector.name}@{component.vector.version}",
        "alpha": format_decimal(component.alpha),
        "alphaMin": format_decimal(component.alpha_min),
        "alphaMax": format_decimal(component.alpha_max),
        "unit": component.unit,
        "operator": component.operator,
        "scope": component.scope,
        "preserveNorm": component.preserve_norm,
        "schedule": {_SAID.get(name, name): value for name, value in component.schedule.items()},
    }
    if component.bound is not None:
        spec["bound"] = format_decimal(component.bound)
    return spec if component.condition is None else {**spec, "condition": _render_condition(component.condition, probes)}


def _render_condition(condition: Mapping[str, Any], probes: Mapping[str, str]) -> Spec:
    said = {_SAID.get(name, name): value for name, value in condition.items() if name not in ("layer", "site")}
    return {**said, "vector": probes[condition["vector"]["sha256"]]} if "vector" in condition else said


def read_revision(spec: Spec, find_vector: Callable[[str], SteeringVector]) -> dict[str, Any]:
    """What `draft_revision` and `edit_revision` take."""

    def read_condition(condition: Spec) -> dict[str, Any]:
        read = {_WORDS.get(name, name): value for name, value in condition.items()}
        return {**read, "vector": find_vector(condition["vector"])} if "vector" in condition else read

    def read_component(part: Spec) -> Component:
        return Component(
            vector=find_vector(part["vector"]),
            alpha=Decimal(part["alpha"]),
            alpha_min=Decimal(part["alphaMin"]),
            alpha_max=Decimal(part["alphaMax"]),
            unit=part["unit"],
            operator=part["operator"],
            scope=part["scope"],
            bound=Decimal(part["bound"]) if "bound" in part else None,
            preserve_norm=part["preserveNorm"],
            schedule={_WORDS.get(name, name): value for name, value in part["schedule"].items()},
            condition=read_condition(part["condition"]) if "condition" in part else None,
        )

    return {
        "components": [read_component(part) for part in spec["components"]],
        "safety_override": [read_condition(condition) for condition in spec["safetyOverride"]],
        "stale_policy": spec["stalePolicy"],
        "max_staleness_seconds": spec["maxStalenessSeconds"],
        "rationale": spec["rationale"],
    }
