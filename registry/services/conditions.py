"""Conditions: when a component fires, as an author writes it and as nodes read it; those that recipes state; and what no item can meet."""

from collections.abc import Mapping, Sequence
from typing import Any

from registry.errors import InvalidInput, NotFound
from registry.models import BaseModel, Probe, SteeringVector, SuiteKind
from registry.reads.documents import vector_entry
from registry.reads.lookups import find_version
from registry.reads.material import Material
from steernode.errors import FieldError
from steernode.files.suites import SuiteItem
from steernode.power import may_meet
from steernode.snapshot.conditions import Condition, IntentCondition, parse_condition, read_known_condition
from steernode.spelling import spell
from steernode.strict import are_same_arguments, refused_as
from steernode.words import HARMFUL, MAX_CONDITION_ENTRIES

# What is read along or steered along, of one base model and one way of asking it.
Direction = SteeringVector | Probe


def write_condition(condition: Mapping[str, Any], path: str, read: list[Direction]) -> dict[str, Any]:
    """The condition as nodes read it; the probe that it names, or its vector, is one of those that are `read`. Raises: FieldError."""
    written = dict(condition)
    if written.get("kind") == HARMFUL and not path.startswith("safety_override"):
        raise FieldError(f"{path}.kind", "is for a safety override: nothing steers harmful requests only")
    if written.get("kind") == "probe" and "probe" in written:
        probe = written["probe"]
        if not isinstance(probe, Probe) or set(written) != {"kind", "probe"}:
            raise FieldError(path, "names a probe on record, which says all the rest")
        read.append(probe)
        written = {"kind": "probe", **{name: value for name, value in probe.condition.items() if name != "kind"}}
    elif written.get("kind") == "probe":
        vector = written.get("vector")
        if not isinstance(vector, SteeringVector) or {"layer", "site"} & set(written):
            raise FieldError(path, "is a probe: name one on record, or a vector on record at whose layer and site it reads")
        read.append(vector)
        written |= {"vector": vector_entry(vector), "layer": vector.layer, "site": vector.site}
    entries = written.get("labels", written.get("values", []))
    if isinstance(entries, list) and len(entries) > MAX_CONDITION_ENTRIES:
        raise FieldError(path, f"lists {len(entries)} entries; at most {MAX_CONDITION_ENTRIES} are read")
    read_known_condition(written, path)
    if "values" in written:
        # Requests' attributes are compared in this form.
        written["values"] = [spell(value, f"{path}.values") for value in written["values"]]
    return written


def find_rows(condition: Any) -> Any:
    """A condition with the rows that it names by NAME@VERSION, or by NAME for the latest. Anything else is for `write_condition` to judge.

    Raises: NotFound PROBE_NOT_FOUND, VECTOR_NOT_FOUND.
    """
    if not isinstance(condition, dict):
        return condition
    found = dict(condition)
    for name, model, code in (("probe", Probe, "PROBE_NOT_FOUND"), ("vector", SteeringVector, "VECTOR_NOT_FOUND")):
        if isinstance(reference := found.get(name), str):
            found[name] = find_version(model.objects.select_related("base_model"), reference)
            if found[name] is None:
                raise NotFound(code, f"no {name} {reference[:200]!r}", reference[:200])
    return found


def resolve_condition(condition: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A recipe's condition as nodes read it. Raises: as `find_rows`; FieldError."""
    return None if condition is None else write_condition(find_rows(dict(condition)), "condition", [])


@refused_as(InvalidInput, "RECIPE_CONDITION")
def parse_recipe_condition(
    condition: Any, *, base_model: BaseModel, layers: Sequence[int], template_arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Where the vector of a recipe is to act, as the recipe keeps it: a component's condition, with what it names by NAME@VERSION.

    Raises: InvalidInput RECIPE_CONDITION, TEMPLATE_ARGUMENTS_DIFFER, PROBE_LAYER; SpellingError SPELLING; as `find_rows`.
    """
    if condition is None:
        return None
    if not isinstance(condition, dict):
        raise FieldError("condition", "is a mapping with a kind, as a component states it")
    read: list[Direction] = []
    written = write_condition(found := find_rows(condition), "condition", read)
    for direction in read:
        if direction.base_model != base_model:
            raise FieldError("condition", f"reads {direction}, which is of {direction.base_model}, and the recipe steers {base_model}")
        if not are_same_arguments(direction.template_arguments, template_arguments):
            message = f"{direction} was read with other template arguments than the recipe gives; a prompt is written in one way"
            raise InvalidInput("TEMPLATE_ARGUMENTS_DIFFER", message, str(direction))
        if isinstance(direction, Probe) and direction.layer >= min(layers):
            message = (
                f"{direction} reads at layer {direction.layer}, and the search begins at layer {min(layers)}: only a probe below that is "
                f"decided in the same pass; search layers from {direction.layer + 1}, or train one with `below: {min(layers)}`"
            )
            raise InvalidInput("PROBE_LAYER", message, str(direction))
    if not read:
        return written
    return {name: f"{value.name}@{value.version}" if isinstance(value, Direction) else value for name, value in found.items()}


def refuse_unmet_condition(condition: Mapping[str, Any] | None, material: Material, splits: Sequence[str] = ("test",)) -> None:
    """What no item can meet would be measured nowhere, and what all meet for want of a word would be measured without a condition.

    `splits` are those whose tickets are answered.
    Raises: InvalidInput INTENT_NOBODY_SENDS, CONDITION_NEVER.
    """
    if condition is None or (read := read_facts_condition(condition)) is None:
        return
    files = {str(suite): file for suite, file in material.files.items()}
    items = [item for suite in files.values() for item in suite.items]
    if isinstance(read, IntentCondition):
        _refuse_unsent(read, items, ", ".join(sorted(files)))
    tickets = {name: suite for name, suite in files.items() if suite.kind == SuiteKind.BEHAVIOUR}
    for name, suite in tickets.items():
        for split in splits:
            if not any(may_meet(read, item) for item in suite.split(split)):
                message = f"the condition holds on no item of the {split} split of {name}, so nothing would be steered there"
                raise InvalidInput("CONDITION_NEVER", f"{message}; add items that meet it", name)


def read_facts_condition(condition: Mapping[str, Any] | None) -> Condition | None:
    """A recipe's condition, where what an item says decides it; None where there is none, or only an engine can tell."""
    return None if condition is None or condition.get("kind") == "probe" else parse_condition(dict(condition))


def _refuse_unsent(condition: IntentCondition, items: Sequence[SuiteItem], suites: str) -> None:
    sent = {item.intent for item in items if item.intent}
    if not sent:
        message = f"the condition is on intents, and no item of {suites} says its own; give the items an intent each"
        raise InvalidInput("INTENT_NOBODY_SENDS", message, "intent")
    if unsent := sorted(condition.labels - sent):
        message = f"no item of {suites} has the intent {unsent[0]!r}; they have {', '.join(sorted(sent))}"
        raise InvalidInput("INTENT_NOBODY_SENDS", message, unsent[0])
