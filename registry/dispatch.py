"""The only file that names a worker task. Tasks are sent by name and on commit, so the web process never imports torch."""

import logging
import re

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

from registry.models import Job, JobKind
from steernode.placement import choose_queue, estimate_weights
from steernode.records.recipe import BEFORE_DTYPES

logger = logging.getLogger(__name__)

TASKS = {
    JobKind.EXTRACTION: "workers.extraction.run",
    JobKind.VALIDATION: "workers.validation.run",
    JobKind.COMPOSITION: "workers.composition.run",
    JobKind.PROBE: "workers.probing.run",
}

# Where everything waits that no queue by memory is for: jobs without such queues, and what the scheduler sends.
DEFAULT_QUEUE = "steerhub"
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


def read_queues() -> list[tuple[str, int]]:
    """STEERHUB_QUEUES as names and GiB. Raises: ValueError."""
    queues = []
    for pair in settings.STEERHUB_QUEUES:
        name, size = pair if len(pair) == 2 else (pair[0], "")
        if not _QUEUE.fullmatch(name) or not size.isascii() or not size.isdigit() or int(size) < 1:
            raise ValueError(f"must be pairs such as gpu24=24, a name and GiB; got {'='.join(pair)!r}")
        queues.append((name, int(size)))
    if len({name for name, _ in queues}) < len(queues):
        raise ValueError("names a queue twice")
    return queues


def find_queue(job: Job) -> str:
    """By what its model takes in the dtype of its recipe, as far as the record tells."""
    needed = estimate_weights(job.base_model.manifest).needed_in(job.recipe.get("model_dtype", BEFORE_DTYPES))
    return choose_queue(needed, read_queues(), DEFAULT_QUEUE)


def send_job(job: Job) -> None:
    """Tell the workers where to look once this transaction commits. A lost message is sent again by the sweeper."""
    task, job_id, queue = TASKS[JobKind(job.kind)], str(job.pk), find_queue(job)

    def send() -> None:
        try:
            current_app.send_task(task, args=[job_id], queue=queue)
        except OperationalError as error:
            # The job row is committed and the sweeper re-sends it; a broker that is down must not fail the request.
            logger.warning("job %s is queued but the broker did not take its message: %s", job_id, error)

    transaction.on_commit(send)
