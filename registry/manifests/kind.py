"""What one kind of manifest is: what it may say, and how its objects are read, planned, written and judged.

Each kind is one file of `kinds`, and `kinds/__init__.py` lists them. Whatever plans, applies, exports, prunes or compares goes
through that list, and names none of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

from django.db.models import Model, QuerySet
from django.db.models.functions import Lower

from registry.manifests.accounts import SILENT, Consequences, DriftRow, Fleet, InUse, Risk, StatusCondition
from registry.manifests.documents import MAX_NAMES, Fault, Manifest, ManifestsRefused
from registry.manifests.fields import NAME_PATTERN, Schema, Spec, mapping, slug, text
from registry.manifests.steps import NO_OP, Recorded, Row, Step
from registry.models import Role, User

API_VERSION = "steerhub/v1"
# None reads every object of the kind.
Names = Collection[str] | None
Found = TypeVar("Found", bound="Index[Any]")


class Reference(NamedTuple):
    """The name of another object, as a manifest writes it: NAME, or NAME@VERSION. `path` is the field that it stands in."""

    kind: str
    path: str
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("@")[0]


class Index(Generic[Row]):
    """What references to one kind can mean: what is on record under some names, each read once it is asked for, and what the plan makes."""

    def __init__(self, model: type[Row], names: Collection[str], declared: Sequence[Manifest]) -> None:
        self._model, self._names = model, names
        self.declared = {manifest.name: manifest for manifest in declared}

    @property
    def rows(self) -> "QuerySet[Row]":
        return self._model._default_manager.filter(name__in=self._names)

    @cached_property
    def names(self) -> set[str]:
        return {*self.declared, *self.rows.values_list("name", flat=True)}

    def has(self, reference: str) -> bool:
        return reference in self.names

    def expect(self, step: Step) -> None:
        """From here on the references mean what this step makes of the object."""

    @cached_property
    def made(self) -> dict[str, Row]:
        """By name, once the plan has made what it declares."""
        return self.rows.in_bulk(field_name="name")


class References:
    """What the names in some manifests refer to, read in a few queries whatever their number."""

    def __init__(self, manifests: Sequence[Manifest], kinds: "Mapping[str, Kind[Any, Any]]") -> None:
        """Raises: ManifestsRefused MANIFESTS_TOO_LARGE."""
        named = [reference for manifest in manifests for reference in kinds[manifest.kind].references(manifest)]
        count = len({(each.kind, each.name) for each in manifests} | {(each.kind, each.name) for each in named})
        if count > MAX_NAMES:
            message = f"these manifests declare or refer to {count} objects, and {MAX_NAMES} are planned together; plan them in parts"
            raise ManifestsRefused([Fault("documents", "MANIFESTS_TOO_LARGE", message)])
        self._found: dict[str, Index[Any]] = {}
        for kind in kinds.values():
            declared = [manifest for manifest in manifests if manifest.kind == kind.name]
            names = {manifest.name for manifest in declared} | {reference.name for reference in named if reference.kind == kind.name}
            self._found[kind.name] = kind.index(kind.model, names, declared)

    def of(self, kind: "type[Kind[Any, Found]]") -> Found:
        return cast(Found, self._found[kind.name])

    def has(self, reference: Reference) -> bool:
        return self._found[reference.kind].has(reference.text)

    def expect(self, step: Step) -> None:
        self._found[step.kind].expect(step)


class Writer(NamedTuple):
    """Who applies the plan, what its names refer to, and by kind and name what `inspect` found."""

    actor: User
    references: References
    inspected: Mapping[str, Mapping[str, Any]]


class Kind(ABC, Generic[Row, Found]):
    """One kind of manifest, whose objects are read from rows of `Row` and referred to through a `Found`.

    It fills in the fields of the class and the abstract methods, and overrides whatever else it has something to say of.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    # Who may change it. Any one of them will do, as it does at the kind's own address.
    roles: ClassVar[tuple[Role, ...]]
    spec: ClassVar[Schema]
    model: ClassVar[type[Model]]
    index: type[Found]
    object_name: ClassVar[Schema] = slug("Unique among objects of this kind.")
    # Why pruning leaves it where it is; empty where an unused one may be deleted.
    retained: ClassVar[str] = ""
    # Fields that, left out, leave the record as it is. Any other field that is left out has its default.
    left_alone: ClassVar[tuple[str, ...]] = ()
    # Whether recipes and revisions name its objects: then these are written before all others.
    is_written_first: ClassVar[bool] = False

    def schema(self) -> Schema:
        """The whole document, in JSON Schema."""
        metadata = mapping(
            "What the object is called and who owns it.",
            required={"name": self.object_name},
            optional={
                "labels": {
                    "type": "object",
                    "description": "Words of your own, for finding things.",
                    "propertyNames": {"pattern": NAME_PATTERN, "maxLength": 63},
                    "additionalProperties": text("", max_length=200, min_length=0),
                    "maxProperties": 32,
                    "default": {},
                },
                "manager": text(
                    "Who owns the object, such as git/steering. Whoever else declares it conflicts, and pruning stays among its own.",
                    max_length=100,
                    min_length=0,
                    pattern="^([A-Za-z0-9][A-Za-z0-9_./-]*)?$",
                    default="",
                ),
            },
        )
        head = {
            "apiVersion": {"const": API_VERSION, "description": "The form of the document."},
            "kind": {"const": self.name, "description": "What is declared."},
            "metadata": metadata,
        }
        status = {"type": "object", "description": "What the hub makes of it. Given by an export, ignored when read."}
        if self.spec["required"] or self.spec.get("minProperties"):
            return mapping(self.about, required={**head, "spec": self.spec}, optional={"status": status})
        return mapping(self.about, required=head, optional={"spec": {**self.spec, "default": {}}, "status": status})

    def read(self, names: Names = None) -> dict[str, Recorded[Row]]:
        """The objects by name, in any order: what manifests would have to say for a plan to find nothing to do."""
        rows = self.records() if names is None else self.records().filter(name__in=names)
        return {name: Recorded(self.render(row), row) for name, row in rows.in_bulk(field_name="name").items()}

    def records(self) -> "QuerySet[Any]":
        """The rows that are objects now: one of a name."""
        return self.model._default_manager.all()

    @abstractmethod
    def render(self, row: Row) -> Spec:
        """The row as a spec."""

    def references(self, manifest: Manifest) -> Iterable[Reference]:
        """Every name of another object in the manifest."""
        return ()

    def find_missing(self, manifest: Manifest, references: References) -> list[Fault]:
        """A fault for each of its references that refers to nothing."""
        missing = [each for each in self.references(manifest) if not references.has(each)]
        message = "no {0.kind} {0.text!r} on record or in these manifests"
        return [manifest.fault(each.path, "MANIFEST_REFERENCE", message.format(each)) for each in missing]

    def resolve(self, manifest: Manifest, references: References) -> tuple[Spec, list[Fault]]:
        """The spec with every reference in its one form, and what is wrong with it. All that it refers to is there."""
        return manifest.spec, []

    def find_refused(self, step: Step) -> Iterable[Fault]:
        """What keeps a step that has something to write from being taken. What stands as it is on record is refused for nothing."""
        return ()

    def find_recorded(self, manifest: Manifest, recorded: Recorded[Row] | None, references: References) -> Recorded[Row] | None:
        """The object that the manifest is compared with, where it is not the one that was read."""
        return recorded

    def find_alike(self, names: Collection[str]) -> Iterable[str]:
        """The names on record that differ from one of these at most in capitals."""
        rows = self.model._default_manager.order_by().alias(lower=Lower("name")).filter(lower__in={name.lower() for name in names})
        return [str(name) for name in rows.values_list("name", flat=True)]

    def govern(self, recorded: Spec, wanted: Spec) -> Spec:
        """What of the recorded spec a manifest with the wanted one speaks of."""
        return {field: value for field, value in recorded.items() if field in wanted or field not in self.left_alone}

    def note(self, recorded: Spec, wanted: Spec) -> str:
        """What of the recorded spec stays although the manifest no longer says it, where somebody could take the silence for a wish."""
        return ""

    def find_superseded(self, steps: Sequence[Step]) -> Iterable[Fault]:
        """A fault for each step that wants what an earlier version holds."""
        return ()

    def find_users(self, recorded: Mapping[str, Recorded[Row]], going: Sequence[Step]) -> Mapping[str, InUse]:
        """By name, why an object cannot be pruned. `going` is what the plan prunes already: what refers to others goes first."""
        return {}

    def inspect(self, manifests: Sequence[Manifest]) -> Mapping[str, Any]:
        """By name, whatever takes minutes to find out. Asked before anything is locked."""
        return {}

    @abstractmethod
    def write(self, step: Step, writer: Writer) -> None:
        """Make the record say what the step says."""

    def write_rest(self, step: Step, writer: Writer) -> None:
        """What of it has to wait for what others write, of a kind that is written first."""

    def delete(self, step: Step, writer: Writer) -> None:
        raise NotImplementedError(f"{self.name}: {self.retained or 'say how it is deleted'}")

    def judge(self, rows: Mapping[str, Row]) -> Mapping[str, list[StatusCondition]]:
        """By name, what the hub makes of each object."""
        return {}

    def weigh(self, steps: Sequence[Step], references: References) -> Consequences:
        """What all steps of this kind in a plan mean for those who are steered."""
        return Consequences({step.name: list(self.find_risks(step)) for step in steps if step.manifest and step.action != NO_OP})

    def find_risks(self, step: Step) -> Iterable[Risk]:
        """The consequences of a step that can be told from it alone, in the order in which they matter."""
        return ()

    def compare(self, steps: Sequence[Step], fleet: Fleet) -> Iterator[DriftRow]:
        """Each object as the files, the record, the last snapshots and the nodes have it."""
        for step in steps:
            registry = "absent" if step.recorded is None else f"differs in {step.differing}" if step.differing else "same"
            snapshot, nodes, is_told = self.find_told(step, fleet)
            yield DriftRow(self.name, step.name, "declared", registry, snapshot, nodes, registry != "same" or not is_told)

    def find_told(self, step: Step, fleet: Fleet) -> tuple[str, str, bool]:
        """What snapshots say of the object, what nodes do, and whether that is all there is to say."""
        return SILENT, SILENT, True
