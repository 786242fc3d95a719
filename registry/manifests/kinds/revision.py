"""What a profile's revision does: components and conditions, by the names of vectors where nodes have their bytes."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from registry.manifests.accounts import Risk
from registry.manifests.fields import (
    FieldMap,
    Spec,
    camel_case,
    choice,
    decimal,
    list_of,
    mapping,
    reference,
    switch,
    text,
    whole,
)
from registry.manifests.kinds.base_model import base_model_reference, get_base_model, refer_to_base_model
from registry.manifests.kinds.condition import CONDITION
from registry.manifests.kinds.policy import Limits
from registry.manifests.steps import Step
from registry.models import BaseModel, Component, Evaluation, Probe, ProfileRevision, StalePolicy, SteeringVector, Verdict
from registry.reads.forms import describe_covered
from registry.reads.lookups import find_base_model
from registry.services.conditions import resolve_condition
from registry.services.covers import make_covers
from steernode import words
from steernode.canonical import canonical_json, format_decimal
from steernode.errors import SteerError
from steernode.snapshot.conditions import are_same_conditions, describe_condition
from steernode.snapshot.records import STATED, Stated

_SCHEDULE = mapping(
    "How strength changes over the generated tokens.",
    required={"kind": choice("Its form.", list(words.SCHEDULE_PARAMETERS))},
    optional={
        "tokens": whole("Of linear: after how many it has faded out.", 1, words.LONGEST_SCHEDULE),
        "halfLifeTokens": whole("Of exponential: after how many it has halved.", 1, words.LONGEST_SCHEDULE),
        "firstToken": whole("Of window: the first one steered.", 0, words.LONGEST_SCHEDULE),
        "lastToken": whole("Of window: the last one steered.", 0, words.LONGEST_SCHEDULE),
    },
)

# A node reads the text of a request for these.
_OVERRIDE = {
    **CONDITION,
    "properties": {
        **CONDITION["properties"],
        "kind": choice("Its form; harmful has no other field: the node finds it in the text.", words.OVERRIDE_KINDS),
    },
}


def _schema_of(field: Stated) -> dict[str, Any]:
    forms = {
        "coefficient": decimal(field.says),
        "word": choice(field.says, field.words),
        "switch": switch(field.says),
        "schedule": _SCHEDULE,
        "condition": CONDITION,
    }
    return forms[field.kind] if field.is_required or field.default is None else {**forms[field.kind], "default": field.default}


_COMPONENT = mapping(
    "One vector and how it is applied.",
    required={"vector": reference("The vector."), **{camel_case(each.name): _schema_of(each) for each in STATED if each.is_required}},
    optional={camel_case(each.name): _schema_of(each) for each in STATED if not each.is_required},
)

REVISION = mapping(
    "What the latest revision does. Other content than the latest one's becomes a draft: the one at hand, or the next number.",
    required={"components": list_of("What is added, and where.", _COMPONENT, low=1, high=words.MAX_COMPONENTS)},
    optional={
        "stalePolicy": choice("What a node does without word from the hub.", StalePolicy.values, default=StalePolicy.ZERO.value),
        "maxStalenessSeconds": whole("After how long it does so.", 0, 30 * 86400, default=900),
        "safetyOverride": list_of("Conditions any of which forces neutral.", _OVERRIDE, high=words.MAX_OVERRIDES, default=[]),
        "covers": list_of(
            "Forms of the base model that the approval is to cover too, though nothing is measured on them.",
            base_model_reference("A form that is on record as one"),
            high=words.MAX_COVERED_FORMS,
            default=[],
        ),
        "rationale": text("Why, for those who decide.", max_length=5000, min_length=0, default=""),
    },
)

_COMPONENT_FIELDS = FieldMap(_COMPONENT["properties"])
_FIELDS = FieldMap(REVISION["properties"])


# The fields that name something sealed.
_NAMED = ("vector", "probe")
Replacing = Mapping[str, Callable[[str], Any]]


def find_named(revision: Spec) -> Iterator[tuple[str, str, str]]:
    """Path, field and text of every name of a vector and of a probe in a spec's revision."""
    holders = [(f"components.{position}", component) for position, component in enumerate(revision["components"])]
    holders += [(f"{path}.condition", component["condition"]) for path, component in holders if "condition" in component]
    holders += [(f"safetyOverride.{position}", condition) for position, condition in enumerate(revision["safetyOverride"])]
    return ((f"{path}.{named}", named, holder[named]) for path, holder in holders for named in _NAMED if named in holder)


def replace_named(content: Any, replace: Replacing) -> Any:
    """The same with something else for every name of a vector and of a probe."""
    if isinstance(content, list):
        return [replace_named(item, replace) for item in content]
    if isinstance(content, dict):
        return {name: replace[name](value) if name in _NAMED else replace_named(value, replace) for name, value in content.items()}
    return content


def render_revisions(revisions: QuerySet[ProfileRevision]) -> dict[UUID, Spec]:
    """By their profiles, with their components, vectors and covered forms at hand."""
    conditions = [component.condition for revision in revisions for component in revision.components.all()]
    conditions += [condition for revision in revisions for condition in revision.safety_override]
    # The rows of conditions have no names of vectors.
    digests = {condition["vector"]["sha256"] for condition in conditions if condition and "vector" in condition}
    vectors = {row.digest: _name_vector(row) for row in SteeringVector.objects.filter(digest__in=digests)}
    # Several may say the same, of other documents: the revision lists the one that was meant.
    named = {probe["document"] for revision in revisions for probe in revision.probes}
    probes = defaultdict(list)
    for row in Probe.objects.filter(document_digest__in=named).order_by("name", "version"):
        probes[canonical_json(row.condition)].append(row)

    def name_probe(condition: dict[str, Any] | None, listed: Set[str]) -> dict[str, Any] | None:
        if not condition or "vector" not in condition:
            return condition
        for probe in probes.get(canonical_json(condition), []):
            if probe.document_digest in listed:
                return {"kind": "probe", "probe": f"{probe.name}@{probe.version}"}
        return {**condition, "vector": vectors[condition["vector"]["sha256"]]}

    def render(revision: ProfileRevision) -> Spec:
        listed = {probe["document"] for probe in revision.probes}
        components = [
            {**_COMPONENT_FIELDS.pick(row), "vector": _name_vector(row.vector), "condition": name_probe(row.condition, listed)}
            for row in sorted(revision.components.all(), key=lambda row: row.position)
        ]
        overrides = [name_probe(condition, listed) for condition in revision.safety_override]
        covers = sorted(refer_to_base_model(covered.base_model) for covered in revision.covers.all())
        return _FIELDS.to_spec({**_FIELDS.pick(revision), "components": components, "safety_override": overrides, "covers": covers})

    return {revision.profile_id: render(revision) for revision in revisions}


def _name_vector(vector: SteeringVector) -> str:
    return f"{vector.name}@{vector.version}"


def read_revision(spec: Spec, find: Replacing) -> dict[str, Any]:
    """What `draft_revision` and `edit_revision` take."""
    record = _FIELDS.to_record(replace_named(spec, find))
    covers = [get_base_model(reference) for reference in record["covers"]]
    return {**record, "components": [Component(**component) for component in record["components"]], "covers": covers}


# By what is steered (an arm and a vector): how much, and in which unit.
Alphas = Mapping[str, tuple[Decimal, str]]


def authored_alphas(spec: Spec | None) -> Alphas:
    """Of the revision in a profile's spec, if it has one."""
    parts = spec["revision"]["components"] if spec and "revision" in spec else ()
    return {part["vector"]: (Decimal(part["alpha"]), part["unit"]) for part in parts}


def find_alpha_changes(before: Alphas, after: Alphas) -> Iterator[Risk]:
    for what in [*after, *(what for what in before if what not in after)]:
        old, unit = before.get(what, (Decimal(0), after.get(what, (Decimal(0), ""))[1]))
        new, new_unit = after.get(what, (Decimal(0), unit))
        if unit != new_unit:
            shown = f"{format_decimal(old)} {unit} → {format_decimal(new)} {new_unit}; the units differ"
            yield Risk("ALPHA_CHANGE", f"α of {what}: {shown}")
        elif old != new:
            sign = "+" if new > old else ""
            shown = f"{format_decimal(old)} → {format_decimal(new)} {unit} (Δα {sign}{format_decimal(new - old)})"
            yield Risk("ALPHA_CHANGE", f"α of {what}: {shown}")


class DraftRisks:
    """The consequences of drafting revisions, read in a few queries whatever their number."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.limits = Limits()
        wanted = {part["vector"] for step in steps for part in step.spec["revision"]["components"]}
        named = SteeringVector.objects.filter(name__in={reference.partition("@")[0] for reference in wanted})
        rows = named.select_related("base_model")
        self.vectors = {reference: row for row in rows if (reference := f"{row.name}@{row.version}") in wanted}
        # The last look at a vector counts.
        evaluations = Evaluation.objects.filter(vector__in=self.vectors.values()).order_by("evaluated_at")
        self.evaluated = {(row.vector_id, row.alpha, row.unit): row for row in evaluations}

    def find(self, step: Step) -> Iterator[Risk]:
        risk_class, parts = step.spec["riskClass"], step.spec["revision"]["components"]
        yield from find_alpha_changes(authored_alphas(step.recorded.spec if step.recorded else None), authored_alphas(step.spec))
        for part in parts:
            largest = max(abs(Decimal(part[name])) for name in ("alpha", "alphaMin", "alphaMax"))
            yield from self.limits.find_excess(largest, part["unit"], part["operator"], risk_class)
        yield from self._find_covered(step)
        if len(parts) == 1:
            yield from self._find_evidence(parts[0])
        else:
            yield Risk("EVIDENCE_MISSING", f"an evaluation of all {len(parts)} components together is needed before it can be submitted")
        yield Risk("APPROVAL_NEEDED", f"a draft; it steers nobody before {self.limits.who_approves(risk_class)}")

    def _find_covered(self, step: Step) -> Iterator[Risk]:
        """The forms in words, and what stands in the way of covering them."""
        covers, vector = step.spec["revision"]["covers"], self.vectors.get(step.spec["revision"]["components"][0]["vector"])
        if not covers or vector is None:
            return
        found = {reference: find_base_model(BaseModel.objects.all(), reference) for reference in covers}
        if unread := next((reference for reference, form in found.items() if form is None), None):
            yield Risk("FORM_UNRELATED", f"{unread} is registered by this plan, and no comparison makes it a form yet", blocks=True)
            return
        forms, allowed = [form for form in found.values() if form], self.limits.coverable_forms(step.spec["riskClass"])
        try:
            for covered in make_covers(vector.base_model, forms, allowed=allowed):
                yield Risk("FORM_UNMEASURED", f"nothing is measured on {describe_covered(covered)}")
        except SteerError as error:
            yield Risk(error.code, error.message, blocks=True)

    def _find_evidence(self, part: Spec) -> Iterator[Risk]:
        vector = self.vectors.get(part["vector"])
        evaluation = self.evaluated.get((vector.pk, Decimal(part["alpha"]), part["unit"])) if vector else None
        what = f"{part['vector']} at α = {part['alpha']} {part['unit']}"
        if evaluation is None:
            yield Risk("EVIDENCE_MISSING", f"no evaluation of {what}; it is needed before the draft can be submitted")
        elif not _acts_where(part, evaluation):
            measured = describe_condition(evaluation.condition)
            yield Risk("EVIDENCE_MISSING", f"{what} was evaluated {measured}; an evaluation where this draft steers is needed")
        elif evaluation.verdict == Verdict.FAILED:
            yield Risk("GATES_FAILED", f"the evaluation of {what} failed its gates")
        elif evaluation.verdict == Verdict.UNDECIDABLE:
            yield Risk("GATES_UNDECIDABLE", f"the evaluation of {what} leaves gates undecidable")


def _acts_where(part: Spec, evaluation: Evaluation) -> bool:
    """Whether the component acts where the evaluation measured. What is wrong with its condition is told when it is written."""
    try:
        return are_same_conditions(resolve_condition(_COMPONENT_FIELDS.to_record(part).get("condition")), evaluation.condition)
    except SteerError:
        return True
