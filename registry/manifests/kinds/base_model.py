"""BaseModel: one exact set of weights, tokenizer, chat template and config."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from django.db.models import QuerySet

from registry.manifests.accounts import SILENT, Fleet, Risk, StatusCondition, condition
from registry.manifests.documents import Manifest, place_error
from registry.manifests.fields import Schema, Spec, digest, mapping, text
from registry.manifests.kind import Index, Kind, References, Writer
from registry.manifests.kinds.sealed import STAYS
from registry.manifests.steps import Recorded, Step
from registry.models import BaseModel, Role
from registry.services.base_models import register_base_model, resolve_model_folder
from steernode.errors import ModelError, SteerError
from steernode.files.basemodels import ModelFiles, inspect_model


class Fingerprints(Index[BaseModel]):
    """Base models. A reference is NAME, or NAME@FINGERPRINT with as many digits as it has."""

    def __init__(self, model: type[BaseModel], names: Collection[str], declared: Sequence[Manifest]) -> None:
        super().__init__(model, names, declared)
        # Registered by the plan: nobody knows their fingerprints before their files are read.
        self.unread: set[str] = set()

    @cached_property
    def registered(self) -> dict[str, list[BaseModel]]:
        """By name, the one registered last first."""
        found: dict[str, list[BaseModel]] = {}
        for row in self.rows.order_by("-registered_at", "-id").defer("manifest"):
            found.setdefault(row.name, []).append(row)
        return found

    def has(self, reference: str) -> bool:
        return reference.partition("@")[0] in self.unread or self.find(reference) is not None

    def expect(self, step: Step) -> None:
        self.unread.add(step.name)

    def find(self, reference: str) -> BaseModel | None:
        """None if the plan registers it, or there is none."""
        name, _, fingerprint = reference.partition("@")
        if not fingerprint and name in self.unread:
            return None
        return next((row for row in self.registered.get(name, ()) if row.fingerprint.startswith(fingerprint)), None)

    def knows(self, name: str, fingerprint: str) -> bool:
        """Whether it is on record, or these manifests register it."""
        declared = name in self.declared and self.declared[name].spec.get("fingerprint") == fingerprint
        return declared or any(row.fingerprint == fingerprint for row in self.registered.get(name, ()))


class BaseModels(Kind[BaseModel, Fingerprints]):
    name = "BaseModel"
    about = "One exact set of weights, tokenizer, chat template and config."
    roles = (Role.AUTHOR, Role.OPERATOR)
    spec = mapping(
        "Where its files are.",
        required={"source": text("A folder below STEERHUB_MODEL_ROOT.", max_length=500)},
        optional={
            "fingerprint": digest(
                "What the files must hash to. Without it the files are taken as they are when this name and source are "
                "first registered; give it to move to changed files."
            )
        },
    )
    retained = STAYS
    model = BaseModel
    index = Fingerprints
    left_alone = ("fingerprint",)
    is_written_first = True

    def records(self) -> "QuerySet[BaseModel]":
        """Of each name, the one registered last."""
        return BaseModel.objects.order_by("name", "-registered_at", "-id").distinct("name").defer("manifest")

    def render(self, row: BaseModel) -> Spec:
        return {"source": row.source, "fingerprint": row.fingerprint}

    def find_recorded(self, manifest: Manifest, recorded: Recorded[BaseModel] | None, references: References) -> Recorded[BaseModel] | None:
        """The one of the fingerprint that is declared, whether or not another was registered after it."""
        rows = references.of(BaseModels).registered.get(manifest.name, ())
        row = next((row for row in rows if row.fingerprint == manifest.spec.get("fingerprint")), None)
        return Recorded(self.render(row), row) if row else recorded

    def inspect(self, manifests: Sequence[Manifest]) -> dict[str, ModelFiles]:
        """What the files hash to, of those that the record does not have as they are declared."""
        found = {}
        for manifest in manifests:
            wanted, source = manifest.spec.get("fingerprint"), manifest.spec["source"]
            registered = BaseModel.objects.filter(name=manifest.name).order_by("-registered_at", "-id")
            known = (registered.filter(fingerprint=wanted) if wanted else registered).first()
            if known is not None and known.source == source:
                continue
            try:
                found[manifest.name] = files = inspect_model(resolve_model_folder(source))
                if wanted not in (None, files.fingerprint):
                    raise ModelError("MODEL_FINGERPRINT", f"the files hash to {files.fingerprint}, not to what is declared", manifest.name)
            except SteerError as error:
                place_error(error, manifest, "spec.source")
                raise
        return found

    def write(self, step: Step, writer: Writer) -> None:
        files = writer.inspected[self.name][step.name]
        register_base_model(step.name, source=step.spec["source"], actor=writer.actor, inspected=files)

    def judge(self, rows: Mapping[str, BaseModel]) -> Mapping[str, list[StatusCondition]]:
        return {name: [condition("Sealed", True, "Registered", row.fingerprint, since=row.registered_at)] for name, row in rows.items()}

    def find_risks(self, step: Step) -> Iterator[Risk]:
        if step.manifest:
            yield Risk("BASE_MODEL_CHANGE", "registered, and served nowhere before an environment is moved to it")

    def find_told(self, step: Step, fleet: Fleet) -> tuple[str, str, bool]:
        if step.recorded is None:
            return super().find_told(step, fleet)
        fingerprint = step.recorded.spec["fingerprint"]
        knowing = [name for name, head in fleet.heads.items() if any(entry.fingerprint == fingerprint for entry in head.base_models)]
        # Whether an environment serves it is for its own manifest to say.
        return f"{len(knowing)} of {len(fleet.heads)} environments", SILENT, True


def base_model_reference(description: str) -> Schema:
    """NAME, which means the one registered last, or NAME@FINGERPRINT."""
    return text(f"{description}: NAME for the one registered last, or NAME@FINGERPRINT with 12 digits or more.", max_length=170,
                pattern="^[A-Za-z0-9][A-Za-z0-9_-]*(@[0-9a-f]{12,64})?$")  # fmt: skip


def refer_to_base_model(base_model: BaseModel) -> str:
    """By twelve digits of its fingerprint."""
    return f"{base_model.name}@{base_model.fingerprint[:12]}"


def get_base_model(reference: str) -> BaseModel:
    """What a reference means once the plan has registered it."""
    name, _, fingerprint = reference.partition("@")
    return BaseModel.objects.filter(name=name, fingerprint__startswith=fingerprint).order_by("-registered_at", "-id")[0]


def current_fingerprints() -> dict[str, str]:
    """By the name of a base model, the one registered last."""
    rows = BaseModel.objects.order_by("name", "-registered_at", "-id").distinct("name")
    return dict(rows.values_list("name", "fingerprint"))


def match_base_model(base_model: BaseModel, current: Mapping[str, str], covers: Collection[str] = ()) -> StatusCondition:
    """`covers` are the fingerprints of forms of it that will do as well."""
    newest = current[base_model.name]
    reason = "CurrentFingerprint" if newest == base_model.fingerprint else "CoveredForm" if newest in covers else "OtherFingerprint"
    return condition("BaseModelMatch", reason != "OtherFingerprint", reason, base_model.fingerprint)
