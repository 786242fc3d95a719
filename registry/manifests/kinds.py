"""The kinds of manifest. Validation, the published JSON Schemas and docs/manifests.md all come from what is declared here."""

from dataclasses import dataclass

from registry.manifests.fields import (
    FILE_FIELDS,
    NAME_PATTERN,
    Schema,
    choice,
    decimal,
    digest,
    either,
    file,
    list_of,
    mapping,
    measure,
    name,
    reference,
    switch,
    text,
    whole,
)
from registry.models import MAX_ARM_WEIGHT, MAX_ARMS, FlagField, Operator, Purpose, Role, Site, StalePolicy, SuiteKind, TokenScope, Unit
from registry.models.profiles import LONGEST_SCHEDULE
from registry.services.policies import LONGEST_PERIOD_DAYS, MOST_APPROVALS, MOST_PAIRS
from registry.services.recipes import DEFAULT_ALPHAS, METHODS, READ_POSITIONS
from steerkit.conditions import CONDITION_KINDS, PROBE_READ_POSITIONS
from steerkit.gates import gate_sets
from steerkit.snapshotrecords import SCHEDULE_PARAMETERS

API_VERSION = "steerhub/v1"
MAX_DOCUMENTS = 2000
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

# What the flag of a route can take from its tenant's, by the word for it.
INHERITABLE = {
    "revision": FlagField.REVISION,
    "alphaScale": FlagField.ALPHA_SCALE,
    "rollout": FlagField.ROLLOUT,
    "arms": FlagField.ARMS,
    "override": FlagField.OVERRIDE,
}
_FLAG_NAME = "^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*(/.{1,100})?$"


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of manifest declares, who may change it, and whether `--prune` may take it away."""

    name: str
    role: Role
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


_SCHEDULE = mapping(
    "How strength changes over the generated tokens.",
    required={"kind": choice("Its form.", list(SCHEDULE_PARAMETERS))},
    optional={
        "tokens": whole("Of linear: after how many it has faded out.", 1, LONGEST_SCHEDULE),
        "halfLifeTokens": whole("Of exponential: after how many it has halved.", 1, LONGEST_SCHEDULE),
        "firstToken": whole("Of window: the first one steered.", 0, LONGEST_SCHEDULE),
        "lastToken": whole("Of window: the last one steered.", 0, LONGEST_SCHEDULE),
    },
)

_CONDITION = mapping(
    "When it holds: for a request of some intents, with some attribute, or by a probe on the prompt's activations.",
    required={"kind": choice("Its form.", CONDITION_KINDS)},
    optional={
        "labels": list_of("Of intent: any of these.", text("An intent.", max_length=200), low=1, high=64),
        "name": text("Of attribute: which one.", max_length=64),
        "values": list_of("Of attribute: any of these.", text("A value.", max_length=200), low=1, high=64),
        "vector": reference("Of probe: the direction it reads along."),
        "readPosition": choice("Of probe: which tokens it reads.", PROBE_READ_POSITIONS),
        "scale": measure("Of probe: log-odds per activation unit."),
        "bias": measure("Of probe: log-odds."),
        "threshold": measure("Of probe: the log-odds from which it holds."),
    },
)

_COMPONENT = mapping(
    "One vector and how it is applied.",
    required={
        "vector": reference("The vector."),
        "alpha": decimal("The coefficient, inside [alphaMin, alphaMax]."),
        "alphaMin": decimal("The least that may be asked for."),
        "alphaMax": decimal("The most that may be asked for."),
        "unit": choice("What a coefficient of 1 means.", Unit.values),
    },
    optional={
        "operator": choice("What is done with the vector.", Operator.values, default=Operator.ADD.value),
        "scope": choice("Which tokens are steered.", TokenScope.values, default=TokenScope.GENERATED.value),
        "bound": decimal("Of clamp: the cap of the projection; its sign says which side."),
        "preserveNorm": switch("Whether the hidden state keeps its length.", default=False),
        "schedule": {**_SCHEDULE, "default": {"kind": "constant"}},
        "condition": _CONDITION,
    },
)

_REVISION = mapping(
    "What the latest revision does. Other content than the latest one's becomes a draft: the one at hand, or the next number.",
    required={"components": list_of("What is added, and where.", _COMPONENT, low=1, high=8)},
    optional={
        "stalePolicy": choice("What a node does without word from the hub.", StalePolicy.values, default=StalePolicy.ZERO.value),
        "maxStalenessSeconds": whole("After how long it does so.", 0, 30 * 86400, default=900),
        "safetyOverride": list_of("Conditions any of which forces neutral.", _CONDITION, high=8, default=[]),
        "rationale": text("Why, for those who decide.", max_length=5000, min_length=0, default=""),
    },
)

_GATE = mapping(
    "A threshold that must be met.",
    required={
        "metric": text("What is measured.", max_length=100),
        "kind": text("How it is compared.", max_length=100),
        "threshold": decimal("With what."),
    },
)

_RECIPE = mapping(
    "How to make the vector. Its job extracts, searches and seals a version; other inputs or settings make another version.",
    required={
        "baseModel": text(
            "The base model: NAME for the one registered last, or NAME@FINGERPRINT with 12 digits or more.",
            max_length=170,
            pattern="^[A-Za-z0-9][A-Za-z0-9_-]*(@[0-9a-f]{12,64})?$",
        ),
        "contrastSet": reference("The pairs."),
        "suites": list_of(
            "What candidates are judged by: one behaviour, one factual and one safety suite.", reference("A suite."), low=1, high=20
        ),
    },
    optional={
        "method": choice("The formula of the direction.", METHODS, default=METHODS[0]),
        "site": choice("Where in a layer.", Site.values, default=Site.RESID_POST.value),
        "readPosition": choice("Which tokens are read.", READ_POSITIONS, default=READ_POSITIONS[0]),
        "layers": either(
            "Which layers are searched.",
            {"type": "string", "const": "all"},
            list_of("", whole("A layer.", 0, 10_000), low=1, high=1000),
            default="all",
        ),
        "alphas": list_of(
            "Which coefficients are tried; 0 is the unsteered baseline.",
            decimal("A coefficient."),
            low=2,
            high=32,
            default=list(DEFAULT_ALPHAS),
        ),
        "unit": choice("Of the coefficients.", Unit.values, default=Unit.MEAN_DIFFERENCE.value),
        "gates": either(
            "What a candidate must meet.",
            {"type": "string", "enum": list(gate_sets())},
            list_of("", _GATE, low=1, high=50),
            default="default",
        ),
        "seed": whole("Of everything random.", 0, 2**31 - 1, default=0),
        "maxNewTokens": whole("How long replies may become.", 1, 1024, default=64),
        "dtype": choice("Of the stored vector.", ("F32", "F16", "BF16"), default="F32"),
        "finalists": whole("How many layers are measured on the whole select split.", 1, 10_000, default=2),
    },
)

_ARM = mapping(
    "One side of an A/B test. What it leaves open, it has from its flag.",
    required={
        "name": text("Its name.", max_length=50),
        "weight": whole("Its parts of the callers.", 1, MAX_ARM_WEIGHT),
    },
    optional={
        "profile": name("The profile; with revision."),
        "revision": whole("The number of its revision.", 1, 2**31 - 1),
        "alphaScale": decimal("0 is a control."),
    },
)

_SEALED = "what is sealed stays on record"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "BaseModel",
            Role.AUTHOR,
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
            Role.AUTHOR,
            "Pairs of conversations that differ only in one behaviour. Other pairs become the next version.",
            mapping("The pairs.", required={"axis": name("The behaviour.", max_length=50), "pairs": file("The pairs, as JSON lines.")}),
            retained=_SEALED,
        ),
        Kind(
            "EvalSuite",
            Role.AUTHOR,
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
            Role.AUTHOR,
            "A direction, from a file or from a recipe. Another file or recipe becomes the next version.",
            {**file("A vector file, in safetensors, or a recipe."), "properties": {**FILE_FIELDS, "recipe": _RECIPE}, "required": []},
            retained=_SEALED,
        ),
        Kind(
            "RiskPolicy",
            Role.ADMIN,
            "A risk class: what it limits at once, and what it demands of a revision when it is submitted.",
            mapping(
                "Every term is written out: a policy has no defaults that somebody could forget.",
                required={
                    "alphaCaps": mapping("The largest |α| of each unit.", required={unit: decimal(f"In {unit}.") for unit in Unit.values}),
                    "compositionBudget": decimal("Summed length of what is added at one layer, as a share of the mean residual norm."),
                    "suiteKinds": list_of("Kinds of suite that the evidence covers.", choice("", SuiteKind.values), high=10),
                    "gateSet": choice("The gates that the evidence must have passed.", list(gate_sets())),
                    "minimumPairs": whole("Of the contrast set.", 2, MOST_PAIRS),
                    "locales": list_of("Locales that the pairs cover.", name("Such as en-US.", max_length=35), high=100),
                    "evidenceMaxAgeDays": whole("How old evidence may be.", 1, LONGEST_PERIOD_DAYS),
                    "approvalsNeeded": whole("How many people besides the author.", 1, MOST_APPROVALS),
                    "reviewerRoles": list_of("Each is held by one of those who approve.", text("A role.", max_length=150), low=1, high=20),
                    "approvalValidDays": whole("How long an approval waits for the others.", 1, LONGEST_PERIOD_DAYS),
                    "reviewAfterDays": whole("When an approved revision is looked at again.", 1, LONGEST_PERIOD_DAYS),
                    "reason": text("Why, for the history.", max_length=2000),
                },
            ),
            retained="risk classes stay on record",
        ),
        Kind(
            "SteeringProfile",
            Role.AUTHOR,
            "A named intent. What it does is in its revisions, which people approve.",
            mapping(
                "The intent.",
                required={
                    "intent": text("What the steering is for, for people to read.", max_length=5000),
                    "purpose": {"format": "purpose", **choice("What of a reply it moves.", Purpose.values)},
                    "axis": name("The behaviour.", max_length=50),
                    "riskClass": name("The risk policy whose caps and demands apply.", max_length=50),
                },
                optional={"revision": _REVISION},
            ),
            left_alone=("revision",),
        ),
        Kind(
            "Environment",
            Role.OPERATOR,
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
            Role.OPERATOR,
            "A customer whose requests may be steered, and are not until a flag says so.",
            mapping("The customer.", optional={"title": text("Its name for people.", max_length=200, min_length=0, default="")}),
        ),
        Kind(
            "TenantFlag",
            Role.OPERATOR,
            "Which approved revision a tenant is steered by, in one environment.",
            mapping(
                "The revision, and whether it is on.",
                required={
                    "enabled": switch("Whether it steers. Only an approved revision may."),
                    "reason": text("Why, for the history.", max_length=2000),
                },
                optional={
                    "profile": name("The profile; with revision, needed unless inherited."),
                    "revision": whole("The number of its revision.", 1, 2**31 - 1),
                    "alphaScale": decimal("Weakens what was approved: 0.5 is half. 1 if left out."),
                    "rollout": decimal("The share of callers, in percent. 100 if left out."),
                    "arms": list_of("The sides of an A/B test. None if left out.", _ARM, high=MAX_ARMS),
                    "override": mapping(
                        "The α that a request may ask for. None if left out.",
                        required={"min": decimal("At least."), "max": decimal("At most.")},
                    ),
                    "inherits": list_of(
                        "What the flag of a route takes from its tenant's flag.",
                        choice("", list(INHERITABLE)),
                        high=len(INHERITABLE),
                        uniqueItems=True,
                        default=[],
                    ),
                },
            ),
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
