"""What a request would get, and why: each rule that decided, in order, by the code and the bytes that nodes use.

That is the trail of `steernode.snapshot.resolve.resolve`. The record adds why the snapshot lists no flag, which freeze is in force, what
a route inherits from its tenant's flag, and what only the node and the request itself can decide.
"""

from dataclasses import dataclass, field
from datetime import UTC
from decimal import Decimal

from django.utils import timezone

from registry.models import Environment, ProfileRevision, TenantFlag
from registry.reads.engines import Engines
from registry.reads.inheritance import Id, InheritedFlag, read_tenants
from registry.reads.steering import freeze_in_force, live_revisions
from registry.snapshots.read import read_head
from steernode.errors import AlphaError
from steernode.snapshot.conditions import AttributeCondition, HarmfulCondition, IntentCondition, parse_condition_bytes
from steernode.snapshot.records import Profile
from steernode.snapshot.resolve import Effective, Step, resolve, unsteered


@dataclass(frozen=True, slots=True)
class Explanation:
    """`reason` is a node's own, or the code of the refusal a node would answer with."""

    revision: int
    effective: Effective
    reason: str
    refusal: str = ""
    rules: list[Step] = field(default_factory=list)


def explain_request(environment: Environment, tenant: str, route: str, *, key: str = "", alpha: Decimal | None = None) -> Explanation:
    """Raises: NotFound SNAPSHOT_NOT_FOUND."""
    head, snapshot = read_head(environment)
    trail: list[Step] = []
    refusal = ""
    try:
        effective = resolve(snapshot, tenant, route, key=key, alpha=alpha, trail=trail)
        reason = effective.reason
    except AlphaError as error:
        effective, reason, refusal = unsteered(""), error.code, error.message
    flag = _find_recorded(environment, tenant, route)
    rules: list[Step] = []
    for step in trail:
        if step.rule == "flag" and step.reason in ("no_flag", "flag_off"):
            step = Step(step.rule, _why_not(environment, flag), step.reason)
        rules.append(step)
        if step.rule == "kill" and not step.reason and len(rules) == 1:
            rules.append(_explain_freeze(environment))
        if step.rule == "flag" and flag is not None and flag.inherited:
            rules.append(Step("inheritance", f"the route has from the tenant's flag: {', '.join(flag.inherited)}"))
    if effective.profile is not None:
        rules += _leave_to_the_node(environment, effective.profile, tenant)
    return Explanation(head.revision, effective, reason, refusal, rules)


def _find_recorded(environment: Environment, tenant: str, route: str) -> InheritedFlag[Id] | None:
    found = read_tenants(TenantFlag.objects.filter(environment=environment, tenant__name=tenant))
    return found[0].flag_for(route) if found else None


def _explain_freeze(environment: Environment) -> Step:
    freeze = freeze_in_force(environment, timezone.now())
    if freeze is None:
        return Step("freeze", "no freeze is in force")
    until = freeze.ends_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Step("freeze", f"frozen until {until} ({freeze.reason}); that holds changes, and what is served stays as it is")


def _why_not(environment: Environment, flag: InheritedFlag[Id] | None) -> str:
    """Why the snapshot has no flag for this, from the record."""
    if flag is None:
        return "the tenant has no flag here, and the default is off"
    whose = f"the flag of the route {flag.route}" if flag.route else "the tenant's flag"
    own = TenantFlag.objects.get(pk=flag.flag_id)
    if not own.enabled:
        return f"{whose} is off, since {own.changed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {own.reason}"
    if not flag.is_on:
        return f"{whose} is on, but the tenant's flag is off, which is the main switch"
    live = set(live_revisions(environment).filter(pk__in=[arm.revision_id for arm in flag.choices]).values_list("pk", flat=True))
    dead = ProfileRevision.objects.filter(pk__in={arm.revision_id for arm in flag.choices} - live).select_related("profile")
    if dead:
        return f"{whose} is on, but " + ", ".join(f"{revision} is {_say_state(revision)}" for revision in dead)
    return f"{whose} is on at α scale 0, and no request may ask for another α"


def _say_state(revision: ProfileRevision) -> str:
    return f"{revision.state}{f' ({revision.invalidated_reason})' if revision.invalidated_reason else ''} and may not steer here"


def _leave_to_the_node(environment: Environment, profile: Profile, tenant: str) -> list[Step]:
    """What can still take steering away: the node's own files and contact, and the conditions, which look at each request."""
    stale = f"{profile.stale_policy} after {profile.max_staleness_seconds} s without the hub"
    rules = [
        Step("base model", _say_files(environment, profile)),
        Step("staleness", f"decided by the node: {stale}"),
    ]
    lacking = Engines([environment.name]).say_lacking(environment.name, profile.capabilities)
    rules += [Step("engine", f"{'; '.join(lacking)}: {tenant} is neutral there, as unservable")] if lacking else []
    overrides = [_say_condition(entry.document) for entry in profile.safety_override]
    watched = "; the node reads the text itself, and steers neither what it finds harmful nor what it cannot decide"
    rules.append(Step("safety override", f"decided by the request: neutral if {' or '.join(overrides)}{watched}" if overrides else "none"))
    conditions = [
        f"layer {component.layer} fires if {_say_condition(component.condition.document)}"
        for component in profile.components
        if component.condition is not None
    ]
    rules.append(Step("conditions", f"decided by the request: {'; '.join(conditions)}" if conditions else "none"))
    return rules


def _say_files(environment: Environment, profile: Profile) -> str:
    """Which nodes steer: those with the files that were measured, and those with a form that the approval covers."""
    served = dict(environment.served.values_list("base_model__fingerprint", "name"))
    measured, covered = profile.base_model, [fingerprint for fingerprint in profile.covers if fingerprint in served]
    names = [f"{served.get(measured, 'a base model')} {measured[:12]}"] if measured in served or not covered else []
    names += [f"{served[fingerprint]} {fingerprint[:12]}, a form on which nothing was measured" for fingerprint in covered]
    return f"only nodes that run {'; or '.join(names)} steer; any other answers wrong_base_model"


def _say_condition(document: bytes) -> str:
    condition = parse_condition_bytes(document)
    if isinstance(condition, IntentCondition):
        return f"the intent is {' or '.join(sorted(condition.labels))}"
    if isinstance(condition, AttributeCondition):
        return f"{condition.name} is {' or '.join(sorted(condition.values))}"
    if isinstance(condition, HarmfulCondition):
        return "the node finds a harmful request in the text"
    return f"a probe at layer {condition.layer} finds it in the prompt"
