"""Recipes: what a job is asked to do. Documents, so that a job can be repeated from its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Self

from steernode.errors import EngineError
from steernode.gates import Gate

TemplateArguments = Mapping[str, str | int | bool]
# What the model is run in, where a document does not say so: nothing else was done before they did.
BEFORE_DTYPES = "float32"


@dataclass(frozen=True)
class Recipe:
    """Plain values by name; lists are tuples while it is a record."""

    # Fields of before, which older documents have and nobody reads.
    GONE: ClassVar[frozenset[str]] = frozenset()
    # What jobs did before they were asked for it, by field.
    BEFORE: ClassVar[Mapping[str, Any]] = {}
    # Fields that stand in no document where they are their default, so that what was written before them reads and digests as it did.
    LATER: ClassVar[frozenset[str]] = frozenset({"system_message", "condition"})

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Of any form that there ever was. Raises: EngineError RECIPE_INVALID for an unknown or a missing field."""
        known = {field.name for field in fields(cls)}
        optional = {field.name for field in fields(cls) if field.default is not MISSING or field.default_factory is not MISSING}
        given = {**cls.BEFORE, **{name: value for name, value in document.items() if name not in cls.GONE}}
        wrong = sorted((set(given) ^ known) - (optional - set(given)))
        if wrong:
            verb = "unknown" if wrong[0] in given else "missing"
            raise EngineError("RECIPE_INVALID", f"{verb} field {wrong[0]!r} in the recipe; known are {', '.join(sorted(known))}", wrong[0])
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

    def to_document(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        unsaid = {field.name for field in fields(self) if field.name in self.LATER and values[field.name] == field.default}
        return {name: _write(value) for name, value in values.items() if name not in unsaid}


def _write(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class ExtractionRecipe(Recipe):
    """A search for the vector of this name. `gates` are gates of its own, or those of `gate_set`; before, the name of one that ships."""

    # Nothing random depended on it, but the digest of the file did: with another number the same direction was another vector.
    GONE = frozenset({"seed"})
    BEFORE: ClassVar[Mapping[str, Any]] = {"finalists": 2, "trace": True}

    vector: str
    method: str
    site: str
    read_position: str
    layers: tuple[int, ...]
    # One grid for all layers, or `auto`: each layer's own.
    alphas: str | tuple[str, ...]
    unit: str
    gates: str | tuple[Gate, ...]
    dtype: str
    max_new_tokens: int
    # How many layers of the screened ones are measured on the whole select split.
    finalists: int
    # What the chat template is given beside the messages: text, whole numbers, true and false, by name.
    template_arguments: TemplateArguments = field(default_factory=dict)
    # How the replies of the validation that follows are chosen, as `records.decoding` reads it; the search is greedy.
    decoding: str | Mapping[str, Any] = "greedy"
    model_dtype: str = BEFORE_DTYPES
    # Which set the gates are, by name, version and digest; empty where they are its own.
    gate_set: Mapping[str, Any] = field(default_factory=dict)
    # Whether it is traced where the behaviour is carried, which may take longer than the search and decides nothing.
    trace: bool = False
    # What the model is served under, put before every item that has no system message of its own.
    system_message: str = ""
    # Where the vector is to act, as a component says it, with probes and vectors by NAME@VERSION; None is everywhere.
    condition: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ValidationRecipe(Recipe):
    """The test split, opened for one vector at one α."""

    GONE = frozenset({"seed"})

    alpha: str
    unit: str
    gates: str | tuple[Gate, ...]
    max_new_tokens: int
    # Those of the vector.
    template_arguments: TemplateArguments = field(default_factory=dict)
    decoding: str | Mapping[str, Any] = "greedy"
    model_dtype: str = BEFORE_DTYPES
    gate_set: Mapping[str, Any] = field(default_factory=dict)
    # Those of the recipe that made the vector.
    system_message: str = ""
    condition: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CompositionRecipe(Recipe):
    """The test split, opened for these components together, each as its revision writes it, under the name that people call it."""

    components: tuple[Mapping[str, Any], ...]
    gates: tuple[Gate, ...]
    max_new_tokens: int
    # Those of every vector.
    template_arguments: TemplateArguments = field(default_factory=dict)
    decoding: str | Mapping[str, Any] = "greedy"
    model_dtype: str = BEFORE_DTYPES
    # That under which each vector was validated.
    system_message: str = ""


@dataclass(frozen=True)
class ProbeRecipe(Recipe):
    """A probe of this name, learned from the labelled prompts of a set."""

    probe: str
    # Which prompts it fires on, by the word that they are labelled with; empty where they are labelled true and false.
    intent: str
    layers: tuple[int, ...]
    site: str
    read_position: str
    # What the threshold keeps to on the select split.
    target_false_positive_rate: str
    # What the low end of the AUC's interval must reach, on the select split and on the test split.
    least_auc: str
    template_arguments: TemplateArguments = field(default_factory=dict)
    model_dtype: str = BEFORE_DTYPES
