"""What the kinds share whose objects are sealed: other content is the next version, and what was version 1 cannot be the latest again."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from django.db.models import Max, QuerySet

from registry.errors import NotFound
from registry.manifests.accounts import StatusCondition, condition
from registry.manifests.documents import Fault
from registry.manifests.fields import Spec
from registry.manifests.kind import Index, Kind
from registry.manifests.steps import UPDATE, Row, Step
from registry.models import Role
from registry.reads.lookups import find_version

STAYS = "what is sealed stays on record"


class Versions(Index[Any]):
    """The latest version of each name, as the record will have it once the plan is applied."""

    @cached_property
    def latest(self) -> dict[str, int]:
        rows = self.rows.order_by().values("name").annotate(latest=Max("version"))
        return {row["name"]: row["latest"] for row in rows}

    def has(self, reference: str) -> bool:
        name, _, version = reference.partition("@")
        return int(version or 1) <= self.latest.get(name, 0)

    def expect(self, step: Step) -> None:
        # A recipe's version comes with the end of its job.
        if "recipe" not in step.spec:
            self.latest[step.name] = self.latest.get(step.name, 0) + 1

    def complete(self, reference: str) -> str:
        """NAME as NAME@VERSION. Naming the version is what makes a plan see that it moved, and an export reproducible."""
        name, _, version = reference.partition("@")
        return reference if version else f"{name}@{self.latest[name]}"


class Sealed(Kind[Any, Versions]):
    """A kind whose rows are versions of a name."""

    roles: ClassVar[tuple[Role, ...]] = (Role.AUTHOR,)
    retained = STAYS
    index = Versions
    is_written_first = True

    def versions(self) -> "QuerySet[Any]":
        return self.model._default_manager.all()

    def records(self) -> "QuerySet[Any]":
        return self.versions().order_by("name", "-version").distinct("name")

    def what_makes(self, spec: Spec) -> Spec:
        """What of a spec decides the bytes that are sealed."""
        return spec

    def find_superseded(self, steps: Sequence[Step]) -> Iterator[Fault]:
        wanted = {
            step.name: (step, step.manifest) for step in steps if step.action == UPDATE and step.changes_field("spec") and step.manifest
        }
        # Only names that change are looked at, so this is a few rows and not the history of the registry.
        for row in self.versions().filter(name__in=wanted):
            step, manifest = wanted[row.name]
            if self.what_makes(self.render(row)) == self.what_makes(step.spec):
                message = f"this would be version {row.version} again; what is sealed goes forward only, so give it a name of its own"
                yield manifest.fault("spec", "MANIFEST_SUPERSEDED", message)

    def judge(self, rows: Mapping[str, Any]) -> Mapping[str, list[StatusCondition]]:
        return {name: [condition("Sealed", True, f"Version{row.version}", row.digest, since=row.sealed_at)] for name, row in rows.items()}


def get_version(records: "QuerySet[Row]", reference: str) -> Row:
    """What NAME@VERSION names. Raises: NotFound MANIFEST_REFERENCE."""
    found = find_version(records, reference)
    if found is None:
        raise NotFound("MANIFEST_REFERENCE", f"no {records.model.__name__} {reference!r} on record", reference)
    return found
