"""A thousand objects are planned, applied, and planned again, when nothing is left to do."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks.registry.hub import Answer, Hub
from benchmarks.registry.names import AXES, ENVIRONMENTS, profile_name
from benchmarks.registry.reading import API

# One environment gets all of the flags: its snapshot has to be compiled with them.
ENVIRONMENT = ENVIRONMENTS[0]
TENANTS, PROFILES, ROUTES = 300, 100, 2
OBJECTS = TENANTS + PROFILES + TENANTS * ROUTES


def measure_declaring(hub: Hub, *, rounds: int) -> dict[str, Any]:
    """Every round declares other objects, which stay: a hub that has been measured holds that much more."""
    times: dict[str, list[float]] = {"plan_s": [], "apply_s": [], "plan_again_s": []}
    for number in range(rounds):
        documents = {"documents": declare_objects(f"r{int(time.time())}-{number}", hub.scale.live_profiles)}
        planned = _ask(hub, "plan", documents)
        plan = planned.json()
        if plan["changes"] != OBJECTS:
            raise SystemExit(f"the plan changes {plan['changes']} of {OBJECTS} objects")
        times["plan_s"].append(planned.seconds)
        times["apply_s"].append(_ask(hub, "apply", {**documents, "planDigest": plan["planDigest"]}).seconds)
        again = _ask(hub, "plan", documents)
        if again.json()["changes"]:
            raise SystemExit("what was just applied plans to more changes")
        times["plan_again_s"].append(again.seconds)
    return {"objects": OBJECTS, "rounds": rounds, **{name: statistics.median(found) for name, found in times.items()}}


def declare_objects(prefix: str, live_profiles: int) -> list[dict[str, Any]]:
    """Tenants, profiles, and flags of these tenants that point at what is approved already."""
    tenants = [_declare("Tenant", f"{prefix}-{number}", {"title": f"Tenant {number}"}) for number in range(TENANTS)]
    profiles = [
        _declare(
            "SteeringProfile",
            f"{prefix}-{number}",
            {"intent": f"Replies of kind {number}.", "purpose": "tone", "axis": AXES[number % len(AXES)], "riskClass": "low"},
        )
        for number in range(PROFILES)
    ]
    flags = [
        _declare(
            "TenantFlag",
            f"{ENVIRONMENT}/{prefix}-{number}{route}",
            {"profile": profile_name(number % live_profiles), "revision": 1, "enabled": True, "reason": "Declared by the benchmark."},
        )
        for number in range(TENANTS)
        for route in ("", "/chat")
    ]
    return [*tenants, *profiles, *flags]


def _declare(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "steerhub/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _ask(hub: Hub, verb: str, body: dict[str, Any]) -> Answer:
    answer = hub.ask("POST", f"{API}/manifests/{verb}", body)
    if answer.status not in (200, 201):
        raise SystemExit(f"{verb} was answered {answer.status}: {answer.body[:500]!r}")
    return answer
