"""Conditions: when a component fires, and when a profile's safety override forces neutral. Read strictly, decided without torch.

    {"kind": "intent", "labels": ["refund", "complaint"]}                  the request carries one of these intent labels
    {"kind": "attribute", "name": "locale", "values": ["de-DE", "de-AT"]}  the request's attribute has one of these values
    {"kind": "harmful"}                                                    of an override: the node finds a harmful request in the text
    {"kind": "probe", "vector": {...}, "layer": 9, "site": "resid_post", "read_position": "last_prompt_token",
     "scale": "3.1", "bias": "-0.4", "threshold": "0.2"}                   scale · (u · h) + bias ≥ threshold

Facts about a request come from whatever stands in front of the node, never from the text of the request. A fact that was not
given is not there: a component that waits for it does not fire, and an override that watches for it does not act. So that no override
hangs on facts alone, a node reads the text of every request to a profile that has one (`node.watching`), and what nobody has read is
taken for harmful. A probe reads the unsteered activation h of the prompt, which only an engine has; u is the unit direction in its
vector file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from steernode.canonical import parse_strict
from steernode.errors import CanonicalError, ConditionError, FieldError, NodeError
from steernode.snapshot.records import Profile, VectorEntry
from steernode.spelling import normal_form
from steernode.strict import read_digest, read_exactly, read_integer, read_list, read_measure, read_one_of, read_text, refused_as
from steernode.words import DTYPES, HARMFUL, LABEL_PATTERN, OVERRIDE_KINDS, PROBE_READ_POSITIONS, SITES

MAX_FACTS = 64
_SIGNED = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?", re.ASCII)
_NAME = re.compile(LABEL_PATTERN, re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What is known about a request besides its text, and whether `node.watching` has read that and left it steered."""

    intents: frozenset[str] = frozenset()
    attributes: Mapping[str, str] = field(default_factory=dict)
    is_watched: bool = False


NO_FACTS = RequestFacts()


@dataclass(frozen=True, slots=True)
class IntentCondition:
    labels: frozenset[str]

    def holds(self, facts: RequestFacts) -> bool:
        return not self.labels.isdisjoint(facts.intents)


@dataclass(frozen=True, slots=True)
class AttributeCondition:
    name: str
    values: frozenset[str]

    def holds(self, facts: RequestFacts) -> bool:
        return facts.attributes.get(self.name) in self.values


@dataclass(frozen=True, slots=True)
class ProbeCondition:
    """Decided by `engine.conditions`. `scale`, `bias` and `threshold` are log-odds: per activation unit, and absolute."""

    vector: VectorEntry
    layer: int
    site: str
    read_position: str
    scale: Decimal
    bias: Decimal
    threshold: Decimal


@dataclass(frozen=True, slots=True)
class HarmfulCondition:
    """Decided by reading the text (`node.watching`). Of what nobody has read it holds."""

    def holds(self, facts: RequestFacts) -> bool:
        return not facts.is_watched


Condition = IntentCondition | AttributeCondition | ProbeCondition | HarmfulCondition


def read_known_condition(value: Any, path: str) -> Condition:
    """Raises: FieldError."""
    readers: dict[str, Callable[[dict[str, Any], str], Condition]] = {
        "intent": _read_intent,
        "attribute": _read_attribute,
        "probe": _read_probe,
        HARMFUL: _read_harmful,
    }
    kind = value.get("kind") if isinstance(value, dict) else None
    return readers[read_one_of(kind, f"{path}.kind", OVERRIDE_KINDS)](value, path)


@refused_as(ConditionError, "CONDITION_INVALID")
def parse_condition(document: Any) -> Condition:
    """Raises: ConditionError CONDITION_UNKNOWN for the kind, CONDITION_INVALID naming the field that is wrong, missing or unknown."""
    kind = document.get("kind") if isinstance(document, dict) else None
    if isinstance(kind, str) and kind not in OVERRIDE_KINDS:
        known = ", ".join(OVERRIDE_KINDS)
        raise ConditionError("CONDITION_UNKNOWN", f"condition {kind[:60]!r} is not known; known are {known}", kind[:60])
    return read_known_condition(document, "condition")


def parse_condition_bytes(data: bytes) -> Condition:
    """A condition as a snapshot's records keep it. Raises: as `parse_condition`."""
    try:
        return parse_condition(parse_strict(data))
    except CanonicalError as error:
        raise ConditionError("CONDITION_INVALID", f"condition is not JSON: {error.message}", error.item) from error


def are_same_conditions(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two conditions, as nodes read them, hold for the same requests, however they are written. Without one it is every request.

    Raises: as `parse_condition`.
    """
    if one is None or other is None:
        return one is other
    return parse_condition(dict(one)) == parse_condition(dict(other))


def describe_condition(document: Mapping[str, Any] | None) -> str:
    """A condition in words, as nodes read it or with a probe or a vector by name."""
    if document is None:
        return "for every request"
    match document.get("kind"):
        case "intent":
            return f"if the intent is {' or '.join(document['labels'])}"
        case "attribute":
            return f"if {document['name']} is {' or '.join(document['values'])}"
        case "probe" if isinstance(document.get("probe"), str):
            return f"if the probe {document['probe']} fires"
        case "probe":
            where = f"at layer {document['layer']}" if "layer" in document else f"along {document['vector']}"
            return f"if a probe {where} reads {document['threshold']} or more"
        case "harmful":
            return "if a node finds a harmful request in the text"
        case kind:
            return f"if {kind} holds"


def profile_vectors(profile: Profile) -> tuple[VectorEntry, ...]:
    """Every vector file a profile needs, each once: its components' directions and its probes'.

    Raises: as `parse_condition`.
    """
    conditions = [parse_condition_bytes(entry.document) for entry in profile.conditions]
    entries = [component.vector for component in profile.components]
    entries += [condition.vector for condition in conditions if isinstance(condition, ProbeCondition)]
    found: dict[str, VectorEntry] = {}
    for entry in entries:
        found.setdefault(entry.sha256, entry)
    return tuple(found.values())


def read_facts(intents: str, attributes: str) -> RequestFacts:
    """Facts as a request carries them: `refund, complaint` and `locale=de-DE, channel=phone`. Empty text is no fact.

    Raises: NodeError FACTS_INVALID naming the entry.
    """
    labels = [_read_fact_name(entry) for entry in _entries(intents)]
    pairs = [entry.partition("=") for entry in _entries(attributes)]
    for name, equals, value in pairs:
        _read_fact_name(name.strip())
        if not equals or not value.strip() or not value.isprintable() or len(value) > 200:
            raise NodeError("FACTS_INVALID", f"attribute {name[:60]!r} must be written name=value, with a printable value", name[:60])
    given = {name.strip(): normal_form(value.strip()) for name, _, value in pairs}
    if len(given) != len(pairs):
        raise NodeError("FACTS_INVALID", "an attribute is given twice", attributes[:60])
    return RequestFacts(frozenset(labels), given)


def _entries(text: str) -> list[str]:
    entries = [entry.strip() for entry in text.split(",")] if text.strip() else []
    if len(entries) > MAX_FACTS:
        raise NodeError("FACTS_INVALID", f"{len(entries)} facts of one kind, at most {MAX_FACTS} are read", str(len(entries)))
    return entries


def _read_fact_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise NodeError("FACTS_INVALID", f"{text[:60]!r} is no label: letters, digits, '_', '.' and '-', at most 64", text[:60])
    return text


def _read_intent(document: dict[str, Any], path: str) -> IntentCondition:
    read_exactly(document, path, ("kind", "labels"))
    return IntentCondition(_read_set(document["labels"], f"{path}.labels", _read_name))


def _read_attribute(document: dict[str, Any], path: str) -> AttributeCondition:
    read_exactly(document, path, ("kind", "name", "values"))
    values = _read_set(document["values"], f"{path}.values", read_text)
    return AttributeCondition(_read_name(document["name"], f"{path}.name"), values)


def _read_harmful(document: dict[str, Any], path: str) -> HarmfulCondition:
    read_exactly(document, path, ("kind",))
    return HarmfulCondition()


def _read_probe(document: dict[str, Any], path: str) -> ProbeCondition:
    read_exactly(document, path, ("kind", "vector", "layer", "site", "read_position", "scale", "bias", "threshold"))
    scale = read_measure(document["scale"], f"{path}.scale")
    if not scale:
        raise FieldError(f"{path}.scale", "must be above 0")
    return ProbeCondition(
        vector=read_vector_entry(document["vector"], f"{path}.vector"),
        layer=read_integer(document["layer"], f"{path}.layer", least=0),
        site=read_one_of(document["site"], f"{path}.site", SITES),
        read_position=read_one_of(document["read_position"], f"{path}.read_position", PROBE_READ_POSITIONS),
        scale=scale,
        bias=_read_signed(document["bias"], f"{path}.bias"),
        threshold=_read_signed(document["threshold"], f"{path}.threshold"),
    )


def read_vector_entry(value: Any, path: str) -> VectorEntry:
    """Raises: FieldError."""
    read_exactly(value, path, ("sha256", "bytes", "dtype", "shape"))
    return VectorEntry(
        sha256=read_digest(value["sha256"], f"{path}.sha256"),
        bytes=read_integer(value["bytes"], f"{path}.bytes", least=1),
        dtype=read_one_of(value["dtype"], f"{path}.dtype", DTYPES),
        shape=read_list(value["shape"], f"{path}.shape", lambda size, where: read_integer(size, where, least=1)),
    )


def _read_set(value: Any, path: str, read: Callable[[Any, str], str]) -> frozenset[str]:
    items = read_list(value, path, read)
    if not items or len(set(items)) != len(items):
        raise FieldError(path, "must name at least one, and none twice")
    return frozenset(items)


def _read_name(value: Any, path: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise FieldError(path, "must be a label of letters, digits, '_', '.' and '-', at most 64")
    return value


def _read_signed(value: Any, path: str) -> Decimal:
    if not isinstance(value, str) or not _SIGNED.fullmatch(value):
        raise FieldError(path, f"must be a decimal string, got {value!r}")
    return Decimal(value)
