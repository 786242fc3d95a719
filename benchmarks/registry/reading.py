"""Lists, filters, details and pages of the console, over the large record and the small one by turns, so that a slow minute slows both."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.registry.hub import Hub
from benchmarks.registry.names import (
    AXES,
    BASE_MODELS,
    ENVIRONMENTS,
    RISK_CLASSES,
    VERSIONS,
    digest_of,
    profile_name,
    tenant_name,
    vector_name,
)
from benchmarks.timing import percentile

API = "/api/v1"


@dataclass(frozen=True)
class Case:
    """One address, asked for another record each time."""

    kind: str
    name: str
    path: Callable[[Known], str]


class Known:
    """What of one hub may be asked for by name or by id, picked at random but the same on every run."""

    def __init__(self, hub: Hub) -> None:
        self._hub, self._random = hub, random.Random(1)
        self.ids = {name: self._sample(f"{name}?") for name in ("vectors", "jobs", "evaluations", "profiles", "audit/events")}
        self.flag_ids = self._sample("environments/production/flags?")

    def _sample(self, path: str) -> list[str]:
        """Ids from all over the first 10,000 records, which are as good as any."""
        count = self._hub.ask("GET", f"{API}/{path}size=1").json()["count"]
        last = max(1, count // 50)
        pages = {self._random.randint(1, last) for _ in range(20)}
        rows = [row for page in pages for row in self._hub.ask("GET", f"{API}/{path}size=50&page={page}").json()["results"]]
        return [str(row.get("seq", row["id"])) for row in rows]

    def number(self, count: int) -> int:
        return self._random.randrange(count)

    def pick(self, values: Any) -> Any:
        return self._random.choice(values)

    def id_of(self, name: str) -> str:
        return self.pick(self.ids[name])

    def vector(self) -> str:
        return vector_name(self.number(self._hub.scale.vectors // VERSIONS))

    def vector_digest(self) -> str:
        return digest_of("vector", self.number(self._hub.scale.vectors // VERSIONS), 1 + self.number(VERSIONS))

    def page(self) -> int:
        """A numbered page of vectors, of those that are numbered."""
        return 1 + self.number(min(self._hub.scale.vectors, 10_000) // 50)

    def profile(self) -> str:
        return profile_name(self.number(self._hub.scale.profiles))

    def live_profile(self) -> str:
        """Production is the second environment."""
        count = self._hub.scale.live_profiles
        return profile_name(count + self.number(count))

    def tenant(self) -> str:
        return tenant_name(self.number(self._hub.scale.tenants))


def list_cases() -> Iterator[Case]:
    flags = "environments/production/flags"
    for name in ("vectors", "contrast-sets", "eval-suites", "jobs", "evaluations", "profiles", "tenants", "environments", flags):
        yield Case("list", name, lambda known, name=name: name)
    yield Case("list", "audit/events", lambda known: "audit/events")
    yield Case("list", "environments/…/snapshots", lambda known: f"environments/{known.pick(ENVIRONMENTS)}/snapshots")
    for name in ("vectors", "jobs", "evaluations", "profiles", "audit/events"):
        yield Case("list", f"{name} after …", lambda known, name=name: f"{name}?after={known.id_of(name)}")
    yield Case("list", "vectors, some page", lambda known: f"vectors?page={known.page()}")
    yield Case("list", f"{flags} after …", lambda known: f"{flags}?after={known.pick(known.flag_ids)}")
    yield Case("filter", "vectors by name", lambda known: f"vectors?name={known.vector()}")
    yield Case("filter", "vectors by digest", lambda known: f"vectors?digest={known.vector_digest()}")
    yield Case("filter", "vectors by base model", lambda known: f"vectors?base_model={known.pick(BASE_MODELS)}")
    yield Case("filter", "contrast sets by axis", lambda known: f"contrast-sets?axis={known.pick(AXES)}")
    yield Case("filter", "jobs by kind", lambda known: f"jobs?kind={known.pick(['extraction', 'validation'])}")
    yield Case("filter", "jobs by state", lambda known: f"jobs?state={known.pick(['queued', 'succeeded'])}")
    yield Case("filter", "jobs by person", lambda known: f"jobs?requested_by={known.pick(['ada', 'grace'])}")
    yield Case("filter", "evaluations by vector", lambda known: f"evaluations?vector={known.vector()}")
    yield Case("filter", "profiles by axis", lambda known: f"profiles?axis={known.pick(AXES)}")
    yield Case("filter", "profiles by risk class", lambda known: f"profiles?risk_class={known.pick(RISK_CLASSES)}")
    yield Case("filter", "profiles by purpose", lambda known: f"profiles?purpose={known.pick(['tone', 'safety'])}")
    yield Case("filter", "flags by tenant", lambda known: f"{flags}?tenant={known.tenant()}")
    yield Case("filter", "flags by profile", lambda known: f"{flags}?profile={known.live_profile()}")
    yield Case("filter", "events by action", lambda known: f"audit/events?action={known.pick(['flag.changed', 'token.issued'])}")
    yield Case("filter", "events by actor", lambda known: f"audit/events?actor={known.pick(['oscar', 'ada', 'grace', 'nobody'])}")
    yield Case("filter", "events by tenant", lambda known: f"audit/events?tenant={known.tenant()}")
    yield Case("filter", "events by environment", lambda known: f"audit/events?environment={known.pick(ENVIRONMENTS)}")
    yield Case("filter", "events by type of object", lambda known: f"audit/events?object={known.pick(['tenantflag', 'user'])}")
    yield Case("filter", "events by id of object", lambda known: f"audit/events?object={known.pick(known.flag_ids)}")
    yield Case("filter", "events by name of object", lambda known: f"audit/events?object={known.profile()}")
    yield Case("detail", "vector", lambda known: f"vectors/{known.vector()}/{1 + known.number(VERSIONS)}")
    yield Case("detail", "job", lambda known: f"jobs/{known.id_of('jobs')}")
    yield Case("detail", "evaluation", lambda known: f"evaluations/{known.id_of('evaluations')}")
    yield Case("detail", "profile", lambda known: f"profiles/{known.profile()}")
    yield Case("detail", "revision", lambda known: f"profiles/{known.profile()}/revisions/1")
    yield Case("detail", "tenant", lambda known: f"tenants/{known.tenant()}")
    yield Case("detail", "environment", lambda known: f"environments/{known.pick(ENVIRONMENTS)}")
    yield Case("page", "the dashboard", lambda known: "/admin/")
    yield Case("page", "flags of an environment", lambda known: "/console/flags/production/")
    yield Case("page", "the audit log", lambda known: "/admin/registry/auditevent/")
    yield Case("page", "the audit log, searched", lambda known: f"/admin/registry/auditevent/?q={known.tenant()}")
    yield Case("page", "vectors, searched", lambda known: f"/admin/registry/steeringvector/?q={known.vector()}")
    yield Case("detail", "explain", lambda known: f"environments/production/explain?tenant={known.tenant()}")


def measure_reading(hubs: Mapping[str, Hub], *, repeats: int, warmups: int) -> list[dict[str, Any]]:
    """Every case on every hub: median and 95th percentile of the times, in seconds."""
    known = {name: Known(hub) for name, hub in hubs.items()}
    rows = []
    for case in list_cases():
        times: dict[str, list[float]] = {name: [] for name in hubs}
        for turn in range(warmups + repeats):
            for name, hub in hubs.items():
                path = case.path(known[name])
                answer = hub.ask("GET", path if case.kind == "page" else f"{API}/{path}")
                if answer.status != 200:
                    raise SystemExit(f"GET {path} on {name}: {answer.status} {answer.body[:300]!r}")
                if turn >= warmups:
                    times[name].append(answer.seconds)
        row = {"kind": case.kind, "name": case.name}
        row |= {name: {"p50_s": percentile(found, 50), "p95_s": percentile(found, 95)} for name, found in times.items()}
        rows.append(row)
        print("  ".join([f"  {case.kind:6} {case.name:36}", *(f"{name} {row[name]['p95_s'] * 1e3:6.1f} ms" for name in hubs)]), flush=True)
    return rows
