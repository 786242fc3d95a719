"""The sweeper: a message may be lost, a worker may die; the job row tells, and this task sends again.

It also forgets the answers to idempotency keys that have had their day, and ends approvals and reviews that are past theirs.
"""

from celery import shared_task
from django.db import close_old_connections

from registry.services.approvals import expire_approvals
from registry.services.idempotency import forget_old_answers
from registry.services.jobs import resend_lost_jobs
from registry.services.reviews import end_overdue_reviews


@shared_task(name="workers.sweeper.run", acks_late=False)
def run_sweeper() -> int:
    """How many jobs were sent again or given up."""
    close_old_connections()
    forget_old_answers()
    return resend_lost_jobs()


@shared_task(name="workers.sweeper.run_deadlines", acks_late=False)
def run_deadlines() -> tuple[int, int]:
    """How many revisions went back to their authors because an approval expired, and how many are overdue for review."""
    close_old_connections()
    return expire_approvals(), end_overdue_reviews()
