"""RiskPolicy: what a risk class limits, and what it demands."""

from collections.abc import Iterator
from decimal import Decimal

from registry.manifests.accounts import Risk
from registry.manifests.documents import Fault, Manifest
from registry.manifests.fields import FieldMap, Spec, choice, decimal, list_of, mapping, reference, slug, switch, text, whole
from registry.manifests.kind import Index, Kind, Reference, References, Writer
from registry.manifests.kinds.gate_set import GateSets, complete_gates
from registry.manifests.steps import CREATE, Step
from registry.models import CoverableForms, RiskPolicy, Role, SuiteKind, Unit
from registry.reads.documents import UNSAID, policy_document
from registry.services.policies import (
    FOR_COMPOSITIONS,
    LONGEST_PERIOD_DAYS,
    MOST_APPROVALS,
    MOST_PAIRS,
    PolicyTerms,
    change_policy,
    create_policy,
)
from steernode.canonical import format_decimal
from steernode.gates import gate_sets
from steernode.words import STRENGTH_OPERATORS

_TERMS = {
    "alphaCaps": mapping("The largest |α| of each unit.", required={unit: decimal(f"In {unit}.") for unit in Unit.values}),
    "compositionBudget": decimal("Summed length of what is added at one layer, as a share of the mean residual norm."),
    "suiteKinds": list_of("Kinds of suite that the evidence covers.", choice("", SuiteKind.values), high=10),
    "gateSet": reference(
        f"The gates that the evidence must have passed: {', '.join(name for name in gate_sets() if name != FOR_COMPOSITIONS)}, or a "
        "GateSet, the newest of now or NAME@VERSION."
    ),
    "minimumPairs": whole("Of the contrast set.", 2, MOST_PAIRS),
    "locales": list_of("Locales that the pairs cover.", slug("Such as en-US.", max_length=35), high=100),
    "evidenceMaxAgeDays": whole("How old evidence may be.", 1, LONGEST_PERIOD_DAYS),
    "approvalsNeeded": whole("How many people besides the author.", 1, MOST_APPROVALS),
    "reviewerRoles": list_of("Each is held by one of those who approve.", text("A role.", max_length=150), low=1, high=20),
    "approvalValidDays": whole("How long an approval waits for the others.", 1, LONGEST_PERIOD_DAYS),
    "reviewAfterDays": whole("When an approved revision is looked at again.", 1, LONGEST_PERIOD_DAYS),
}
# Came later: a file that does not know of them demands nothing new.
_LATER = {
    "refusesClaimedLineage": switch("Whether imported vectors, whose lineage is only claimed, may not be submitted.", default=False),
    "coverableForms": choice(
        "Which forms of the base model an approval may cover though nothing was measured on them: none, close ones (equal or of another "
        "dtype, with the same tokenizer and chat template), or any.",
        CoverableForms.values,
        default=CoverableForms.CLOSE.value,
    ),
}
_FIELDS = FieldMap({**_TERMS, **_LATER})


class Policies(Kind[RiskPolicy, Index[RiskPolicy]]):
    name = "RiskPolicy"
    about = "A risk class: what it limits at once, and what it demands of a revision when it is submitted."
    roles = (Role.ADMIN, Role.APPROVER)
    spec = mapping(
        "Every term is written out, so that none is forgotten, but for those that came later.",
        required={**_TERMS, "reason": text("Why, for the history.", max_length=2000)},
        optional=_LATER,
    )
    retained = "risk classes stay on record"
    model = RiskPolicy
    index = Index[RiskPolicy]
    is_written_first = True

    def render(self, row: RiskPolicy) -> Spec:
        terms = {**UNSAID, **policy_document(row)}
        return {**_FIELDS.to_spec(terms), "reason": row.reason}

    def references(self, manifest: Manifest) -> Iterator[Reference]:
        if manifest.spec["gateSet"] not in gate_sets():
            yield Reference(GateSets.name, "spec.gateSet", manifest.spec["gateSet"])

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        # Lists that say which, not in what order.
        spec = {**manifest.spec, **{name: sorted(set(manifest.spec[name])) for name in ("suiteKinds", "locales", "reviewerRoles")}}
        return {**spec, "gateSet": complete_gates(spec["gateSet"], references)}, []

    def write(self, step: Step, writer: Writer) -> None:
        write = create_policy if step.action == CREATE else change_policy
        write(step.name, terms=PolicyTerms(**_FIELDS.to_record(step.spec)), reason=step.spec["reason"], actor=writer.actor)

    def find_risks(self, step: Step) -> Iterator[Risk]:
        if step.recorded:
            message = "limits hold at once for all that steers in this class; demands hold for what is submitted from now on"
            yield Risk("POLICY_CHANGE", message)


class Limits:
    """What the risk classes on record limit and demand, for those who weigh what would steer in them."""

    def __init__(self) -> None:
        self.policies = {policy.name: policy for policy in RiskPolicy.objects.all()}

    def find_excess(self, alpha: Decimal, unit: str, operator: str, risk_class: str) -> Iterator[Risk]:
        policy = self.policies.get(risk_class)
        # A strength is a share, and has no cap but 1.
        if policy is None or operator in STRENGTH_OPERATORS:
            return
        cap = policy.alpha_caps[unit]
        if abs(alpha) > cap:
            message = f"α may reach {format_decimal(abs(alpha))} {unit}; the cap of risk class {risk_class} is {format_decimal(cap)}"
            yield Risk("CAP_EXCEEDED", message, blocks=True)

    def coverable_forms(self, risk_class: str) -> str:
        policy = self.policies.get(risk_class)
        return UNSAID["coverable_forms"] if policy is None else policy.coverable_forms

    def who_approves(self, risk_class: str, *, besides: str = "its author") -> str:
        policy = self.policies.get(risk_class)
        if policy is None:
            return f"people must approve it as the risk class {risk_class} will say"
        people = "one person" if policy.approvals_needed == 1 else f"{policy.approvals_needed} people"
        return f"{people} besides {besides} must approve it (role {', '.join(policy.reviewer_roles)})"
