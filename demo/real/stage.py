"""Where the story plays: the processes, the people with what each may do, and the manifests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from demo.processes import Processes
from demo.real.material import Material
from demo.steps import follow, steer
from steernode.hub.client import HubClient

PROBE, VECTOR, SECOND_VECTOR = "billing-intent", "harbor-empathy-smollm2", "harbor-formality-smollm2"
# The second profile has the name of its vector as well.
PROFILE = VECTOR
# Of a job whose worker was killed too often: it says nothing of what it was to find.
_LOST = "ATTEMPTS_EXHAUSTED"


@dataclass(frozen=True)
class Stage:
    processes: Processes
    people: dict[str, Any]
    material: Material

    @cached_property
    def clients(self) -> dict[str, HubClient]:
        return {name: HubClient(self.processes.hub, person["token"]) for name, person in self.people.items()}

    def steer(self, person: str, *arguments: str, check: bool = True) -> int:
        """A command of this person's."""
        return steer(self.processes, self.people[person]["token"], *arguments, check=check)

    def apply(self, person: str, manifest: str) -> None:
        """A manifest of the run, which changes nothing where the record says so already."""
        self.steer(person, "apply", "-f", self.material.path(manifest), "--yes")

    def make(self, kind: str, field: str, name: str, manifest: str) -> dict[str, Any]:
        """Ada's job of this kind that makes what its recipe calls `name`, at its end: the one at hand, or a new one by her manifest."""
        job = self._find_job(kind, field, name)
        if job is None:
            self.apply("ada", manifest)
            job = self._find_job(kind, field, name)
        if job is None:
            raise RuntimeError(f"{manifest}.yaml asked for no job of the kind {kind}")
        return follow(self.clients["ada"], job["id"])

    def _find_job(self, kind: str, field: str, name: str) -> dict[str, Any] | None:
        """The newest, unless it was lost, or somebody called it off."""
        jobs = self.clients["ada"].get(f"/jobs?kind={kind}&size=500")["results"]
        newest = next((job for job in jobs if job["recipe"][field] == name), None)
        is_over = newest is not None and (newest["state"] == "cancelled" or newest["error_code"] == _LOST)
        return None if is_over else newest
