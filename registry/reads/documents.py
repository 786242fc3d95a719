"""Records as canonical documents: what digests and ETags are taken of, and what the log keeps."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from registry.models import (
    Component,
    CoverableForms,
    CoveredForm,
    Evaluation,
    FlagArm,
    ProfileRevision,
    RiskPolicy,
    SteeringVector,
    TenantFlag,
    Waiver,
)
from steernode.canonical import canonical_json, format_decimal, sha256_hex
from steernode.snapshot.records import STATED

# The terms of a policy that its document leaves out where they are this.
UNSAID: dict[str, Any] = {"refuses_claimed_lineage": False, "coverable_forms": CoverableForms.CLOSE.value}
# What somebody read who found no flag.
NO_FLAG = "none"
# A revision's components as its document lists them.
COMPONENTS = Component.objects.select_related("vector").order_by("position")
# The forms that it covers, likewise.
COVERS = CoveredForm.objects.select_related("base_model").order_by("base_model__fingerprint")


def revision_document(
    revision: ProfileRevision, components: Iterable[Component] | None = None, covers: Iterable[CoveredForm] | None = None
) -> dict[str, Any]:
    """Everything a revision does, as the canonical document whose sha256 an approval names. Reads its `COMPONENTS` and `COVERS` unless
    given."""
    if components is None:
        components = COMPONENTS.filter(revision=revision)
    covered = [covered_document(each) for each in (COVERS.filter(revision=revision) if covers is None else covers)]
    components = list(components)
    return {
        "schema": "steerhub.revision/2",
        "profile": revision.profile.name,
        "revision": revision.number,
        "submission": revision.submission,
        "intent": revision.profile.intent,
        "purpose": revision.profile.purpose,
        "base_model": revision.base_model.fingerprint,
        "risk_class": revision.profile.risk_class_id,
        "stale_policy": revision.stale_policy,
        "max_staleness_seconds": revision.max_staleness_seconds,
        "demands": revision.demands or policy_document(revision.profile.risk_class),
        "components": [component_document(each) for each in components],
        **({"safety_override": revision.safety_override} if revision.safety_override else {}),
        **({"probes": revision.probes} if revision.probes else {}),
        **({"template_arguments": arguments} if (arguments := template_arguments_of(components)) else {}),
        **({"covers": covered} if covered else {}),
        **({"waivers": revision.waivers} if revision.waivers else {}),
    }


def waiver_document(waiver: Waiver, evaluation: Evaluation | None) -> dict[str, str]:
    """A waiver that counts, as a revision keeps it that is submitted with this evidence. Of a part's own evidence it says so."""
    judged = waiver.evaluation
    part = {"part": str(judged), "part_evidence": judged.digest} if evaluation is None or judged.pk != evaluation.pk else {}
    return {
        "id": str(waiver.pk),
        "metric": waiver.metric,
        "kind": waiver.kind,
        "threshold": waiver.threshold,
        **part,
        "asked_by": str(waiver.asked_by),
        "confirmed_by": str(waiver.confirmed_by),
        "reason": waiver.reason,
        "ends_at": waiver.ends_at.isoformat(timespec="seconds"),
    }


def describe_waiver(said: Mapping[str, str]) -> str:
    """A `waiver_document` in one line."""
    gate = f"{said['metric']} {said['kind']} {said['threshold']}"
    part = f" of {said['part']} alone" if "part" in said else ""
    return f"{gate}{part}, waived by {said['asked_by']} and {said['confirmed_by']} until {said['ends_at'][:10]}: {said['reason']}"


def waiver_details(revision: ProfileRevision) -> dict[str, list[str]]:
    """For the log, where there are any: what nobody showed, and who answers for it."""
    said = [describe_waiver(waiver) for waiver in revision.waivers]
    return {"waivers": said} if said else {}


def covered_document(covered: CoveredForm) -> dict[str, str]:
    """A form that an approval covers, with what it is to the files that were measured."""
    return {"base_model": covered.base_model.fingerprint, "verdict": covered.verdict, "worst": covered.worst}


def template_arguments_of(components: Sequence[Component]) -> dict[str, Any]:
    """What the chat template is given for whoever gets these components: what it was given when their vectors were read, all alike."""
    return dict(components[0].vector.template_arguments) if components else {}


def component_document(component: Component) -> dict[str, Any]:
    """A component as a snapshot lists it. A field that it does not use is left out, so that digests from before the field still fit."""
    vector = component.vector
    stated = [(each, getattr(component, each.name)) for each in STATED]
    return {
        "vector": vector_entry(vector),
        "layer": vector.layer,
        "site": vector.site,
        "norm": format_decimal(vector.norm),
        "mean_residual_norm": format_decimal(vector.mean_residual_norm),
        **{
            each.name: format_decimal(value) if isinstance(value, Decimal) else value
            for each, value in stated
            if not each.is_later or value != each.default
        },
    }


def vector_entry(vector: SteeringVector) -> dict[str, Any]:
    """The vector file as a snapshot lists it."""
    return {"sha256": vector.digest, "bytes": vector.size_bytes, "dtype": vector.dtype, "shape": [vector.d_model]}


def is_as_approved(document: Mapping[str, object], digest: str) -> bool:
    """Whether a revision, by its document, still is what this digest was taken of. Services and triggers see to it; this looks."""
    return sha256_hex(canonical_json(document)) == digest


def tag_revision(
    revision: ProfileRevision, components: Iterable[Component] | None = None, covers: Iterable[CoveredForm] | None = None
) -> str:
    """The ETag of a revision: another one as soon as it does something else, or is in another state. Reads as `revision_document` does."""
    evidence = str(revision.evaluation_id) if revision.evaluation_id else None
    said = {
        "document": revision_document(revision, components, covers),
        "state": revision.state,
        "evidence": evidence,
        "rationale": revision.rationale,
    }
    return sha256_hex(canonical_json(said))


def evaluated_component(component: Component) -> dict[str, Any]:
    """What an evaluation covers of it: how it steers. Its range is left out, because none may go beyond the α that was evaluated."""
    return {name: value for name, value in component_document(component).items() if name not in ("alpha_min", "alpha_max")}


def evaluated_components(revision: ProfileRevision) -> list[dict[str, Any]]:
    """What an evaluation of the whole revision covers: every component as it steers."""
    return [evaluated_component(component) for component in COMPONENTS.filter(revision=revision)]


def digest_components(revision: ProfileRevision) -> str:
    """Names these components on this base model. Their order counts: to remove a direction and then add one is not to do it backwards."""
    identity = {
        "schema": "steerhub.components/1",
        "base_model": revision.base_model.fingerprint,
        "components": evaluated_components(revision),
    }
    return sha256_hex(canonical_json(identity))


def policy_document(policy: RiskPolicy) -> dict[str, Any]:
    """A policy's terms as canonical data: what a submitted revision keeps a copy of."""
    return {
        "alpha_caps": {unit: format_decimal(cap) for unit, cap in policy.alpha_caps.items()},
        "composition_budget": format_decimal(policy.composition_budget),
        "suite_kinds": list(policy.suite_kinds),
        "gate_set": policy.gate_set,
        "minimum_pairs": policy.minimum_pairs,
        # Came after there were policies, and are left out where they are as they would be unsaid, so that what was approved before reads
        # as it did.
        **({"refuses_claimed_lineage": True} if policy.refuses_claimed_lineage else {}),
        **({"coverable_forms": policy.coverable_forms} if policy.coverable_forms != UNSAID["coverable_forms"] else {}),
        "locales": list(policy.locales),
        "evidence_max_age_days": policy.evidence_max_age_days,
        "approvals_needed": policy.approvals_needed,
        "reviewer_roles": list(policy.reviewer_roles),
        "approval_valid_days": policy.approval_valid_days,
        "review_after_days": policy.review_after_days,
    }


def flag_document(flag: TenantFlag) -> dict[str, Any]:
    """What a flag states, as the log keeps it. What it inherits is named and has no value."""
    revision, override = flag.revision, None
    if flag.override_min is not None and flag.override_max is not None:
        override = f"{format_decimal(flag.override_min)} to {format_decimal(flag.override_max)}"
    return {
        "version": flag.version,
        "route": flag.route,
        "enabled": flag.enabled,
        "inherits": list(flag.inherits),
        "profile": revision.profile.name if revision else None,
        "revision": revision.number if revision else None,
        "revision_digest": revision.digest if revision else None,
        "alpha_scale": None if flag.alpha_scale is None else format_decimal(flag.alpha_scale),
        "rollout": None if flag.rollout is None else format_decimal(flag.rollout),
        "rollout_salt": flag.rollout_salt,
        "arms": [_describe_arm(arm) for arm in flag.arms.all()],
        "arms_salt": flag.arms_salt,
        "override": override,
        "reason": flag.reason,
    }


def tag_flag(flag: TenantFlag) -> str:
    """The ETag of a flag: another one with every change. `NO_FLAG` is that of one that is not there yet."""
    return f"{flag.pk}-{flag.version}"


def _describe_arm(arm: FlagArm) -> str:
    """Such as `warm: 9 parts, harbor-empathy r3, α × 0.5`."""
    said = [f"{arm.weight} part{'s' if arm.weight > 1 else ''}"]
    if arm.revision is not None:
        said.append(str(arm.revision))
    if arm.alpha_scale is not None:
        said.append(f"α × {format_decimal(arm.alpha_scale)}")
    return f"{arm.name}: {', '.join(said)}"
