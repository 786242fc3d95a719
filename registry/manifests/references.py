"""References between objects: NAME becomes NAME@VERSION, as the record will have it once the plan is applied.

A recipe that says `contrastSet: empathy` means the latest pairs. Naming the version is what makes a plan see that pairs, suites
or base model moved, and what makes an export reproducible.
"""

from collections.abc import Iterable
from typing import Any

from django.db.models import Max, Model

from registry.manifests.documents import Fault, Manifest
from registry.manifests.flags import complete_flag, split_flag_name
from registry.manifests.render import RECIPE_FIELDS, Recorded, refer_to_base_model, render_settings
from registry.manifests.revisions import find_vectors, rename_vectors
from registry.manifests.steps import Step
from registry.models import BaseModel, ContrastSet, Environment, EvalSuite, Profile, ProfileRevision, RiskPolicy, SteeringVector, Tenant
from registry.services.recipes import parse_extraction_recipe
from steernode.errors import SteerError

_SEALED: dict[str, type[Model]] = {"ContrastSet": ContrastSet, "EvalSuite": EvalSuite, "SteeringVector": SteeringVector}


class References:
    """What the names in some manifests refer to, read in a few queries whatever their number."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        manifests = list(manifests)
        self.declared = {(manifest.kind, manifest.name) for manifest in manifests}
        self.declared_fingerprints = {
            manifest.name: manifest.spec["fingerprint"] for manifest in manifests if "fingerprint" in manifest.spec
        }
        names: dict[str, set[str]] = {
            kind: set() for kind in (*_SEALED, "BaseModel", "Environment", "Tenant", "RiskPolicy", "SteeringProfile")
        }
        for manifest in manifests:
            for kind, _path, reference in find_references(manifest):
                names[kind].add(reference.partition("@")[0])
            if manifest.kind in names:
                names[manifest.kind].add(manifest.name)
            if manifest.kind == "Environment":
                names["BaseModel"] |= set(manifest.spec.get("baseModels", ()))
        self.latest = {kind: _latest_versions(model, names[kind]) for kind, model in _SEALED.items()}
        self.base_models: dict[str, list[BaseModel]] = {}
        for row in BaseModel.objects.filter(name__in=names["BaseModel"]).order_by("-registered_at", "-id").defer("manifest"):
            self.base_models.setdefault(row.name, []).append(row)
        self.present = {
            "Environment": set(Environment.objects.filter(name__in=names["Environment"]).values_list("name", flat=True)),
            "Tenant": set(Tenant.objects.filter(name__in=names["Tenant"]).values_list("name", flat=True)),
            "RiskPolicy": set(RiskPolicy.objects.filter(name__in=names["RiskPolicy"]).values_list("name", flat=True)),
            "SteeringProfile": set(Profile.objects.filter(name__in=names["SteeringProfile"]).values_list("name", flat=True)),
        }
        self.revisions = {
            (revision.profile.name, revision.number): revision
            for revision in ProfileRevision.objects.filter(profile__name__in=names["SteeringProfile"])
            .select_related("profile", "base_model", "evaluation", "author")
            .prefetch_related("components__vector")
        }
        # Names whose next version this plan makes, and base models whose fingerprint nobody knows before the files are read.
        self.unread_base_models: set[str] = set()

    def expect_version(self, step: Step) -> None:
        """The plan seals a version, so whatever refers to its name refers to that one. A recipe's version comes with its job's end."""
        if step.kind == "BaseModel":
            self.unread_base_models.add(step.name)
        elif step.kind in self.latest and "recipe" not in step.spec:
            self.latest[step.kind][step.name] = self.latest[step.kind].get(step.name, 0) + 1

    def resolve(self, manifest: Manifest) -> tuple[dict[str, Any], list[Fault]]:
        """The manifest's spec with every reference in its one form, and a fault for each that refers to nothing."""
        faults = [
            manifest.fault(path, "MANIFEST_REFERENCE", f"no {kind} {reference!r} on record or in these manifests")
            for kind, path, reference in find_references(manifest)
            if not self._exists(kind, reference)
        ]
        if faults:
            return manifest.spec, faults
        spec = manifest.spec
        if manifest.kind == "SteeringVector" and "recipe" in spec:
            try:
                return {"recipe": self._resolve_recipe(manifest.name, spec["recipe"])}, []
            except SteerError as error:
                return spec, [manifest.fault("spec.recipe", error.code, error.message)]
        if manifest.kind == "SteeringProfile" and "revision" in spec:
            revision = rename_vectors(spec["revision"], lambda reference: self.versioned("SteeringVector", reference))
            return {**spec, "revision": revision}, []
        if manifest.kind == "RiskPolicy":
            # Lists that say which, not in what order.
            return {**spec, **{name: sorted(set(spec[name])) for name in ("suiteKinds", "locales", "reviewerRoles")}}, []
        if manifest.kind == "TenantFlag":
            return self._resolve_flag(manifest)
        if manifest.kind == "Environment":
            return spec, self._find_unserved(manifest)
        return spec, []

    def _resolve_flag(self, manifest: Manifest) -> tuple[dict[str, Any], list[Fault]]:
        spec, faults = complete_flag(manifest)
        for path, pointer in _pointers(spec):
            if pointer not in self.revisions:
                message = f"{pointer[0]} has no revision {pointer[1]} on record"
                faults.append(manifest.fault(path, "MANIFEST_REFERENCE", message))
        return spec, faults

    def _find_unserved(self, manifest: Manifest) -> list[Fault]:
        """Faults for fingerprints that are neither on record nor registered by these manifests."""
        faults = []
        for name, fingerprint in manifest.spec.get("baseModels", {}).items():
            known = {row.fingerprint for row in self.base_models.get(name, ())} | {self.declared_fingerprints.get(name)}
            if fingerprint not in known:
                message = f"no base model {name!r} has this fingerprint on record or in these manifests"
                faults.append(manifest.fault(f"spec.baseModels.{name}", "MANIFEST_REFERENCE", message))
        return faults

    def versioned(self, kind: str, reference: str) -> str:
        name, _, version = reference.partition("@")
        return reference if version else f"{name}@{self.latest[kind][name]}"

    def find_registered(self, manifest: Manifest) -> Recorded | None:
        """The base model of the fingerprint that is declared, whether or not another was registered after it."""
        rows = self.base_models.get(manifest.name, ()) if manifest.kind == "BaseModel" else ()
        row = next((row for row in rows if row.fingerprint == manifest.spec.get("fingerprint")), None)
        return Recorded({"source": row.source, "fingerprint": row.fingerprint}, row) if row else None

    def find_base_model(self, reference: str) -> BaseModel | None:
        """The one registered last, or the one of a fingerprint. None if the plan registers it, or there is none."""
        name, _, fingerprint = reference.partition("@")
        if not fingerprint and name in self.unread_base_models:
            return None
        return next((row for row in self.base_models.get(name, ()) if row.fingerprint.startswith(fingerprint)), None)

    def read_base_model(self, reference: str) -> BaseModel:
        """The same once the plan has registered it."""
        name, _, fingerprint = reference.partition("@")
        return BaseModel.objects.filter(name=name, fingerprint__startswith=fingerprint).order_by("-registered_at", "-id")[0]

    def declared_names(self, kind: str) -> set[str]:
        return {name for declared, name in self.declared if declared == kind}

    def _exists(self, kind: str, reference: str) -> bool:
        name, _, version = reference.partition("@")
        if kind == "BaseModel":
            return name in self.unread_base_models or self.find_base_model(reference) is not None
        if kind in self.present:
            return name in self.present[kind] or (kind, name) in self.declared
        latest = self.latest[kind].get(name, 0)
        return int(version) <= latest if version else latest > 0

    def _resolve_recipe(self, name: str, recipe: dict[str, Any]) -> dict[str, Any]:
        base_model = self.find_base_model(recipe["baseModel"])
        resolved = {
            **recipe,
            "contrastSet": self.versioned("ContrastSet", recipe["contrastSet"]),
            "suites": sorted(self.versioned("EvalSuite", suite) for suite in recipe["suites"]),
        }
        if base_model is None:
            # Its layers are not known before it is registered; the job's own check comes then.
            return resolved
        settings = parse_extraction_recipe(recipe_settings(name, recipe), base_model).to_document()
        return {**resolved, "baseModel": refer_to_base_model(base_model), **render_settings(settings, base_model)}


def recipe_settings(name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe as jobs take it, without its inputs."""
    return {"vector": name, **{ours: recipe[theirs] for theirs, ours in RECIPE_FIELDS.items() if theirs in recipe}}


def find_references(manifest: Manifest) -> list[tuple[str, str, str]]:
    """Kind, path and text of every name of another object."""
    spec = manifest.spec
    if manifest.kind == "SteeringVector" and "recipe" in spec:
        recipe = spec["recipe"]
        suites = [("EvalSuite", f"spec.recipe.suites.{index}", suite) for index, suite in enumerate(recipe["suites"])]
        profile = [("SteeringProfile", "spec.recipe.profile", recipe["profile"])] if "profile" in recipe else []
        return [
            *profile,
            ("BaseModel", "spec.recipe.baseModel", recipe["baseModel"]),
            ("ContrastSet", "spec.recipe.contrastSet", recipe["contrastSet"]),
            *suites,
        ]
    if manifest.kind == "SteeringProfile":
        vectors = find_vectors(spec["revision"]) if "revision" in spec else ()
        named = [("SteeringVector", f"spec.revision.{path}", reference) for path, _, reference in vectors]
        return [("RiskPolicy", "spec.riskClass", spec["riskClass"]), *named]
    if manifest.kind == "TenantFlag":
        environment, tenant, _route = split_flag_name(manifest.name)
        profiles = [("SteeringProfile", path.replace("revision", "profile"), pointer[0]) for path, pointer in _pointers(spec)]
        return [("Environment", "metadata.name", environment), ("Tenant", "metadata.name", tenant), *profiles]
    return []


def _pointers(spec: dict[str, Any]) -> list[tuple[str, tuple[str, int]]]:
    """Where a flag and its arms name a revision, and which."""
    arms = [(f"spec.arms.{position}.revision", arm) for position, arm in enumerate(spec.get("arms", []))]
    holders = [("spec.revision", spec), *arms]
    return [(path, (holder["profile"], holder["revision"])) for path, holder in holders if "profile" in holder and "revision" in holder]


def _latest_versions(model: type[Model], names: set[str]) -> dict[str, int]:
    rows = model._default_manager.filter(name__in=names).order_by().values("name").annotate(latest=Max("version"))
    return {row["name"]: row["latest"] for row in rows}
