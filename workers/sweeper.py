"""The sweeper: a message may be lost, a worker may die; the job row tells, and this task sends again."""

from celery import shared_task
from django.db import close_old_connections

from registry.services.jobs import resend_lost_jobs


@shared_task(name="workers.sweeper.run", acks_late=False)
def run_sweeper() -> int:
    """How many jobs were sent again or given up."""
    close_old_connections()
    return resend_lost_jobs()
