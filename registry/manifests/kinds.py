"""The kinds of manifest. Validation, the published JSON Schemas and docs/manifests.md all come from what is declared here."""

from dataclasses import dataclass

from registry.manifests.fields import (
    FILE_FIELDS,
    NAME_PATTERN,
    Schema,
    choice,
    digest,
    file,
    mapping,
    name,
    text,
)
from registry.manifests.specs import FLAG, POLICY, RECIPE, REVISION
from registry.models import Purpose, Role, SuiteKind

API_VERSION = "steerhub/v1"
MAX_DOCUMENTS = 2000
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_FLAG_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*(/.{1,100})?$"


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of manifest declares, who may change it, and whether `--prune` may take it away."""

    name: str
    # Any one of them will do, as it does at the kind's own address.
    roles: tuple[Role, ...]
    about: str
    spec: Schema
    # Why pruning leaves it where it is; empty where an unused one may be deleted.
    retained: str = ""
    # Fields that, left out, leave the record as it is. Any other field that is left out has its default.
    left_alone: tuple[str, ...] = ()
    object_name: Schema | None = None

    def schema(self) -> Schema:
        """The whole document, in JSON Schema."""
        metadata = mapping(
            "What the object is called and who owns it.",
            required={"name": self.object_name or name("Unique among objects of this kind.")},
            optional={
                "labels": {
                    "type": "object",
                    "description": "Words of your own, for finding things.",
                    "propertyNames": {"pattern": NAME_PATTERN, "maxLength": 63},
                    "additionalProperties": text("", max_length=200, min_length=0),
                    "maxProperties": 32,
                    "default": {},
                },
                "manager": text(
                    "Who owns the object, such as git/steering. Whoever else declares it conflicts, and pruning stays among its own.",
                    max_length=100,
                    min_length=0,
                    pattern="^([A-Za-z0-9][A-Za-z0-9_./-]*)?$",
                    default="",
                ),
            },
        )
        fields = {
            "apiVersion": {"const": API_VERSION, "description": "The form of the document."},
            "kind": {"const": self.name, "description": "What is declared."},
            "metadata": metadata,
            "spec": self.spec,
        }
        status = {"type": "object", "description": "What the hub makes of it. Given by an export, ignored when read."}
        needs_spec = bool(self.spec["required"]) or bool(self.spec.get("minProperties"))
        required = {key: field for key, field in fields.items() if key != "spec" or needs_spec}
        optional = {} if needs_spec else {"spec": {**self.spec, "default": {}}}
        return mapping(self.about, required=required, optional={**optional, "status": status})


_SEALED = "what is sealed stays on record"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "BaseModel",
            (Role.AUTHOR, Role.OPERATOR),
            "One exact set of weights, tokenizer, chat template and config.",
            mapping(
                "Where its files are.",
                required={"source": text("A folder below STEERHUB_MODEL_ROOT.", max_length=500)},
                optional={
                    "fingerprint": digest(
                        "What the files must hash to. Without it the files are taken as they are when this name and source are "
                        "first registered; give it to move to changed files."
                    )
                },
            ),
            retained=_SEALED,
            left_alone=("fingerprint",),
        ),
        Kind(
            "ContrastSet",
            (Role.AUTHOR,),
            "Pairs of conversations that differ only in one behaviour. Other pairs become the next version.",
            mapping("The pairs.", required={"axis": name("The behaviour.", max_length=50), "pairs": file("The pairs, as JSON lines.")}),
            retained=_SEALED,
        ),
        Kind(
            "EvalSuite",
            (Role.AUTHOR,),
            "Items that candidates are judged by. Other items become the next version.",
            mapping(
                "The items.",
                required={"kind": choice("What is measured.", SuiteKind.values), "items": file("The items, as JSON lines.")},
                optional={"rubric": file("Labelled replies, for a behaviour suite and no other.")},
            ),
            retained=_SEALED,
        ),
        Kind(
            "SteeringVector",
            (Role.AUTHOR,),
            "A direction, from a file or from a recipe. Another file or recipe becomes the next version.",
            {**file("A vector file, in safetensors, or a recipe."), "properties": {**FILE_FIELDS, "recipe": RECIPE}, "required": []},
            retained=_SEALED,
        ),
        Kind(
            "RiskPolicy",
            (Role.ADMIN, Role.APPROVER),
            "A risk class: what it limits at once, and what it demands of a revision when it is submitted.",
            POLICY,
            retained="risk classes stay on record",
        ),
        Kind(
            "SteeringProfile",
            (Role.AUTHOR,),
            "A named intent. What it does is in its revisions, which people approve.",
            mapping(
                "The intent.",
                required={
                    "intent": text("What the steering is for, for people to read.", max_length=5000),
                    "purpose": {"format": "purpose", **choice("What of a reply it moves.", Purpose.values)},
                    "axis": name("The behaviour.", max_length=50),
                    "riskClass": name("The risk policy whose caps and demands apply.", max_length=50),
                },
                optional={"revision": REVISION},
            ),
            left_alone=("revision",),
        ),
        Kind(
            "Environment",
            (Role.OPERATOR,),
            "Where nodes live.",
            mapping(
                "What it serves.",
                optional={
                    "baseModels": {
                        "type": "object",
                        "description": "By the name of a base model, the fingerprint that is served. Names left out stay as they are.",
                        "propertyNames": {"pattern": NAME_PATTERN, "maxLength": 100},
                        "additionalProperties": digest("A registered fingerprint."),
                        "maxProperties": 1000,
                    }
                },
            ),
            retained="its snapshots stay on record",
            left_alone=("baseModels",),
            object_name=name("Unique among environments.", max_length=50),
        ),
        Kind(
            "Tenant",
            (Role.OPERATOR,),
            "A customer whose requests may be steered, and are not until a flag says so.",
            mapping("The customer.", optional={"title": text("Its name for people.", max_length=200, min_length=0, default="")}),
        ),
        Kind(
            "TenantFlag",
            (Role.OPERATOR,),
            "Which approved revision a tenant is steered by, in one environment.",
            FLAG,
            object_name=text(
                "ENVIRONMENT/TENANT for every route without a flag of its own, or ENVIRONMENT/TENANT/ROUTE.",
                max_length=252,
                pattern=_FLAG_NAME,
            ),
        ),
    )
}


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


def kind_schema(kind: Kind) -> Schema:
    """The JSON Schema of one kind, to stand alone."""
    return {"$schema": SCHEMA_DIALECT, "$id": f"urn:steerhub:manifest:v1:{kind.name}", "title": kind.name, **kind.schema()}
