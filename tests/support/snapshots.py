"""Whole snapshots as nodes read them: by hand, and at random."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from steernode.snapshot.document import digest_content, parse_snapshot
from steernode.snapshot.records import Snapshot

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LENGTHS = {"norm": "40", "mean_residual_norm": "180"}


def make_profile(name: str, revision: int) -> dict[str, Any]:
    component = {
        "vector": {"sha256": "ab" * 32, "bytes": 100, "dtype": "F32", "shape": [16]},
        "layer": 2,
        "site": "resid_post",
        "operator": "add",
        "alpha": "0.5",
        "alpha_min": "0",
        "alpha_max": "1",
        "unit": "mean_difference",
        "scope": "generated",
        "schedule": {"kind": "constant"},
        "condition": None,
        **LENGTHS,
    }
    return {
        "id": name,
        "revision": revision,
        "revision_digest": "aa" * 32,
        "evidence_digest": "bb" * 32,
        "base_model": "cc" * 32,
        "risk_class": "low",
        "stale_policy": "zero",
        "max_staleness_seconds": 900,
        "components": [component, component | {"layer": 3, "alpha": "0.2"}],
    }


PROFILES = [make_profile("warm", 1), make_profile("warm", 2), make_profile("short", 1)]


def make_snapshot(*flags: dict[str, Any], kills: tuple[tuple[str, str], ...] = ()) -> Snapshot:
    return parse_snapshot(make_document(*flags, kills=kills))


def make_document(*flags: dict[str, Any], kills: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    content = {
        "base_models": [{"name": "harbor", "fingerprint": "cc" * 32}],
        "profiles": PROFILES,
        "flags": list(flags),
        "kills": [{"kind": kind, "target": target} for kind, target in kills],
        "limits": {"max_components": 8, "alpha_cap": {"absolute": "1000", "mean_difference": "2", "residual": "1"}},
        "capabilities": ["operator:add", "schedule:constant", "scope:generated", "site:resid_post"],
    }
    head = {
        "schema": "steerhub.snapshot/1",
        "environment": "production",
        "revision": 1,
        "content_digest": digest_content(content),
        "rollback_of": None,
        "issued_at": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "expires_at": (NOW + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {**head, **content}


def flag(**changes: Any) -> dict[str, Any]:
    return {"tenant": "harbor", "route": "", "profile": "warm", "revision": 1, "enabled": True, "alpha_scale": "1", **changes}


def arm(name: str, weight: int = 1, **changes: Any) -> dict[str, Any]:
    return {"name": name, "weight": weight, "profile": "warm", "revision": 1, "alpha_scale": "1", **changes}


def bounds(least: str, most: str) -> dict[str, str]:
    return {"alpha_min": least, "alpha_max": most}


# -- At random ------------------------------------------------------------------------------------------------------------------

SCALES = st.sampled_from(["0", "0.5", "1", "1.5"])
POINTERS = st.sampled_from([("warm", 1), ("warm", 2), ("short", 1)])
ENVIRONMENTS = [("environment", "production"), ("environment", "staging")]
SALTS = st.sampled_from(["", "spring", "autumn"])
OVERRIDES = st.sampled_from([None, bounds("0", "0.3"), bounds("0.1", "0.3"), bounds("0", "0.6")])


@st.composite
def arms(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for name in draw(st.sampled_from([(), ("a",), ("a", "b"), ("a", "b", "c")])):
        (profile, revision), scale = draw(POINTERS), draw(SCALES)
        # Only a control may name what is not listed.
        profile = "gone" if scale == "0" and draw(st.booleans()) else profile
        made.append(arm(name, draw(st.sampled_from([1, 3])), profile=profile, revision=revision, alpha_scale=scale))
    return made


@st.composite
def flags(draw: st.DrawFn, tenant: str, route: str) -> dict[str, Any]:
    profile, revision = draw(POINTERS)
    made = flag(tenant=tenant, route=route, profile=profile, revision=revision, alpha_scale=draw(SCALES), enabled=draw(st.booleans()))
    made["rollout"] = draw(st.sampled_from(["0", "30", "60", "100"]))
    made |= {"rollout_salt": salt} if (salt := draw(SALTS)) else {}
    made |= {"arms": found} if (found := draw(arms())) else {}
    made |= {"arms_salt": salt} if (salt := draw(SALTS)) else {}
    return made | ({"override": override} if (override := draw(OVERRIDES)) else {})


@st.composite
def contents(draw: st.DrawFn) -> tuple[list[dict[str, Any]], tuple[tuple[str, str], ...]]:
    made = [draw(flags("harbor", route)) for route in ("", "chat") if draw(st.booleans())]
    every = [("tenant", "harbor"), ("tenant", "atlas"), ("profile", "warm"), ("profile", "short"), ("everything", "*"), *ENVIRONMENTS]
    kills = draw(st.sets(st.sampled_from(every), max_size=2))
    return made, tuple(kills)
