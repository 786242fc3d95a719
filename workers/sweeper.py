"""The sweeper: a message may be lost, a worker may die; the job row tells, and this task sends again.

It also forgets the answers to idempotency keys that have had their day, and ends approvals and reviews that are past theirs.
"""

from celery import shared_task
from django.db import close_old_connections

from registry.services.deadlines import DEADLINES
from registry.services.idempotency import forget_old_answers
from registry.services.jobs import resend_lost_jobs


@shared_task(name="workers.sweeper.run", acks_late=False)
def run_sweeper() -> int:
    """How many jobs were sent again or given up."""
    close_old_connections()
    forget_old_answers()
    return resend_lost_jobs()


@shared_task(name="workers.sweeper.run_deadlines", acks_late=False)
def run_deadlines() -> int:
    """How many of the deadlines had something to end. The web processes see to them every second; this is for when none runs."""
    close_old_connections()
    return sum(bool(end()) for end in DEADLINES)
