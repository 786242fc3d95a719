"""Waivers as two people give them, and what is submitted and approved on them."""

from datetime import timedelta

from django.db.models import F

from registry.models import Evaluation, ProfileRevision, User, Waiver
from registry.services.approvals import approve_revision
from registry.services.profiles import submit_revision
from registry.services.waivers import ask_waiver, confirm_waiver
from tests.support.world import unguarded

REASON = "The base model refuses nothing; we serve no open questions."


def waive(evaluation: Evaluation, metric: str, *, asked_by: User, confirmed_by: User, days: int = 30) -> Waiver:
    asked = ask_waiver(evaluation.pk, metric=metric, reason=REASON, days=days, actor=asked_by)
    return confirm_waiver(asked.pk, actor=confirmed_by)


def submit(draft: ProfileRevision, evaluation: Evaluation) -> ProfileRevision:
    return submit_revision(draft.pk, evaluation=evaluation, actor=draft.author)


def approve(revision: ProfileRevision, reviewer: User) -> ProfileRevision:
    digests = {"revision_digest": revision.digest, "evidence_digest": revision.evaluation.digest}
    return approve_revision(revision.pk, reviewer=reviewer, comment="Known.", **digests)


def age(waiver: Waiver, days: int) -> None:
    """As if it had been asked for so many days earlier."""
    with unguarded("registry_waiver"):
        earlier = timedelta(days=days)
        Waiver.objects.filter(pk=waiver.pk).update(asked_at=F("asked_at") - earlier, ends_at=F("ends_at") - earlier)
