"""Publish a snapshot in the transaction of the change that made it necessary. Services leave that to the end: `transition.publish_at_end`.

The environment's row lock decides the revision, so commit order is revision order. NOTIFY only shortens the wait of the
fleet application, which looks every second anyway.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Exists
from django.utils import timezone

from registry.audit import Action, Actor, record
from registry.errors import TransitionRefused
from registry.models import Environment, Snapshot
from registry.reads.steering import freeze_in_force, snapshots_of
from registry.snapshots.compile import compile_content
from registry.snapshots.freeze import find_increase
from registry.snapshots.read import read_snapshot
from registry.snapshots.sign import sign_snapshot
from steernode.canonical import canonical_json, sha256_hex
from steernode.snapshot.content import compile_payload
from steernode.snapshot.document import parse_document, parse_snapshot

CHANNEL = "steerhub_head"


def publish_snapshot(
    environment: Environment, *, cause: Action, actor: Actor, force: bool = False, only_lowers: bool = False
) -> Snapshot | None:
    """Compile, sign and store the next revision of a locked environment; None when nothing changed for its nodes.

    Rollback is a new, higher revision: one whose content equals an earlier one says which revision it undoes. In a freeze window
    nothing is published that raises steering; a change that by its nature `only_lowers` is not even asked.
    Raises: TransitionRefused FREEZE.
    """
    content = compile_content(environment)
    said_before = Exists(environment.snapshots.filter(content_digest=content.digest))
    head = snapshots_of(environment).annotate(said_before=said_before).first()
    if head is not None and head.content_digest == content.digest and not force:
        return None
    issued_at = timezone.now().astimezone(UTC).replace(microsecond=0)
    expires_at = issued_at + timedelta(seconds=settings.STEERHUB_SNAPSHOT_SECONDS)
    environment.head_revision += 1
    environment.save(update_fields=["head_revision"])
    rollback_of = head.revision if head is not None and head.said_before and head.content_digest != content.digest else None
    payload = compile_payload(
        content,
        environment=environment.name,
        revision=environment.head_revision,
        rollback_of=rollback_of,
        issued_at=issued_at,
        expires_at=expires_at,
    )
    # Of a megabyte these take as long as five queries, and leave the interpreter to others.
    with ThreadPoolExecutor(max_workers=1) as beside:
        deflated = beside.submit(zlib.compress, payload, level=1)
        if not only_lowers and head is not None:
            _refuse_raise_in_freeze(environment, head, payload)
        signatures = sign_snapshot(payload)
    snapshot = Snapshot.objects.create(
        environment=environment,
        revision=environment.head_revision,
        content_digest=content.digest,
        rollback_of=rollback_of,
        payload_zlib=deflated.result(),
        signatures=signatures,
        # A signature is of every byte that nodes are sent.
        etag=f'"r{environment.head_revision}-{sha256_hex(canonical_json(signatures))[:12]}"',
        cause=cause,
        issued_at=issued_at,
        expires_at=expires_at,
    )
    record(
        Action.SNAPSHOT_PUBLISHED,
        actor=actor,
        subject=environment,
        environment=environment.name,
        details={"revision": snapshot.revision, "content_digest": content.digest, "rollback_of": rollback_of, "cause": str(cause)},
        base_model_fingerprint=content.base_models[0].record.fingerprint if len(content.base_models) == 1 else "",
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, f"{environment.name}:{snapshot.revision}"])
    return snapshot


def _refuse_raise_in_freeze(environment: Environment, head: Snapshot, payload: bytes) -> None:
    freeze = freeze_in_force(environment, timezone.now())
    if freeze is None:
        return
    raised = find_increase(read_snapshot(head), parse_snapshot(parse_document(payload)))
    if raised:
        until = freeze.ends_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise TransitionRefused("FREEZE", f"{environment} is frozen until {until} ({freeze.reason}): {raised}", environment.name)
