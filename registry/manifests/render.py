"""The record as specs: what a manifest would have to say for `steer plan` to find nothing to do. Read in bulk, kind by kind."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.db.models import Model, QuerySet

from registry.manifests.flags import render_flag, split_flag_name
from registry.manifests.revisions import probed_digests, render_revision
from registry.models import (
    BaseModel,
    ContrastSet,
    Environment,
    EvalSuite,
    Job,
    JobKind,
    JobState,
    Profile,
    ProfileRevision,
    RiskPolicy,
    SteeringVector,
    Tenant,
    TenantFlag,
)
from registry.reads.documents import policy_document
from registry.services.recipes import name_layers
from steernode.records.recipe import ExtractionRecipe

# How many digits of a fingerprint stand in a reference to a base model.
FINGERPRINT_DIGITS = 12
# As manifests write the fields of a recipe, and as jobs keep them.
RECIPE_FIELDS = {
    "method": "method",
    "site": "site",
    "readPosition": "read_position",
    "layers": "layers",
    "alphas": "alphas",
    "unit": "unit",
    "gates": "gates",
    "seed": "seed",
    "maxNewTokens": "max_new_tokens",
    "dtype": "dtype",
    "finalists": "finalists",
}
# As manifests write the terms of a policy, and as the record says them.
POLICY_FIELDS = {
    "alphaCaps": "alpha_caps",
    "compositionBudget": "composition_budget",
    "suiteKinds": "suite_kinds",
    "gateSet": "gate_set",
    "minimumPairs": "minimum_pairs",
    "locales": "locales",
    "evidenceMaxAgeDays": "evidence_max_age_days",
    "approvalsNeeded": "approvals_needed",
    "reviewerRoles": "reviewer_roles",
    "approvalValidDays": "approval_valid_days",
    "reviewAfterDays": "review_after_days",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One object as the record has it: its spec, and the row that the spec was read from."""

    spec: dict[str, Any]
    row: Model


# None reads every object of the kind.
Names = Collection[str] | None


def read_recorded(kind: str, names: Names = None) -> dict[str, Recorded]:
    """The objects of a kind by name, in the order of their names."""
    found = _READ[kind](names)
    return {name: found[name] for name in sorted(found)}


def _named(records: "QuerySet[Any]", names: Names, field: str = "name") -> "QuerySet[Any]":
    return records if names is None else records.filter(**{f"{field}__in": names})


def _read_base_models(names: Names) -> dict[str, Recorded]:
    """By name, the one registered last."""
    rows = _named(BaseModel.objects.all(), names).order_by("name", "-registered_at", "-id").distinct("name").defer("manifest")
    return {row.name: Recorded({"source": row.source, "fingerprint": row.fingerprint}, row) for row in rows}


def _read_contrast_sets(names: Names) -> dict[str, Recorded]:
    rows = _named(ContrastSet.objects.all(), names).order_by("name", "-version").distinct("name")
    return {row.name: Recorded(render_contrast_set(row), row) for row in rows}


def render_contrast_set(row: ContrastSet) -> dict[str, Any]:
    return {"axis": row.axis, "pairs": {"digest": row.digest}}


def _read_suites(names: Names) -> dict[str, Recorded]:
    rows = _named(EvalSuite.objects.all(), names).order_by("name", "-version").distinct("name")
    return {row.name: Recorded(render_suite(row), row) for row in rows}


def render_suite(row: EvalSuite) -> dict[str, Any]:
    spec: dict[str, Any] = {"kind": row.kind, "items": {"digest": row.digest}}
    return {**spec, "rubric": {"digest": row.rubric_digest}} if row.rubric_digest else spec


def _read_profiles(names: Names) -> dict[str, Recorded]:
    profiles = {row.pk: row for row in _named(Profile.objects.all(), names)}
    revisions = ProfileRevision.objects.filter(profile__in=profiles) if names is not None else ProfileRevision.objects.all()
    latest = revisions.order_by("profile_id", "-number").distinct("profile_id").prefetch_related("components__vector")
    revision_of = {revision.profile_id: revision for revision in latest}
    found, probes = {}, _name_vectors(probed_digests(revision_of.values()))
    for profile in profiles.values():
        spec = {"intent": profile.intent, "purpose": profile.purpose, "axis": profile.axis, "riskClass": profile.risk_class_id}
        if profile.pk in revision_of:
            spec["revision"] = render_revision(revision_of[profile.pk], probes)
        found[profile.name] = Recorded(spec, profile)
    return found


def _name_vectors(digests: set[str]) -> dict[str, str]:
    """NAME@VERSION by digest."""
    return {row.digest: f"{row.name}@{row.version}" for row in SteeringVector.objects.filter(digest__in=digests)} if digests else {}


def _read_vectors(names: Names) -> dict[str, Recorded]:
    """By name, the latest version, or the job that is making the next one."""
    vectors = _named(SteeringVector.objects.all(), names).order_by("name", "-version").distinct("name")
    found = {row.name: Recorded(render_vector(row), row) for row in with_recipes(vectors)}
    making = _named(extraction_jobs(), names, "recipe__vector").filter(state__in=[JobState.QUEUED, JobState.RUNNING])
    for job in making.order_by("requested_at"):
        found[job.recipe["vector"]] = Recorded({"recipe": render_recipe(job)}, job)
    return found


def with_recipes(vectors: "QuerySet[SteeringVector]") -> "QuerySet[SteeringVector]":
    related = vectors.select_related("base_model", "job__base_model", "job__contrast_set", "job__draft_for")
    return related.prefetch_related("job__suites")


def extraction_jobs() -> "QuerySet[Job]":
    return Job.objects.filter(kind=JobKind.EXTRACTION).select_related("base_model", "contrast_set", "draft_for").prefetch_related("suites")


def render_vector(row: SteeringVector) -> dict[str, Any]:
    return {"recipe": render_recipe(row.job)} if row.job else {"digest": row.digest}


def render_recipe(job: Job) -> dict[str, Any]:
    contrast_set = job.contrast_set
    return {
        "baseModel": refer_to_base_model(job.base_model),
        "contrastSet": f"{contrast_set.name}@{contrast_set.version}" if contrast_set else "",
        "suites": sorted(f"{suite.name}@{suite.version}" for suite in job.suites.all()),
        **({"profile": job.draft_for.name} if job.draft_for else {}),
        **render_settings(job.recipe, job.base_model),
    }


def render_settings(recipe: dict[str, Any], base_model: BaseModel) -> dict[str, Any]:
    """What a recipe says beside its inputs; layers by name where they have one."""
    settings = {theirs: recipe[ours] for theirs, ours in RECIPE_FIELDS.items() if ours in recipe}
    return {**settings, "layers": name_layers(ExtractionRecipe.from_document(recipe), base_model)} if "layers" in recipe else settings


def refer_to_base_model(base_model: BaseModel) -> str:
    return f"{base_model.name}@{base_model.fingerprint[:FINGERPRINT_DIGITS]}"


def _read_environments(names: Names) -> dict[str, Recorded]:
    rows = _named(Environment.objects.prefetch_related("served__base_model"), names)
    return {row.name: Recorded({"baseModels": _render_served(row)}, row) for row in rows}


def _render_served(row: Environment) -> dict[str, str]:
    return {served.name: served.base_model.fingerprint for served in sorted(row.served.all(), key=lambda served: served.name)}


def _read_tenants(names: Names) -> dict[str, Recorded]:
    return {row.name: Recorded({"title": row.title}, row) for row in _named(Tenant.objects.all(), names)}


def _read_flags(names: Names) -> dict[str, Recorded]:
    rows = TenantFlag.objects.select_related("environment", "tenant", "revision__profile").prefetch_related("arms__revision__profile")
    if names is not None:
        # Whoever asks for one name of every kind asks for names that no flag can have.
        split = [split_flag_name(name) for name in names if "/" in name]
        rows = rows.filter(environment__name__in={part[0] for part in split}, tenant__name__in={part[1] for part in split})
    found = {str(row): Recorded(render_flag(row), row) for row in rows}
    return found if names is None else {name: found[name] for name in names if name in found}


def _read_policies(names: Names) -> dict[str, Recorded]:
    return {row.name: Recorded(_render_policy(row), row) for row in _named(RiskPolicy.objects.all(), names)}


def _render_policy(row: RiskPolicy) -> dict[str, Any]:
    document = policy_document(row)
    return {**{theirs: document[ours] for theirs, ours in POLICY_FIELDS.items()}, "reason": row.reason}


_READ: dict[str, Callable[[Names], dict[str, Recorded]]] = {
    "BaseModel": _read_base_models,
    "ContrastSet": _read_contrast_sets,
    "EvalSuite": _read_suites,
    "RiskPolicy": _read_policies,
    "SteeringProfile": _read_profiles,
    "SteeringVector": _read_vectors,
    "Environment": _read_environments,
    "Tenant": _read_tenants,
    "TenantFlag": _read_flags,
}
