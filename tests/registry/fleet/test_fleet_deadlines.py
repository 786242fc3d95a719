"""What ends by the clock ends without a worker: the web process looks by itself."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.fleet import chores
from registry.models import ProfileRevision, RevisionState
from registry.services.approvals import approve_revision
from registry.services.deadlines import DEADLINES
from registry.services.stops import tend_stop
from tests.support.hub import serve_hub
from tests.support.serving import wait_until


def test_an_overdue_review_steers_no_more_within_seconds_though_no_worker_runs(hub, submitted, grace, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda now=timezone.now: now() - timedelta(days=366))
        digests = {"revision_digest": submitted.digest, "evidence_digest": submitted.evaluation.digest}
        approve_revision(submitted.pk, reviewer=grace, comment="Read it.", **digests)
    wait_until(lambda: ProfileRevision.objects.get(pk=submitted.pk).state == RevisionState.INVALIDATED, seconds=5)


def test_no_deadline_asks_much_of_a_registry_in_which_nothing_is_due(flag_on, production, django_assert_max_num_queries):
    tend_stop()
    for end in DEADLINES:
        with django_assert_max_num_queries(3):
            assert not end()


@pytest.mark.django_db(transaction=True)
def test_a_deadline_that_fails_or_hangs_holds_up_no_other(monkeypatch, production):
    done = threading.Event()
    hang = threading.Event()

    def fail() -> None:
        raise RuntimeError("no signing key")

    monkeypatch.setattr(chores, "DEADLINES", (fail, hang.wait, done.set))
    with serve_hub():
        assert done.wait(5)
        hang.set()
