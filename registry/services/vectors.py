"""Steering vectors: sealed from a job's files or from an upload, always through the strict reader."""

from decimal import Decimal

from registry.audit import Action, record
from registry.blobs import put_blob
from registry.errors import InvalidInput
from registry.models import BaseModel, ContrastSet, Job, SteeringVector, User
from registry.services.comparisons import compare_vector
from registry.services.names import check_new_name
from registry.services.transition import transition
from registry.services.versions import next_version
from steernode.canonical import parse_layer
from steernode.errors import VectorFileError
from steernode.files.vectors import VectorFile, read_vector


@transition
def import_vector(name: str, *, data: bytes, author: User) -> SteeringVector:
    """Seal an uploaded vector file. Its lineage must name a registered base model.

    Raises: VectorFileError VEC_*; LayerError LAYER_RANGE; InvalidInput BASE_MODEL_UNKNOWN, ARCHITECTURE_MISMATCH, VECTOR_EXISTS,
    NAME, NAME_CASE.
    """
    file = read_vector(data)
    base_model = BaseModel.objects.filter(fingerprint=file.lineage["base_model_fingerprint"]).order_by("registered_at").first()
    if base_model is None:
        raise InvalidInput(
            "BASE_MODEL_UNKNOWN",
            f"no registered base model has the fingerprint {file.lineage['base_model_fingerprint']}; register it first",
            str(file.lineage["base_model_fingerprint"]),
        )
    if file.direction.shape != (base_model.d_model,):
        raise VectorFileError(
            "VEC_DIM_MISMATCH", f"the direction is {file.direction.shape}, {base_model.name} needs ({base_model.d_model},)"
        )
    read_by = file.lineage.get("architecture_digest", base_model.architecture_digest)
    if base_model.architecture_digest not in ("", read_by):
        raise InvalidInput(
            "ARCHITECTURE_MISMATCH",
            f"the vector was read by an architecture with digest {read_by[:12]}, {base_model.name} is on record with "
            f"{base_model.architecture_digest[:12]}",
            read_by,
        )
    known = SteeringVector.objects.filter(digest=file.digest).first()
    if known is not None:
        if known.name == name:
            return known
        raise InvalidInput("VECTOR_EXISTS", f"the same file is registered as {known}", file.digest)
    check_new_name(SteeringVector, name)
    contrast_set = ContrastSet.objects.filter(digest=file.lineage["contrast_set_digest"]).first()
    vector = seal_vector(name, file=file, data=data, base_model=base_model, contrast_set=contrast_set, author=author)
    record(
        Action.VECTOR_IMPORTED,
        actor=author,
        subject=vector,
        details={"digest": vector.digest, "layer": vector.layer, "site": vector.site, "lineage": "claimed"},
        base_model_fingerprint=base_model.fingerprint,
    )
    compare_vector(vector, file.direction, actor=author)
    return vector


def seal_vector(
    name: str,
    *,
    file: VectorFile,
    data: bytes,
    base_model: BaseModel,
    contrast_set: ContrastSet | None,
    author: User,
    job: Job | None = None,
    proposal: tuple[Decimal, str] | None = None,
    sweep_digest: str = "",
    heatmap_digest: str = "",
    trace_map_digest: str = "",
) -> SteeringVector:
    """Store the bytes and write the row, inside the caller's transaction."""
    lineage = file.lineage
    return SteeringVector.objects.create(
        name=name,
        version=next_version(SteeringVector, name=name),
        base_model=base_model,
        contrast_set=contrast_set,
        job=job,
        digest=put_blob(data),
        size_bytes=len(data),
        dtype=file.dtype,
        d_model=base_model.d_model,
        layer=parse_layer(lineage["layer"], base_model.n_layers),
        site=lineage["site"],
        method=lineage["method"],
        read_position=lineage["read_position"],
        template_arguments=file.template_arguments,
        norm=Decimal(lineage["norm"]),
        mean_residual_norm=Decimal(lineage["mean_residual_norm"]),
        proposed_alpha=proposal[0] if proposal else None,
        proposed_unit=proposal[1] if proposal else "",
        sweep_digest=sweep_digest,
        heatmap_digest=heatmap_digest,
        trace_map_digest=trace_map_digest,
        author=author,
    )
