"""Base models: register the files as they are. What serves them is in base_model_moves.py."""

from pathlib import Path
from typing import Any

from django.conf import settings

from registry.audit import Action, record
from registry.errors import InvalidInput
from registry.locks import Lock, hold
from registry.models import BaseModel, User
from registry.services.base_model_forms import check_behaviour, check_comparison, describe_form, state_behaviour, state_form
from registry.services.names import check_new_name
from registry.services.transition import transition
from steernode.errors import ModelError
from steernode.files.basemodels import ModelFiles, inspect_model
from steernode.files.drift import describe_drift

# What file systems give one name.
_NAME_BYTES = 255


def resolve_model_folder(source: str) -> Path:
    """The folder that `source` names below STEERHUB_MODEL_ROOT. Raises: InvalidInput MODEL_ID."""
    root = Path(settings.STEERHUB_MODEL_ROOT)
    is_path = source != "" and "\0" not in source and all(len(part.encode()) <= _NAME_BYTES for part in Path(source).parts)
    folder = (root / source).resolve() if is_path else None
    if folder is None or not folder.is_relative_to(root):
        raise InvalidInput("MODEL_ID", f"{source!r} is not a folder below the model root", source)
    return folder


@transition
def register_base_model(
    name: str,
    *,
    source: str,
    actor: User,
    inspected: ModelFiles | None = None,
    fingerprint: str = "",
    behaviour: dict[str, Any] | None = None,
    derived_from: BaseModel | None = None,
    comparison: dict[str, Any] | None = None,
) -> BaseModel:
    """Fingerprint the files and register them. The same files under the same name are the same record.

    It is on record and served nowhere, the first of its name too: vectors can be extracted from it and approved, and nodes hear
    nothing of it until somebody who may moves an environment to it. A new environment begins with what is registered by then.
    `inspected` is what the files hash to, if that was found out before: a batch holds its locks from its start.
    Files that are on record are not read in another way: what was extracted from them would mean another place.
    `fingerprint` is what whoever registers it takes the files for, if they say so. `behaviour` is what the model says to the eight
    prompts, as they measured it; said once, and not otherwise after that. `comparison` is with the base model that it is `derived_from`.
    Raises: InvalidInput MODEL_ID, NAME, NAME_CASE, ARCHITECTURE_CHANGED, BEHAVIOUR, BEHAVIOUR_CHANGED, COMPARISON, FORM_NOT_DERIVED,
    FORM_CHANGED; ModelError MODEL_FINGERPRINT, or for files that are missing, unsafe or unknown.
    """
    # Hashing takes minutes for a large model; a kill must not wait for it, so nothing is locked yet.
    stated = None if behaviour is None else check_behaviour(behaviour)
    manifest = inspected or inspect_model(resolve_model_folder(source))
    if fingerprint not in ("", manifest.fingerprint):
        raise ModelError(
            "MODEL_FINGERPRINT", f"the files in {source} hash to {manifest.fingerprint}, not to {fingerprint}; are they the same?", name
        )
    compared = check_comparison(manifest, derived_from, comparison)
    hold(Lock.NAMES)
    named = BaseModel.objects.filter(name=name)
    known = named.filter(fingerprint=manifest.fingerprint).first()
    if known is not None:
        _state_architecture(known, manifest.architecture_digest, actor)
        state_behaviour(known, stated, actor)
        state_form(known, derived_from, compared, actor)
        if known.source != source:
            _relocate(known, source, actor)
        return known
    check_new_name(BaseModel, name)
    earlier = named.order_by("-registered_at").first()
    base_model = BaseModel.objects.create(
        name=name,
        source=source,
        fingerprint=manifest.fingerprint,
        architecture=manifest.architecture,
        n_layers=manifest.n_layers,
        d_model=manifest.d_model,
        context_length=manifest.context_length,
        manifest=manifest.to_document(),
        architecture_digest=manifest.architecture_digest,
        behaviour=None if stated is None else stated.to_document(),
        derived_from=derived_from,
        comparison=None if compared is None else compared.to_document(),
        registered_by=actor,
    )
    record(
        Action.BASE_MODEL_REGISTERED,
        actor=actor,
        subject=base_model,
        details={
            "source": source,
            "architecture": manifest.architecture,
            "architecture_digest": manifest.architecture_digest,
            "layers": manifest.n_layers,
            "d_model": manifest.d_model,
            **({"form": manifest.form} if manifest.form else {}),
            **({"behaviour_digest": stated.digest} if stated else {}),
            **(describe_form(derived_from, compared) if derived_from and compared else {}),
            "changes": describe_drift(earlier.manifest, base_model.manifest) if earlier else [],
        },
        base_model_fingerprint=manifest.fingerprint,
    )
    return base_model


def _state_architecture(base_model: BaseModel, digest: str, actor: User) -> None:
    """Said once, of a base model that was registered before it was kept."""
    if base_model.architecture_digest == digest:
        return
    if base_model.architecture_digest:
        raise InvalidInput(
            "ARCHITECTURE_CHANGED",
            f"{base_model} is on record as an architecture with digest {base_model.architecture_digest[:12]}, the hub now has "
            f"{digest[:12]} for it; put the file back, or register the files under another name",
            base_model.name,
        )
    base_model.architecture_digest = digest
    base_model.save(update_fields=["architecture_digest"])
    fingerprint, details = base_model.fingerprint, {"architecture_digest": digest}
    record(Action.BASE_MODEL_DESCRIBED, actor=actor, subject=base_model, details=details, base_model_fingerprint=fingerprint)


def _relocate(base_model: BaseModel, source: str, actor: User) -> None:
    """The same files in another folder: everything learned from them names the fingerprint, so nothing else changes."""
    details = {"before": base_model.source, "after": source}
    base_model.source = source
    base_model.save(update_fields=["source"])
    fingerprint = base_model.fingerprint
    record(Action.BASE_MODEL_RELOCATED, actor=actor, subject=base_model, details=details, base_model_fingerprint=fingerprint)
