"""Base models: register the files as they are."""

from pathlib import Path

from django.conf import settings

from registry.audit import Action, record
from registry.errors import InvalidInput
from registry.models import BaseModel, Environment, User
from registry.snapshots import lock_environments, publish_snapshot
from registry.transitions import transition
from steerkit.basemodel import inspect_model

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
def register_base_model(name: str, *, source: str, actor: User) -> BaseModel:
    """Fingerprint the files and register them. The same files under the same name are the same record.

    Raises: InvalidInput MODEL_ID; ModelError for files that are missing, unsafe or of an unknown kind.
    """
    # Hashing takes minutes for a large model; a kill must not wait for it, so nothing is locked yet.
    manifest = inspect_model(resolve_model_folder(source))
    environments = lock_environments(Environment.objects.all())
    known = BaseModel.objects.filter(name=name, fingerprint=manifest.fingerprint).first()
    if known is not None:
        return known
    base_model = BaseModel.objects.create(
        name=name,
        source=source,
        fingerprint=manifest.fingerprint,
        architecture=manifest.architecture,
        n_layers=manifest.n_layers,
        d_model=manifest.d_model,
        context_length=manifest.context_length,
        manifest=manifest.to_document(),
        registered_by=actor,
    )
    record(
        Action.BASE_MODEL_REGISTERED,
        actor=actor,
        subject=base_model,
        details={"source": source, "architecture": manifest.architecture, "layers": manifest.n_layers, "d_model": manifest.d_model},
        base_model_fingerprint=manifest.fingerprint,
    )
    for environment in environments:
        publish_snapshot(environment, cause=Action.BASE_MODEL_REGISTERED, actor=actor)
    return base_model
