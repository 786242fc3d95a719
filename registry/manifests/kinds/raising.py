"""What one change raises, in the words of a plan, before it happens: a flag that is set, an environment that is moved.

The plan of a change is the change itself, undone. So what is shown is what would happen, and the one function that weighs a change is
asked twice: for the plan, and again, under the same locks, when somebody hands the plan's digest back and it is done. Steering is never
lowered by a question: what raises nothing needs no digest, and turning off is not even weighed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Unpack

from registry.errors import ConfirmationNeeded, TransitionRefused
from registry.manifests.accounts import Risk
from registry.manifests.kinds.flag import Flags
from registry.manifests.kinds.flag_risks import NODE_INCAPABLE, FlagRisks, read_steered
from registry.manifests.kinds.profile import read_revisions
from registry.manifests.steps import CREATE, UPDATE, Change, Step, find_changes
from registry.models import BaseModel, Environment, Tenant, TenantFlag, User
from registry.reads.documents import COVERS, NO_FLAG, tag_flag
from registry.reads.fleet import Standings, standings
from registry.reads.forms import describe_covered
from registry.services.base_model_moves import Move, move_environment
from registry.services.flags import Stated, set_flag
from registry.services.transition import lock_environments, rehearse, transition
from registry.snapshots import find_increase, preview_snapshot
from steernode.canonical import canonical_json, sha256_hex
from steernode.snapshot.records import Snapshot

# In the words of a spec, and of a change.
_SALTS = {"rolloutSalt": "rollout_salt", "armsSalt": "arms_salt"}


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """`raises` is the first thing that steers somebody more, or empty: then the change needs no confirmation."""

    what: str
    raises: str
    changes: tuple[Change, ...]
    risks: tuple[Risk, ...]
    newly_steered: tuple[str, ...]
    # Which nodes hear of it. Not of the digest, as what they cannot do is not: they come and go.
    nodes: int
    # The state that it is a change of.
    was: str

    @property
    def digest(self) -> str:
        """Of everything that somebody decides by: the state before, the change, and what it means."""
        covered = {name: value for name, value in asdict(self).items() if name != "nodes"}
        covered["changes"] = [change._asdict() for change in self.changes]
        covered["risks"] = [risk._asdict() for risk in self.risks if risk.code != NODE_INCAPABLE]
        return sha256_hex(canonical_json({"schema": "steerhub.change/1", **covered}))


def plan_flag(
    environment: Environment, tenant: Tenant, *, enabled: bool | None, actor: User, route: str = "", **stated: Unpack[Stated]
) -> ChangePlan:
    """What setting a flag would raise. Raises: what `services.flags.set_flag` raises."""
    with rehearse():
        plan, _ = _weigh_flag(environment, tenant, enabled=enabled, reason="", actor=actor, route=route, if_tag=None, stated=stated)
    return plan


@transition
def change_flag(
    environment: Environment,
    tenant: Tenant,
    *,
    enabled: bool | None,
    reason: str,
    actor: User,
    route: str = "",
    if_tag: str | None = None,
    confirmed: str | None = None,
    **stated: Unpack[Stated],
) -> TenantFlag:
    """`services.flags.set_flag`, for the doors: what raises is done only as the plan of the digest `confirmed` says.

    Raises: besides what that raises, ConfirmationNeeded CONFIRMATION_NEEDED; TransitionRefused PLAN_STALE.
    """
    if enabled is False:
        return set_flag(environment, tenant, enabled=False, reason=reason, actor=actor, route=route, if_tag=if_tag, **stated)
    plan, flag = _weigh_flag(environment, tenant, enabled=enabled, reason=reason, actor=actor, route=route, if_tag=if_tag, stated=stated)
    _need_confirmation(plan, confirmed)
    return flag


def plan_move(environment: Environment, *, base_model: BaseModel, actor: User) -> ChangePlan:
    """What moving an environment would take with it."""
    with rehearse():
        plan, _ = _weigh_move(environment, base_model, reason="", actor=actor)
    return plan


@transition
def change_served(environment: Environment, *, base_model: BaseModel, reason: str, actor: User, confirmed: str | None = None) -> Move:
    """`services.base_model_moves.move_environment`, for the doors: done only as the plan of the digest `confirmed` says.

    Raises: ConfirmationNeeded CONFIRMATION_NEEDED; TransitionRefused PLAN_STALE.
    """
    plan, move = _weigh_move(environment, base_model, reason=reason, actor=actor)
    _need_confirmation(plan, confirmed)
    return move


def _need_confirmation(plan: ChangePlan, confirmed: str | None) -> None:
    """Whatever was done before this is undone by what it raises."""
    if not plan.raises:
        return
    if confirmed is None:
        problem = f"{plan.raises}; look at the plan of this change, and hand back its digest to confirm it"
        raise ConfirmationNeeded("CONFIRMATION_NEEDED", problem, plan.what)
    if confirmed != plan.digest:
        raise TransitionRefused(
            "PLAN_STALE", f"this is not the change that was planned, or {plan.what} changed since; plan again", confirmed
        )


def _weigh_flag(
    environment: Environment,
    tenant: Tenant,
    *,
    enabled: bool | None,
    reason: str,
    actor: User,
    route: str,
    if_tag: str | None,
    stated: Stated,
) -> tuple[ChangePlan, TenantFlag]:
    """Set the flag, and say what that was."""
    (environment,) = lock_environments([environment])
    kind, name = Flags(), f"{environment}/{tenant}{f'/{route}' if route else ''}"
    recorded = kind.read({name}).get(name)
    was = tag_flag(recorded.row) if recorded else NO_FLAG
    steered, before = read_steered({(environment.name, tenant.name)}), preview_snapshot(environment, of=tenant)
    flag = set_flag(environment, tenant, enabled=enabled, reason=reason, actor=actor, route=route, if_tag=if_tag, **stated)
    # A salt that nobody states is drawn with the change itself, so what it comes to is none of the plan's.
    drawn = {name for name, column in _SALTS.items() if column not in stated}
    spec = {name: value for name, value in kind.render(flag).items() if name not in drawn}
    found = find_changes("spec", recorded.spec if recorded else None, spec)
    # A list that is empty and was not there says nothing; and a plan is the same for any reason.
    silent = {"spec.reason", *(f"spec.{name}" for name in drawn)}
    changes = [change for change in found if change.field not in silent and (change.before, change.after) != (None, [])]
    step = Step(kind.name, name, UPDATE if recorded else CREATE, changes=tuple(changes), spec=spec, recorded=recorded)
    named = {holder["profile"] for holder in (spec, *spec.get("arms", ())) if "profile" in holder}
    risks = FlagRisks([step], kind.read_parents([step]), read_revisions(named), steered=steered)
    plan = ChangePlan(
        what=name,
        raises=find_increase(before, preview_snapshot(environment, of=tenant)) or "",
        changes=step.changes,
        risks=tuple(risks.find_risks(step)),
        newly_steered=tuple(sorted(risks.reach([step])[environment.name])),
        nodes=_count_nodes(environment),
        was=was,
    )
    return plan, flag


def _weigh_move(environment: Environment, base_model: BaseModel, *, reason: str, actor: User) -> tuple[ChangePlan, Move]:
    """Move the environment, and say what that was. A move to what is served already is none."""
    lock_environments(Environment.objects.all())
    before = preview_snapshot(environment)
    move = move_environment(environment, base_model=base_model, reason=reason, actor=actor)
    moved = move.previous != base_model
    after = preview_snapshot(environment) if moved else before
    steered = {flag.tenant for flag in before.flags if flag.enabled}
    plan = ChangePlan(
        what=environment.name,
        raises=(find_increase(before, after) or f"{environment} would serve {base_model}") if moved else "",
        changes=(Change(f"serves.{base_model.name}", move.previous and move.previous.fingerprint, base_model.fingerprint),)
        if moved
        else (),
        risks=(*_describe_move(move), *_describe_covered(base_model, after)) if moved else (),
        newly_steered=tuple(sorted({flag.tenant for flag in after.flags if flag.enabled} - steered)),
        nodes=_count_nodes(environment),
        was=move.previous.fingerprint if move.previous else "",
    )
    return plan, move


def _describe_move(move: Move) -> Sequence[Risk]:
    """What goes with a move, in the words of a plan."""
    if move.previous is None:
        return [Risk("BASE_MODEL_SERVED", f"{move.environment} begins to serve {move.base_model}; it steers nobody until a flag says so")]
    off = sorted(str(flag) for flag in move.flags_off)
    gone = sorted(str(revision) for revision in move.invalidated)
    risks = [Risk("BASE_MODEL_CHANGE", line) for line in move.changes]
    risks += [Risk("FLAGS_OFF", f"turns off {_count(off, 'flag')}, and none comes back by itself{_list(off)}")]
    risks += [Risk("REVISIONS_INVALIDATED", f"invalidates {_count(gone, 'revision')} for good{_list(gone)}")] if gone else []
    proposed = sorted(str(proposal.vector) for proposal in move.proposals)
    risks += [Risk("EXTRACTIONS_PROPOSED", f"proposes to extract {_count(proposed, 'vector')} again{_list(proposed)}")] if proposed else []
    return risks


def _describe_covered(base_model: BaseModel, after: Snapshot) -> Iterator[Risk]:
    """What would steer these files though nothing was measured on them, each as its approvers saw it."""
    listed = [(profile.id, profile.revision) for profile in after.profiles if base_model.fingerprint in profile.covers]
    for name, number in listed:
        covers = COVERS.filter(revision__profile__name=name, revision__number=number, base_model__fingerprint=base_model.fingerprint)
        for covered in covers:
            yield Risk("FORM_UNMEASURED", f"{name} r{number} steers a form on which nothing was measured: {describe_covered(covered)}")


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _list(names: Sequence[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _count_nodes(environment: Environment) -> int:
    return len(standings([environment]).get(environment.name, Standings()).nodes)


def describe_plan(plan: ChangePlan) -> list[str]:
    """The plan as lines for people; the last says who is steered anew."""
    lines = [f"{change.field.removeprefix('spec.')}: {_show(change.before)} → {_show(change.after)}" for change in plan.changes]
    lines += [f"{'blocked: ' if risk.blocks else ''}{risk.message}" for risk in plan.risks]
    who = ", ".join(plan.newly_steered) or "nobody"
    return [*lines, f"newly steered: {who}; {_count_words(plan.nodes)} of it"]


def _count_words(nodes: int) -> str:
    return "1 node hears" if nodes == 1 else f"{nodes} nodes hear"


def _show(value: Any) -> str:
    return "nothing" if value is None else str(value)
