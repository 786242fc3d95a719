"""What a node says of itself: to the hub in reports, to an operator in its status, to a load balancer in its readiness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Protocol

from steernode import __version__
from steernode.canonical import format_decimal
from steernode.node.deciding import InForce, decide
from steernode.node.follower import Follower
from steernode.records.reports import APPLIED, MAX_SURPLUS, MAX_UNSERVABLE
from steernode.snapshot.resolve import Effective
from steernode.strict import format_time

# A report has a size limit and is read by people; past this many flags they read the registry instead.
MAX_SLOTS = 200


class Answers(Protocol):
    """Whatever answers requests: it counts them, and a report says what it counted beside what the follower did."""

    @property
    def counters(self) -> Mapping[str, int]: ...


def describe_steering(effective: Effective) -> dict[str, Any] | None:
    """What steered a reply, or None. `alpha` and `layer` are the first component's; `components` has them all. `measured_on` is there if
    the approval covers more than the files that its evidence is of, `stopped` if it was steered only up to a token, counted from 0."""
    if effective.profile is None:
        return None
    components = [
        {
            "layer": entry.component.layer,
            "site": entry.component.site,
            "operator": entry.component.operator,
            "alpha": format_decimal(entry.alpha),
            "unit": entry.component.unit,
            "coefficient": format_decimal(entry.coefficient),
            "vector_sha256": entry.component.vector.sha256,
        }
        for entry in effective.components
    ]
    first = components[0] if components else {"alpha": "0", "layer": None}
    stopped = effective.stopped
    return {
        "profile": effective.profile.id,
        "revision": effective.profile.revision,
        **({"arm": effective.arm} if effective.arm else {}),
        "alpha": first["alpha"],
        "layer": first["layer"],
        "components": components,
        **({"measured_on": effective.profile.base_model} if effective.profile.covers else {}),
        **({"template_arguments": dict(effective.profile.template_arguments)} if effective.profile.template_arguments else {}),
        **({"stopped": {"reason": stopped.reason, "from_token": stopped.from_token, "at": _format_moment(stopped.at)}} if stopped else {}),
    }


def _format_moment(moment: datetime) -> str:
    """UTC to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe_slots(in_force: InForce | None, now: datetime) -> list[dict[str, Any]]:
    """For every flag in force: what its tenant and route really get now, and why.

    Of a flag that is for a share of callers, or has arms, this is what somebody without a rollout key gets; `rollout` and `arms` say so.
    """
    if in_force is None:
        return []
    slots = []
    for flag in in_force.snapshot.flags[:MAX_SLOTS]:
        effective = decide(in_force, flag.tenant, flag.route, now=now)
        slot = {"tenant": flag.tenant, "route": flag.route, "reason": effective.reason, "steering": describe_steering(effective)}
        by_key = {"rollout": format_decimal(flag.rollout), "arms": [arm.name for arm in flag.arms]} if flag.needs_key else {}
        slots.append(slot | by_key)
    return slots


def readiness_problem(in_force: InForce | None, now: datetime) -> str | None:
    """Why this node should get no traffic; None if it should. A node that is ready may still steer nobody."""
    if in_force is None:
        return "no_snapshot"
    if any(in_force.is_past_staleness(profile, now) for profile in in_force.obeyed.flagged_profiles()):
        return "stale"
    return None


def describe_status(follower: Follower, answering: Answers | None = None) -> dict[str, Any]:
    """Everything an operator asks of one node."""
    in_force, now, engine, refusal = follower.in_force, follower.now(), follower.engine, follower.refusal
    counters = {**follower.counters, **(answering.counters if answering else {})}
    problem = readiness_problem(in_force, now)
    return {
        "node": follower.name,
        "environment": follower.environment,
        "boot_id": follower.boot_id,
        "steernode": __version__,
        "engine": f"{engine.name} {engine.version}",
        "fingerprint": engine.fingerprint,
        # Engines that people bring need not say.
        "placement": getattr(engine, "placement", None),
        "capabilities": sorted(engine.capabilities),
        "highest_revision": follower.highest_revision,
        "stop": follower.stop_report,
        "unservable": follower.unservable,
        "is_ready": problem is None,
        "readiness_problem": problem,
        "refusal": asdict(refusal) if refusal else None,
        "applied": None
        if in_force is None
        else {
            "revision": in_force.snapshot.revision,
            "content_digest": in_force.snapshot.content_digest,
            "etag": in_force.etag,
            "accepted_at": format_time(in_force.accepted_at),
            "last_contact_at": format_time(in_force.last_contact_at),
            "last_contact_seconds": int((now - in_force.last_contact_at).total_seconds()),
            "expires_in_seconds": int((in_force.snapshot.expires_at - now).total_seconds()),
        },
        "slots": describe_slots(in_force, now),
        "counters": dict(sorted(counters.items())),
        "node_utc": format_time(now),
    }


def describe_report(follower: Follower, number: int, answering: Answers | None = None) -> dict[str, Any]:
    """A report of the fleet protocol. `revision` is the one applied, or in a NACK the one refused; `applied` is always in force."""
    status = describe_status(follower, answering)
    applied, refusal = status["applied"], status["refusal"]
    if refusal is not None:
        result = "NACK"
    elif applied is None:
        result = "PENDING"
    else:
        result = "STALE" if applied["expires_in_seconds"] <= 0 else "ACK"
    stop = follower.stop_report
    return {
        "result": result,
        "code": refusal["code"] if refusal else "",
        "message": refusal["message"][:2000] if refusal else "",
        "revision": refusal["revision"] if refusal else applied["revision"] if applied else None,
        "seq": number,
        "applied": {name: applied[name] for name in APPLIED} if applied else None,
        "highest_revision": follower.highest_revision,
        "stop": {**stop, "surplus": list(stop["surplus"])[:MAX_SURPLUS]} if stop else None,
        "unservable": follower.unservable[:MAX_UNSERVABLE],
        **{
            name: status[name]
            for name in ("node", "environment", "boot_id", "engine", "capabilities", "fingerprint", "slots", "counters", "node_utc")
        },
    }


def describe_failure(follower: Follower, number: int, error: Exception) -> dict[str, Any]:
    """A report in place of one that could not be written: what is in force, how far the node has come, and that the rest is not known."""
    in_force, engine = follower.in_force, follower.engine
    return {
        "result": "NACK",
        "code": "REPORT",
        "message": f"the report cannot be written whole: {type(error).__name__}: {error}"[:2000],
        "revision": in_force.snapshot.revision if in_force else None,
        "seq": number,
        "applied": None,
        "highest_revision": follower.highest_revision,
        "stop": follower.stop_report,
        "unservable": [],
        "node": follower.name,
        "environment": follower.environment,
        "boot_id": follower.boot_id,
        "engine": f"{engine.name} {engine.version}",
        "capabilities": [],
        "fingerprint": engine.fingerprint,
        "slots": [],
        "counters": {},
        "node_utc": format_time(follower.now()),
    }
