"""Publish a snapshot in the transaction of the change that made it necessary; for a batch of changes, once, at its end.

The environment's row lock decides the revision, so commit order is revision order. NOTIFY only shortens the wait of the
fleet application, which looks every second anyway.
"""

import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists
from django.utils import timezone

from registry.audit import Action, Actor, append_events, record
from registry.audit.transition import begin_batch, open_batch, transition
from registry.errors import TransitionRefused
from registry.models import Environment, Snapshot
from registry.reads.steering import freeze_in_force, head_snapshot, snapshots_of
from registry.snapshots.compile import compile_content
from registry.snapshots.freeze import find_increase
from registry.snapshots.read import read_snapshot
from registry.snapshots.sign import sign_snapshot
from steernode.canonical import canonical_json, sha256_hex
from steernode.snapshot.content import compile_payload
from steernode.snapshot.document import parse_document, parse_snapshot

CHANNEL = "steerhub_head"


def lock_environments(environments: Iterable[Environment]) -> list[Environment]:
    """Lock the rows in one order, before anything is recorded: two changes queue instead of deadlocking."""
    keys = [environment.pk for environment in environments]
    batch = open_batch()
    if batch is not None and batch.locked.keys() >= set(keys):
        return [batch.locked[key] for key in sorted(set(keys))]
    return list(Environment.objects.select_for_update().filter(pk__in=keys).order_by("pk"))


def publish_snapshot(
    environment: Environment, *, cause: Action, actor: Actor, force: bool = False, only_lowers: bool = False
) -> Snapshot | None:
    """Compile, sign and store the next revision of a locked environment; None when nothing changed for its nodes.

    Rollback is a new, higher revision: one whose content equals an earlier one says which revision it undoes. A step of a
    batch publishes nothing itself. In a freeze window nothing is published that raises steering; a change that by its nature
    `only_lowers` is not even asked. Raises: TransitionRefused FREEZE.
    """
    batch = open_batch()
    if batch is not None:
        batch.environments.add(environment.pk)
        return None
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


@contextmanager
def all_or_nothing(*, cause: Action, actor: Actor) -> Iterator[None]:
    """The transitions inside commit together or not at all, and each environment they touch gets one snapshot revision.

    Every environment is locked from the start, so that steps which lock one find it in the one order. A long batch calls
    `give_way_to_kills` between its steps.
    """
    with transaction.atomic(durable=True):
        environments = lock_environments(Environment.objects.all())
        with begin_batch(environments) as batch:
            yield
        append_events(batch.events)
        for environment in lock_environments(Environment.objects.filter(pk__in=batch.environments)):
            publish_snapshot(environment, cause=cause, actor=actor)


@transition
def reissue_before_expiry(environment_name: str) -> Snapshot | None:
    """Sign the same content anew once half of its life has passed, so that a quiet environment does not expire."""
    environment = Environment.objects.select_for_update().get(name=environment_name)
    head = head_snapshot(environment)
    if head is None or timezone.now() < head.issued_at + (head.expires_at - head.issued_at) / 2:
        return None
    return publish_snapshot(environment, cause=Action.SNAPSHOT_PUBLISHED, actor="scheduler", force=True, only_lowers=True)
