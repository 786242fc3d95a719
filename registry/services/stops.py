"""Stops that come from nodes: what they obey and the record lost, or was never told of, is taken on record; and what they still obey
though it was lifted is released again."""

from collections.abc import Callable
from datetime import timedelta

from django.db.models.expressions import RawSQL
from django.utils import timezone

from registry.audit import Action, make_entry, record, record_all
from registry.locks import Lock, hold, keep_names
from registry.models import Environment, Kill, KillKind, Profile, ServingNode, StopStatement, Tenant
from registry.reads.reported import highest_stop_reported, surplus_reported
from registry.services.transition import transition
from registry.snapshots import issue_stop, trust_document
from registry.snapshots.sign import needs_signing_anew
from steernode.dsse import STOP, TrustedKeys
from steernode.stop.document import HUB, StoppedKill
from steernode.stop.document import StopStatement as StopDocument
from steernode.stop.trust import believe_stop

# Whatever nodes say of what they still obey, another statement for it comes no sooner.
ISSUED_FOR_NODES_EVERY = timedelta(seconds=5)
# A statement has at most 65,535 parameters.
_ROWS_AT_ONCE = 1_000


@transition
def adopt_stop(envelope: bytes, *, node: ServingNode) -> StopStatement | None:
    """The next statement, if this one stops what is not on record: its kills come on record with the ids that nodes know them by.

    From then on two people lift them like any other. Doing it twice does nothing. Raises: StopRefused.
    """
    statement, digest, _ = believe_stop(envelope, keys=TrustedKeys.from_document(trust_document()), moments=[timezone.now()])
    hold(Lock.STOP)
    listed = RawSQL("SELECT unnest(%s::uuid[])", [[kill.id for kill in statement.kills]])
    known = {key.hex for key in Kill.objects.filter(pk__in=listed).values_list("pk", flat=True)}
    lost = [kill for kill in statement.kills if kill.id not in known]
    if not lost:
        return None
    kills = Kill.objects.bulk_create(_take_on_record(lost, statement, digest, node), batch_size=_ROWS_AT_ONCE)
    stop = issue_stop()
    details = {"issuer": statement.issuer, "statement_digest": digest, "stop_sequence": stop.sequence, "stop_digest": stop.digest}
    record_all(
        [
            make_entry(
                Action.KILL_ADOPTED,
                actor=node,
                subject=kill,
                tenant=kill.target if kill.kind == KillKind.TENANT else "",
                environment=kill.environment_name,
                details={"kind": kill.kind, "target": kill.target, **details},
            )
            for kill in kills
        ]
    )
    return stop


def _take_on_record(lost: list[StoppedKill], statement: StopDocument, digest: str, node: ServingNode) -> list[Kill]:
    """Rows for these kills, unsaved. A target that nobody has on record is kept by its name."""
    profiles = keep_names(Profile, [kill.target for kill in lost if kill.kind == KillKind.PROFILE])
    tenants = keep_names(Tenant, [kill.target for kill in lost if kill.kind == KillKind.TENANT])
    environments = keep_names(Environment, [name for kill in lost for name in (kill.environment, kill.target)])
    whose = "before it was restored" if statement.issuer == HUB else "offline"
    when = f"Stopped by {statement.issuer} {whose}, by {statement.issued_at:%Y-%m-%d %H:%M} UTC at the latest; {node.name} obeys it."
    reason = f"{statement.reason} ({when})" if statement.reason else when

    def row(kill: StoppedKill) -> Kill:
        narrowed_to = kill.target if kill.kind == KillKind.ENVIRONMENT else kill.environment
        return Kill(
            id=kill.id,
            kind=kill.kind,
            # Everything means everything, whatever whoever wrote it called it.
            target="*" if kill.kind == KillKind.EVERYTHING else kill.target,
            environment_name=narrowed_to,
            profile_id=profiles.get(kill.target) if kill.kind == KillKind.PROFILE else None,
            tenant_id=tenants.get(kill.target) if kill.kind == KillKind.TENANT else None,
            environment_id=environments.get(narrowed_to) if narrowed_to else None,
            reason=reason,
            issuer=statement.issuer,
            statement_digest=digest,
            reported_by=node,
        )

    return [row(kill) for kill in lost]


def tend_stop() -> StopStatement | None:
    """The next statement, where nodes need one that no kill and no lift brings: the first of all, one above what they heard of a
    registry that was restored since, or one that releases again what they still obey."""
    return _issue_for_nodes(_why_nodes_need_another) if _why_nodes_need_another() else None


def renew_stop() -> StopStatement | None:
    """The next statement, once every key that signed the newest has ended: nodes that are told which keys count would refuse that."""
    return _issue_for_nodes(_why_keys_need_another) if _why_keys_need_another() else None


@transition
def _issue_for_nodes(ask_why: Callable[[], str]) -> StopStatement | None:
    hold(Lock.STOP)
    why = ask_why()
    if not why:
        return None
    stop = issue_stop()
    record(Action.STOP_ISSUED, actor="scheduler", subject=stop, details={"reason": why, "sequence": stop.sequence, "digest": stop.digest})
    return stop


def _why_keys_need_another() -> str:
    newest = _newest()
    return "its keys have ended" if newest is not None and needs_signing_anew(STOP, newest.signatures) else ""


def _newest() -> StopStatement | None:
    return StopStatement.objects.defer("payload_zlib").order_by("-sequence").first()


def _why_nodes_need_another() -> str:
    newest = _newest()
    if newest is None:
        # Nobody asks before there is an environment.
        return "there was none" if Environment.objects.exists() else ""
    if highest_stop_reported() > newest.sequence:
        return "nodes have heard a later one"
    # Whoever holds an older one hears the newest first. A node that hears one of before the lift again needs another number.
    surplus = surplus_reported(holding=newest.digest)
    is_due = timezone.now() - newest.issued_at > ISSUED_FOR_NODES_EVERY
    if surplus and is_due and Kill.objects.filter(pk__in=surplus, lifted_at__isnull=False).exists():
        return "nodes obey what was lifted"
    return ""
