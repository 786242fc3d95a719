"""The longer specs: what a recipe, a revision, a policy and a flag may say, word by word."""

from registry.manifests.fields import (
    Schema,
    camel_case,
    choice,
    decimal,
    either,
    list_of,
    mapping,
    measure,
    name,
    reference,
    switch,
    text,
    whole,
)
from registry.models import FlagField, Site, StalePolicy, SuiteKind, Unit
from registry.services.policies import LONGEST_PERIOD_DAYS, MOST_APPROVALS, MOST_PAIRS
from registry.services.recipes import DEFAULT_ALPHAS, LAYER_NAMES
from steernode.gates import gate_sets
from steernode.snapshot.records import STATED, Stated
from steernode.words import (
    CONDITION_KINDS,
    DTYPES,
    LONGEST_SCHEDULE,
    MAX_ARM_WEIGHT,
    MAX_ARMS,
    MAX_COMPONENTS,
    MAX_CONDITION_ENTRIES,
    MAX_OVERRIDES,
    METHODS,
    PROBE_READ_POSITIONS,
    READ_POSITIONS,
    SCHEDULE_PARAMETERS,
)

# What the flag of a route can take from its tenant's, by the word for it.
INHERITABLE = {
    "revision": FlagField.REVISION,
    "alphaScale": FlagField.ALPHA_SCALE,
    "rollout": FlagField.ROLLOUT,
    "arms": FlagField.ARMS,
    "override": FlagField.OVERRIDE,
}

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
        "labels": list_of("Of intent: any of these.", text("An intent.", max_length=200), low=1, high=MAX_CONDITION_ENTRIES),
        "name": text("Of attribute: which one.", max_length=64),
        "values": list_of("Of attribute: any of these.", text("A value.", max_length=200), low=1, high=MAX_CONDITION_ENTRIES),
        "vector": reference("Of probe: the direction it reads along."),
        "readPosition": choice("Of probe: which tokens it reads.", PROBE_READ_POSITIONS),
        "scale": measure("Of probe: log-odds per activation unit."),
        "bias": measure("Of probe: log-odds."),
        "threshold": measure("Of probe: the log-odds from which it holds."),
    },
)


def _schema_of(each: Stated) -> Schema:
    options = {} if each.is_required or each.default is None else {"default": each.default}
    match each.kind:
        case "coefficient":
            return decimal(each.says, **options)
        case "word":
            return choice(each.says, each.words, **options)
        case "switch":
            return switch(each.says, **options)
        case "schedule":
            return {**_SCHEDULE, **options}
        case "condition":
            return _CONDITION


_COMPONENT = mapping(
    "One vector and how it is applied.",
    required={
        "vector": reference("The vector."),
        **{camel_case(each.name): _schema_of(each) for each in STATED if each.is_required},
    },
    optional={camel_case(each.name): _schema_of(each) for each in STATED if not each.is_required},
)

REVISION = mapping(
    "What the latest revision does. Other content than the latest one's becomes a draft: the one at hand, or the next number.",
    required={"components": list_of("What is added, and where.", _COMPONENT, low=1, high=MAX_COMPONENTS)},
    optional={
        "stalePolicy": choice("What a node does without word from the hub.", StalePolicy.values, default=StalePolicy.ZERO.value),
        "maxStalenessSeconds": whole("After how long it does so.", 0, 30 * 86400, default=900),
        "safetyOverride": list_of("Conditions any of which forces neutral.", _CONDITION, high=MAX_OVERRIDES, default=[]),
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

RECIPE = mapping(
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
        "profile": name("The profile that its job, and the validation that follows, end as a draft revision of."),
        "method": choice("The formula of the direction.", METHODS, default=METHODS[0]),
        "site": choice("Where in a layer.", Site.values, default=Site.RESID_POST.value),
        "readPosition": choice("Which tokens are read.", READ_POSITIONS, default=READ_POSITIONS[0]),
        "layers": either(
            "Which layers are searched; candidates are those that the gates do not refuse for their depth.",
            choice("", LAYER_NAMES),
            list_of("", whole("A layer.", 0, 10_000), low=1, high=1000),
            default=LAYER_NAMES[0],
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
        "dtype": choice("Of the stored vector.", DTYPES, default=DTYPES[0]),
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


POLICY = mapping(
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
)

FLAG = mapping(
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
)
