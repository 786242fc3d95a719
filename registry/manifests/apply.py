"""Apply manifests: every document is checked first, then each becomes a record through the service that makes such records.

A document that says what is on record already changes nothing, so applying a folder again is safe.
"""

from collections.abc import Callable
from typing import Any

from registry.blobs import get_blob
from registry.errors import NotFound
from registry.manifests.schema import Manifest, parse_manifests
from registry.models import BaseModel, ContrastSet, Environment, EvalSuite, Job, JobState, Profile, Tenant, User
from registry.services.base_models import register_base_model
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.jobs import request_extraction
from registry.services.profiles import create_profile
from registry.services.recipes import parse_extraction_recipe
from registry.services.tenants import create_environment, create_tenant

# The record's own name and version, and whether it was made just now.
Applied = tuple[str, bool]

_RECIPE_FIELDS = {
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


def apply_manifests(documents: list[Any], *, actor: User, dry_run: bool = False) -> list[dict[str, str]]:
    """One row for each document: kind, name, result (`created`, `unchanged`, `checked`) and the record's reference."""
    manifests = parse_manifests(documents)
    if dry_run:
        return [{"kind": manifest.kind, "name": manifest.name, "result": "checked", "reference": ""} for manifest in manifests]
    rows = []
    for manifest in manifests:
        reference, created = _APPLY[manifest.kind](manifest, actor)
        rows.append({"kind": manifest.kind, "name": manifest.name, "result": "created" if created else "unchanged", "reference": reference})
    return rows


def _apply_environment(manifest: Manifest, actor: User) -> Applied:
    known = Environment.objects.filter(name=manifest.name).exists()
    return create_environment(manifest.name, actor=actor).name, not known


def _apply_tenant(manifest: Manifest, actor: User) -> Applied:
    known = Tenant.objects.filter(name=manifest.name).exists()
    return create_tenant(manifest.name, title=manifest.spec.get("title", ""), actor=actor).name, not known


def _apply_base_model(manifest: Manifest, actor: User) -> Applied:
    known = set(BaseModel.objects.filter(name=manifest.name).values_list("pk", flat=True))
    base_model = register_base_model(manifest.name, source=manifest.spec["source"], actor=actor)
    return base_model.fingerprint, base_model.pk not in known


def _apply_contrast_set(manifest: Manifest, actor: User) -> Applied:
    known = set(ContrastSet.objects.filter(name=manifest.name).values_list("pk", flat=True))
    data = get_blob(manifest.spec["pairs"]["digest"])
    contrast_set = seal_contrast_set(manifest.name, axis=manifest.spec["axis"], data=data, author=actor)
    return f"{contrast_set.name}@{contrast_set.version}", contrast_set.pk not in known


def _apply_eval_suite(manifest: Manifest, actor: User) -> Applied:
    known = set(EvalSuite.objects.filter(name=manifest.name).values_list("pk", flat=True))
    rubric = manifest.spec.get("rubric")
    suite = seal_eval_suite(
        manifest.name,
        kind=manifest.spec["kind"],
        data=get_blob(manifest.spec["items"]["digest"]),
        rubric=get_blob(rubric["digest"]) if rubric else None,
        author=actor,
    )
    return f"{suite.name}@{suite.version}", suite.pk not in known


def _apply_profile(manifest: Manifest, actor: User) -> Applied:
    known = Profile.objects.filter(name=manifest.name).exists()
    spec = manifest.spec
    profile = create_profile(
        manifest.name, intent=spec["intent"], purpose=spec["purpose"], axis=spec["axis"], risk_class=spec["riskClass"], owner=actor
    )
    return profile.name, not known


def _apply_recipe(manifest: Manifest, actor: User) -> Applied:
    """The latest version of everything named. The same recipe over the same inputs is the same job, unless that job failed."""
    spec = manifest.spec
    base_model = _latest(BaseModel, spec["baseModel"], "-registered_at")
    contrast_set = _latest(ContrastSet, spec["contrastSet"], "-version")
    suites = [_latest(EvalSuite, name, "-version") for name in spec["suites"]]
    recipe = {"vector": manifest.name, **{ours: spec[theirs] for theirs, ours in _RECIPE_FIELDS.items() if theirs in spec}}
    same = Job.objects.filter(base_model=base_model, contrast_set=contrast_set, recipe=parse_extraction_recipe(recipe, base_model)).exclude(
        state__in=[JobState.FAILED, JobState.CANCELLED]
    )
    wanted = {suite.pk for suite in suites}
    for job in same:
        if set(job.suites.values_list("pk", flat=True)) == wanted:
            return str(job.pk), False
    job = request_extraction(base_model=base_model, contrast_set=contrast_set, suites=suites, recipe=recipe, actor=actor)
    return str(job.pk), True


def _latest(model: Any, name: str, order: str) -> Any:
    found = model.objects.filter(name=name).order_by(order).first()
    if found is None:
        raise NotFound("MANIFEST_REFERENCE", f"no {model.__name__} {name!r} on record or in these manifests", name)
    return found


_APPLY: dict[str, Callable[[Manifest, User], Applied]] = {
    "Environment": _apply_environment,
    "Tenant": _apply_tenant,
    "BaseModel": _apply_base_model,
    "ContrastSet": _apply_contrast_set,
    "EvalSuite": _apply_eval_suite,
    "SteeringProfile": _apply_profile,
    "SteeringRecipe": _apply_recipe,
}
