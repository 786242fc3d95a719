"""One manifest, and the ways in which documents are refused. `parse.py` makes the one of the other."""

from dataclasses import dataclass
from typing import NamedTuple

from registry.errors import InvalidInput, TransitionRefused
from registry.manifests.fields import Spec
from steernode.errors import SteerError

# Past this many faults a person fixes the first ones and asks again.
MAX_FAULTS = 50
# Of all documents that are planned together, as JSON; and how many names they may declare and refer to, which stays below what one
# question to the database can hold. An export keeps to the same, so that whatever was exported can be planned.
MAX_DOCUMENTS_BYTES = 16 * 1024 * 1024
MAX_NAMES = 50_000


class Fault(NamedTuple):
    """What is wrong with one field. `field` starts at the list of documents: documents.0.spec.alpha."""

    field: str
    code: str
    message: str


class _Faults(SteerError):
    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(faults[0].code, faults[0].message, faults[0].field)
        self.errors = [fault._asdict() for fault in faults[:MAX_FAULTS]]


class ManifestsRefused(_Faults, InvalidInput):
    """The manifests say what no record can become; nothing was changed."""


class ManifestsConflict(_Faults, TransitionRefused):
    """The record is not one that these manifests may change as they say; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document with every default filled in and every coefficient in its one form."""

    position: int
    kind: str
    name: str
    labels: dict[str, str]
    manager: str
    spec: Spec

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def fault(self, path: str, code: str, message: str) -> Fault:
        return Fault(f"documents.{self.position}.{path}", code, f"{self}: {message}")


def place_error(error: SteerError, manifest: Manifest, path: str) -> None:
    """Make the refusal say which document it is about."""
    error.message = f"{manifest}: {error.message}"
    error.errors = [Fault(f"documents.{manifest.position}.{path}", error.code, error.message)._asdict()]
