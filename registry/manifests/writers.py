"""How a step of each kind is taken: the service that makes such records, called with what the manifest says."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

from registry.blobs import get_blob
from registry.errors import NotFound
from registry.manifests.flags import split_flag_name, state_flag
from registry.manifests.references import References, recipe_settings
from registry.manifests.render import POLICY_FIELDS
from registry.manifests.revisions import read_revision
from registry.manifests.steps import CREATE, Step
from registry.models import (
    BaseModel,
    ContrastSet,
    Environment,
    EvalSuite,
    Profile,
    ProfileRevision,
    RevisionState,
    SteeringVector,
    Tenant,
    User,
)
from registry.services.base_model_moves import move_environment
from registry.services.base_models import register_base_model
from registry.services.contrast import seal_contrast_set
from registry.services.evals import seal_eval_suite
from registry.services.flags import delete_flag, set_flag
from registry.services.jobs import request_extraction
from registry.services.people import stands_for
from registry.services.policies import PolicyTerms, change_policy, create_policy
from registry.services.profiles import create_profile, delete_profile, draft_revision, edit_profile, edit_revision
from registry.services.tenants import create_environment, create_tenant, delete_tenant, rename_tenant
from registry.services.vectors import import_vector
from steernode.files.basemodels import ModelFiles


@dataclass
class Writer:
    """Who applies the plan, and what the plan found on record. Rows that many steps name are read once."""

    actor: User
    references: References
    models: dict[str, ModelFiles]

    @cached_property
    def environments(self) -> dict[str, Environment]:
        """Read when flags are set: by then every environment of the plan is there."""
        return {row.name: row for row in Environment.objects.all()}

    @cached_property
    def tenants(self) -> dict[str, Tenant]:
        return {
            row.name: row
            for row in Tenant.objects.filter(name__in=self.references.present["Tenant"] | self.references.declared_names("Tenant"))
        }


def _write_base_model(writer: Writer, step: Step) -> None:
    register_base_model(step.name, source=step.spec["source"], actor=writer.actor, inspected=writer.models[step.name])


def _write_contrast_set(writer: Writer, step: Step) -> None:
    seal_contrast_set(step.name, axis=step.spec["axis"], data=get_blob(step.spec["pairs"]["digest"]), author=writer.actor)


def _write_suite(writer: Writer, step: Step) -> None:
    rubric = step.spec.get("rubric")
    seal_eval_suite(
        step.name,
        kind=step.spec["kind"],
        data=get_blob(step.spec["items"]["digest"]),
        rubric=get_blob(rubric["digest"]) if rubric else None,
        author=writer.actor,
    )


def _write_profile(writer: Writer, step: Step) -> None:
    """The intent. Its revision waits for the vectors it may name."""
    head = {"intent": step.spec["intent"], "purpose": step.spec["purpose"], "axis": step.spec["axis"], "risk_class": step.spec["riskClass"]}
    if step.action == CREATE:
        create_profile(step.name, owner=writer.actor, **head)
    elif any(not change.field.startswith("spec.revision") for change in step.changes if change.field.startswith("spec")):
        edit_profile(step.name, actor=writer.actor, **head)


def _write_revision(writer: Writer, step: Step) -> None:
    """Other content than the latest revision's: into the draft at hand if the actor wrote it, else into the next number."""
    if not any(change.field.startswith("spec.revision") for change in step.changes):
        return
    profile = Profile.objects.select_related("risk_class").get(name=step.name)
    content = read_revision(step.spec["revision"], lambda reference: _find_version(SteeringVector, reference))
    latest = ProfileRevision.objects.select_related("author").filter(profile=profile).order_by("-number").first()
    if latest is not None and latest.state == RevisionState.DRAFT and stands_for(latest.author) == stands_for(writer.actor):
        edit_revision(latest.pk, actor=writer.actor, **content)
    else:
        draft_revision(profile, author=writer.actor, **content)


def _write_vector(writer: Writer, step: Step) -> None:
    if "digest" in step.spec:
        import_vector(step.name, data=get_blob(step.spec["digest"]), author=writer.actor)
        return
    recipe = step.spec["recipe"]
    request_extraction(
        base_model=writer.references.read_base_model(recipe["baseModel"]),
        contrast_set=_find_version(ContrastSet, recipe["contrastSet"]),
        suites=[_find_version(EvalSuite, suite) for suite in recipe["suites"]],
        recipe=recipe_settings(step.name, recipe),
        draft_for=Profile.objects.get(name=recipe["profile"]) if "profile" in recipe else None,
        actor=writer.actor,
    )


def _find_version(model: Any, reference: str) -> Any:
    name, _, version = reference.partition("@")
    found = model.objects.filter(name=name, version=int(version)).first()
    if found is None:
        raise NotFound("MANIFEST_REFERENCE", f"no {model.__name__} {reference!r} on record", reference)
    return found


def _write_environment(writer: Writer, step: Step) -> None:
    environment = create_environment(step.name, actor=writer.actor)
    served = dict(environment.served.values_list("name", "base_model__fingerprint"))
    for name, fingerprint in step.spec.get("baseModels", {}).items():
        if served.get(name) != fingerprint:
            base_model = BaseModel.objects.get(name=name, fingerprint=fingerprint)
            move_environment(environment, base_model=base_model, actor=writer.actor)


def _write_policy(writer: Writer, step: Step) -> None:
    terms = {ours: step.spec[theirs] for theirs, ours in POLICY_FIELDS.items()}
    terms["alpha_caps"] = {unit: Decimal(cap) for unit, cap in terms["alpha_caps"].items()}
    terms["composition_budget"] = Decimal(terms["composition_budget"])
    write = create_policy if step.action == CREATE else change_policy
    write(step.name, terms=PolicyTerms(**terms), reason=step.spec["reason"], actor=writer.actor)


def _write_tenant(writer: Writer, step: Step) -> None:
    if step.action == CREATE:
        create_tenant(step.name, title=step.spec["title"], actor=writer.actor)
    else:
        rename_tenant(step.name, title=step.spec["title"], actor=writer.actor)


def _write_flag(writer: Writer, step: Step) -> None:
    environment, tenant, route = split_flag_name(step.name)
    set_flag(
        writer.environments[environment],
        writer.tenants[tenant],
        enabled=step.spec["enabled"],
        reason=step.spec["reason"],
        route=route,
        actor=writer.actor,
        **state_flag(step.spec, writer.references.revisions),
    )


# In the order in which steps are taken. A recipe may name a profile, and a revision names vectors; so profiles come twice.
WRITERS: list[tuple[str, Callable[[Writer, Step], None]]] = [
    ("BaseModel", _write_base_model),
    ("ContrastSet", _write_contrast_set),
    ("EvalSuite", _write_suite),
    ("RiskPolicy", _write_policy),
    ("SteeringProfile", _write_profile),
    ("SteeringVector", _write_vector),
    ("SteeringProfile", _write_revision),
    ("Environment", _write_environment),
    ("Tenant", _write_tenant),
    ("TenantFlag", _write_flag),
]

# Pruning finds flags before tenants, so this is no order.
DELETERS: dict[str, Callable[[Writer, Step], None]] = {
    "SteeringProfile": lambda writer, step: delete_profile(step.name, actor=writer.actor),
    "Tenant": lambda writer, step: delete_tenant(step.name, actor=writer.actor),
    "TenantFlag": lambda writer, step: delete_flag(step.recorded.row.pk, actor=writer.actor),
}
