"""A flag is flipped over the API: from the request to its answer, when the signed snapshot is committed."""

from __future__ import annotations

import random
from typing import Any

from benchmarks.registry.hub import Hub
from benchmarks.registry.names import ENVIRONMENTS, route_name, tenant_name
from benchmarks.registry.reading import API
from benchmarks.timing import percentile

ENVIRONMENT = "production"


def measure_flips(hub: Hub, *, repeats: int, warmups: int) -> dict[str, Any]:
    """Another tenant's flag each time, to another scale. The first flip of a process writes every entry and is told apart."""
    choose = random.Random(2)
    times = []
    for _ in range(warmups + repeats):
        tenant, route = choose.randrange(hub.scale.tenants), choose.randrange(hub.scale.routes)
        times.append(_flip(hub, tenant, route, choose.randrange(1, 2000)))
    first, times = times[0], times[warmups:]
    head = hub.ask("GET", f"{API}/environments/{ENVIRONMENT}").json()["head"]
    return {
        "environments": len(ENVIRONMENTS),
        "flags_in_the_environment": hub.scale.tenants * hub.scale.routes,
        "live_profiles": hub.scale.live_profiles,
        "first_s": first,
        "p50_s": percentile(times, 50),
        "p95_s": percentile(times, 95),
        "repeats": repeats,
        "revision": head["revision"],
    }


def _flip(hub: Hub, tenant: int, route: int, thousandths: int) -> float:
    body = {
        "route": route_name(route),
        "enabled": True,
        "alpha_scale": f"{thousandths / 1000:.3f}",
        "reason": "Measured flip.",
    }
    answer = hub.ask("PUT", f"{API}/environments/{ENVIRONMENT}/flags/{tenant_name(tenant)}", body)
    if answer.status != 200:
        raise SystemExit(f"a flip was answered {answer.status}: {answer.body[:300]!r}")
    return answer.seconds
