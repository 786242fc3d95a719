"""The kinds of manifest, in the order of a plan: what refers to others comes after them, and goes before them.

Validation, the published JSON Schemas and docs/manifests.md all come from what they declare.
"""

from collections.abc import Sequence
from typing import Any

from registry.manifests.fields import Schema
from registry.manifests.kind import Kind
from registry.manifests.kinds.base_model import BaseModels
from registry.manifests.kinds.contrast_set import ContrastSets
from registry.manifests.kinds.environment import Environments
from registry.manifests.kinds.eval_suite import EvalSuites
from registry.manifests.kinds.flag import Flags
from registry.manifests.kinds.gate_set import GateSets
from registry.manifests.kinds.policy import Policies
from registry.manifests.kinds.probe import Probes
from registry.manifests.kinds.profile import Profiles
from registry.manifests.kinds.prompt_set import PromptSets
from registry.manifests.kinds.tenant import Tenants
from registry.manifests.kinds.vector import Vectors
from registry.manifests.steps import Step

_ALL: tuple[type[Kind[Any, Any]], ...] = (
    *(BaseModels, ContrastSets, EvalSuites, PromptSets, GateSets, Probes, Vectors),
    *(Policies, Profiles, Environments, Tenants, Flags),
)
KINDS = {kind.name: kind() for kind in _ALL}
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of_each_kind(steps: Sequence[Step]) -> list[tuple[Kind[Any, Any], list[Step]]]:
    """Every kind that some of the steps are of, with these."""
    return [(kind, some) for kind in KINDS.values() if (some := [step for step in steps if step.kind == kind.name])]


def published_schema() -> Schema:
    """One JSON Schema for all kinds, for editors: the kind decides which of the definitions a document is held against."""
    return {
        "$schema": SCHEMA_DIALECT,
        "$id": "urn:steerhub:manifest:v1",
        "title": "SteerHub manifest",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {"kind": {"enum": list(KINDS), "description": "What is declared."}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{kind}"}} for kind in KINDS
        ],
        "$defs": {kind.name: kind.schema() for kind in KINDS.values()},
    }


def kind_schema(kind: str) -> Schema:
    """The JSON Schema of one kind, to stand alone."""
    return {"$schema": SCHEMA_DIALECT, "$id": f"urn:steerhub:manifest:v1:{kind}", "title": kind, **KINDS[kind].schema()}
