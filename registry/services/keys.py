"""Signing keys: a new one beside the old for a while, and the end of one that is no longer to be believed."""

from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.utils import timezone

from registry.audit import Action, Actor, record
from registry.errors import InvalidInput, NotFound, TransitionRefused
from registry.locks import Lock, hold
from registry.models import Environment, KeyPurpose, SigningKey
from registry.services.transition import lock_environments, transition
from registry.snapshots import issue_stop, publish_snapshot
from registry.snapshots.sign import key_rows, private_keys
from steernode.dsse import SNAPSHOT, STOP, key_id, write_public_key


@transition
def add_signing_key(
    public_key: Ed25519PublicKey, *, purpose: str, begins_at: datetime, life: timedelta, overlap: timedelta, actor: Actor
) -> SigningKey:
    """A new key that signs from `begins_at` on. Those of now sign beside it for the overlap, and then end.

    Nodes are told of it at once, so that they know it by the time it signs. Raises: InvalidInput KEY_DATES; TransitionRefused KEY_EXISTS.
    """
    if begins_at + overlap >= begins_at + life or overlap < timedelta(0):
        raise InvalidInput("KEY_DATES", "a key outlives the overlap with the one before it")
    keyid = key_id(public_key)
    if SigningKey.objects.filter(keyid=keyid).exists():
        raise TransitionRefused("KEY_EXISTS", f"the key {keyid} is on record already", keyid)
    if purpose == STOP:
        hold(Lock.STOP)
    # Before those of now are looked at: a key that this process holds already would be put on record by that.
    new = SigningKey.objects.create(
        keyid=keyid, public_key=write_public_key(public_key), purpose=purpose, not_before=begins_at, not_after=begins_at + life
    )
    for row in key_rows(purpose).values():
        if row.pk != new.pk and row.revoked_at is None and row.not_before < begins_at + overlap < row.not_after:
            row.not_after = begins_at + overlap
            row.save(update_fields=["not_after"])
    details = {"purpose": purpose, "from": begins_at.isoformat(), "until": new.not_after.isoformat()}
    stop = _sign_stop_anew(purpose)
    record(Action.KEY_ADDED, actor=actor, subject=new, details={**details, "overlap_days": overlap.days, **stop})
    return new


@transition
def revoke_signing_key(keyid: str, *, actor: Actor) -> SigningKey:
    """No node believes this key from the moment it hears of it. What is in force is signed anew by the other keys, at once.

    Raises: NotFound KEY_NOT_FOUND; TransitionRefused KEY_REVOKED, LAST_KEY where this process has no other key in force.
    """
    environments = lock_environments(Environment.objects.all())
    for purpose in KeyPurpose.values:
        key_rows(purpose)
    if SigningKey.objects.filter(keyid=keyid, purpose=STOP).exists():
        hold(Lock.STOP)
    row = SigningKey.objects.select_for_update().filter(keyid=keyid).first()
    if row is None:
        raise NotFound("KEY_NOT_FOUND", f"no signing key {keyid!r}; the trust document lists them", keyid)
    if row.revoked_at is not None:
        raise TransitionRefused("KEY_REVOKED", f"the key {keyid} is revoked already", keyid)
    now, held = timezone.now(), {key_id(key.public_key()) for key in private_keys(row.purpose)}
    others = SigningKey.objects.filter(
        purpose=row.purpose, keyid__in=held - {keyid}, revoked_at=None, not_before__lte=now, not_after__gt=now
    )
    if not others.exists():
        raise TransitionRefused("LAST_KEY", f"{keyid} is the only key that signs {row.purpose}s here; rotate first", keyid)
    row.revoked_at = now
    row.save(update_fields=["revoked_at"])
    record(Action.KEY_REVOKED, actor=actor, subject=row, details={"purpose": row.purpose, **_sign_stop_anew(row.purpose)})
    if row.purpose == SNAPSHOT:
        for environment in environments:
            publish_snapshot(environment, cause=Action.KEY_REVOKED, actor=actor, force=True, only_lowers=True)
    return row


def _sign_stop_anew(purpose: str) -> dict[str, Any]:
    """The next stop statement, where these are its keys, as the event of the change names it: nodes that come later believe no other."""
    if purpose != STOP:
        return {}
    stop = issue_stop()
    return {"stop_sequence": stop.sequence, "stop_digest": stop.digest}
