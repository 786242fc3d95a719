"""The audit log of a filled hub: one chain that goes on from the events that the services wrote, as they would have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from django.utils import timezone

from benchmarks.registry.copying import copy_records
from benchmarks.registry.world import World
from registry.audit import Action, link_events, make_entry
from registry.models import AuditEvent
from steernode.canonical import format_decimal
from steernode.proof.events import Entry


def write_history(world: World) -> int:
    """Every record was made once; all the rest of the log is flags being changed, each as often as any other."""
    last = AuditEvent.objects.order_by("-seq").values_list("seq", "digest").first()
    assert last is not None
    entries = islice(_tell_everything(world), world.scale.events - last[0])
    return copy_records(link_events(entries, after=last, at=timezone.now(), versions={}))


def _tell_everything(world: World) -> Iterator[Entry]:
    for vector in world.vectors:
        fingerprint = vector.base_model.fingerprint
        details = {"digest": vector.digest}
        yield make_entry(Action.VECTOR_IMPORTED, actor=world.ada, subject=vector, details=details, base_model_fingerprint=fingerprint)
    for profile in world.profiles:
        yield make_entry(Action.PROFILE_CREATED, actor=world.ada, subject=profile, details={"intent": profile.intent})
    for revision in world.revisions:
        yield make_entry(Action.REVISION_DRAFTED, actor=world.ada, subject=revision)
    for revision in world.approved:
        details = {"revision_digest": revision.digest}
        yield make_entry(Action.REVISION_SUBMITTED, actor=world.ada, subject=revision, details=details)
        yield make_entry(Action.REVISION_APPROVED, actor=world.reviewers[0], subject=revision, details=details)
    for tenant in world.tenants:
        yield make_entry(Action.TENANT_CREATED, actor=world.oscar, subject=tenant, tenant=tenant.name)
    for flag in cycle(world.flags):
        yield make_entry(
            Action.FLAG_CHANGED,
            actor=world.oscar,
            subject=flag,
            details={"route": flag.route, "enabled": flag.enabled, "alpha_scale": format_decimal(flag.alpha_scale), "reason": flag.reason},
            tenant=flag.tenant.name,
            environment=flag.environment.name,
            base_model_fingerprint=flag.revision.base_model.fingerprint,
        )
