"""A flag is flipped: the transition from its call to the commit of the signed snapshot, and the whole way over the API.

STEERHUB_VAR=... python -m benchmarks.registry.flipping TENANTS ROUTES FLIPS SEED    prints the seconds of each transition as JSON
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from benchmarks.registry.hub import Hub
from benchmarks.registry.names import ENVIRONMENTS, OPERATOR, route_name, tenant_name
from benchmarks.registry.reading import API
from benchmarks.timing import percentile

ENVIRONMENT = "production"


def measure_flips(hub: Hub, *, repeats: int, warmups: int) -> dict[str, Any]:
    """Another tenant's flag each time, to another scale. The first flip of a process writes every entry and is told apart."""
    flips = warmups + repeats
    before = _read_head(hub)
    answered = [_put(hub, *flip) for flip in _choose(hub.scale.tenants, hub.scale.routes, flips, seed=before)]
    course = (hub.scale.tenants, hub.scale.routes, flips, before + flips)
    committed = json.loads(hub.run("benchmarks.registry.flipping", *map(str, course)))
    head = _read_head(hub)
    # A route of a tenant that is switched off makes none.
    if head - before < 0.8 * 2 * flips:
        raise SystemExit(f"{2 * flips} flips made only {head - before} snapshots")
    return {
        "environments": len(ENVIRONMENTS),
        "flags_in_the_environment": hub.scale.tenants * hub.scale.routes,
        "live_profiles": hub.scale.live_profiles,
        "first_s": answered[0],
        "transition": _summarise(committed[warmups:]),
        "answered": _summarise(answered[warmups:]),
        "repeats": repeats,
        "revision": head,
    }


def _summarise(seconds: list[float]) -> dict[str, float]:
    return {"p50_s": percentile(seconds, 50), "p95_s": percentile(seconds, 95)}


def _choose(tenants: int, routes: int, flips: int, *, seed: int) -> Iterator[tuple[str, str, str]]:
    """Tenant, route and α scale. By another seed another course, because a flag set to what it says already makes no snapshot."""
    choose = random.Random(seed)
    for _ in range(flips):
        yield tenant_name(choose.randrange(tenants)), route_name(choose.randrange(routes)), f"{choose.randrange(1, 2000) / 1000:.3f}"


def _read_head(hub: Hub) -> int:
    """The revision of the environment's newest snapshot."""
    return hub.ask("GET", f"{API}/environments/{ENVIRONMENT}").json()["head"]["revision"]


def _put(hub: Hub, tenant: str, route: str, scale: str) -> float:
    """The seconds of the change itself. A larger scale is confirmed by its plan, which somebody looked at before."""
    path, body = f"{API}/environments/{ENVIRONMENT}/flags/{tenant}", {"route": route, "enabled": True, "alpha_scale": scale}
    plan = hub.ask("POST", f"{path}/plan", body).json()
    answer = hub.ask("PUT", path, {**body, "reason": "Measured flip.", "confirm": plan["digest"]})
    if answer.status != 200:
        raise SystemExit(f"a flip was answered {answer.status}: {answer.body[:300]!r}")
    return answer.seconds


def main() -> None:
    # As the web process is set up.
    import steerhub.asgi  # noqa: F401
    from registry.models import Environment, Tenant, User
    from registry.services.flags import set_flag

    tenants, routes, flips, seed = map(int, sys.argv[1:])
    environment, operator = Environment.objects.get(name=ENVIRONMENT), User.objects.get(username=OPERATOR)
    tenant_of = {tenant.name: tenant for tenant in Tenant.objects.all()}
    seconds = []
    for name, route, scale in _choose(tenants, routes, flips, seed=seed):
        started = time.perf_counter()
        set_flag(
            environment, tenant_of[name], route=route, enabled=True, alpha_scale=Decimal(scale), reason="Measured flip.", actor=operator
        )
        seconds.append(time.perf_counter() - started)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
