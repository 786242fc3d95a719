"""The only file that names a worker task. Tasks are sent by name and on commit, so the web process never imports torch."""

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from registry.models import Job, JobKind

logger = logging.getLogger(__name__)

TASKS = {
    JobKind.EXTRACTION: "workers.extraction.run",
    JobKind.VALIDATION: "workers.validation.run",
    JobKind.COMPOSITION: "workers.composition.run",
}


def send_job(job: Job) -> None:
    """Tell the workers where to look once this transaction commits. A lost message is sent again by the sweeper."""
    task, job_id = TASKS[JobKind(job.kind)], str(job.pk)

    def send() -> None:
        try:
            current_app.send_task(task, args=[job_id])
        except OperationalError as error:
            # The job row is committed and the sweeper re-sends it; a broker that is down must not fail the request.
            logger.warning("job %s is queued but the broker did not take its message: %s", job_id, error)

    transaction.on_commit(send)
