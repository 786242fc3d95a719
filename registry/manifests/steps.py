"""Steps of a plan: what becomes of one object, field by field."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from django.db.models import Model

from registry.manifests.documents import Manifest
from registry.manifests.fields import Spec
from registry.models import Declaration
from steernode.canonical import canonical_json, sha256_hex

CREATE, UPDATE, NO_OP, DELETE, RETAIN = "create", "update", "no-op", "delete", "retain"
CHANGING = (CREATE, UPDATE, DELETE)
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Row]):
    """One object as the record has it: its spec, and the row that the spec was read from."""

    spec: Spec
    row: Row
    # False while a job is still making it.
    is_finished: bool = True


class Change(NamedTuple):
    """One field, as it is and as it would be. None: it is not there."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Step:
    """What becomes of one object."""

    kind: str
    name: str
    action: str
    changes: tuple[Change, ...] = ()
    # None for an object that no manifest declares; it is here because of --prune.
    manifest: Manifest | None = None
    # With every reference in its one form.
    spec: Spec = field(default_factory=dict)
    recorded: Recorded[Any] | None = None
    declaration: Declaration | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def changes_field(self, path: str) -> bool:
        return any(f"{change.field}.".startswith(f"{path}.") for change in self.changes)

    @property
    def changes_record(self) -> bool:
        """Whether its kind has something to write. A step may change no more than who declares the object."""
        return self.action == CREATE or (self.action == UPDATE and self.changes_field("spec"))

    @property
    def differing(self) -> str:
        """The fields in which file and record differ, in words; empty if in none. Who declares an object is not a field of it."""
        return ", ".join(change.field for change in self.changes if change.field != "metadata.manager")

    @property
    def owner(self) -> str:
        """Whose object it is; empty if nobody claims it."""
        return self.declaration.manager if self.declaration and self.declaration.spec_digest else ""

    @property
    def is_contested(self) -> bool:
        return self.manifest is not None and self.owner not in ("", self.manifest.manager)

    def document(self) -> dict[str, Any]:
        """What the digest of a plan covers of this object."""
        return {
            "kind": self.kind,
            "name": self.name,
            "action": self.action,
            "last_plan": self.declaration.plan.digest if self.declaration else "",
            "changes": [change._asdict() for change in self.changes],
            "spec_digest": digest_spec(self.spec) if self.manifest else "",
        }


def digest_spec(spec: Spec) -> str:
    return sha256_hex(canonical_json(spec))


def find_changes(path: str, before: Any, after: Any) -> Iterator[Change]:
    """The fields that differ. Lists of mappings are compared by position, any other list as a whole."""
    if before == after:
        return
    if isinstance(after, dict) and isinstance(before, dict | None):
        before = before or {}
        for name in [*after, *(name for name in before if name not in after)]:
            yield from find_changes(f"{path}.{name}", before.get(name), after.get(name))
    elif _holds_mappings(before) or _holds_mappings(after):
        before, after = before or [], after or []
        for position in range(max(len(before), len(after))):
            old = before[position] if position < len(before) else None
            new = after[position] if position < len(after) else None
            yield from find_changes(f"{path}.{position}", old, new)
    else:
        yield Change(path, before, after)


def _holds_mappings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
