"""Running a job: claim it, hold its lease, do the work, and say how it ended."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from django.db import Error as DatabaseError
from django.db import close_old_connections, connection

from registry.models import Job
from registry.services.jobs import claim_job, confirm_cancel, fail_job, release_job, report_progress
from registry.services.results import FailedSearch, fail_search
from steernode.errors import SteerError
from workers.lease import Lease, LeaseEnded
from workers.target import describe_use, leave_target

logger = logging.getLogger(__name__)


class Report:
    """Called with (stage, note=..., and the other fields of progress): what a person watching the job sees."""

    def __init__(self, job: Job, lease: Lease) -> None:
        self._job, self._lease = job, lease

    def __call__(self, stage: str, note: str = "", **measured: Any) -> None:
        self.check()
        report_progress(self._job, stage=stage, note=note, **describe_use(), **measured)

    def check(self) -> None:
        """Costs nothing. Raises: LeaseEnded."""
        self._lease.check()


def run_job(job_id: str, work: Callable[[Job, Report], Any]) -> str:
    """Run one attempt of a job, if it is ours to run. Safe to deliver twice: claiming is a compare-and-set.

    A SteerError is the job's own fault and fails it at once. Anything else may be this machine's fault, so the job goes back
    for another attempt, three in all. Where the GPU was lost the worker ends: none of its work could use one again.
    """
    close_old_connections()
    job = claim_job(job_id, worker=f"{socket.gethostname()}:{os.getpid()}")
    if job is None:
        return "not ours to run"
    logger.info("%s: attempt %s begins", job, job.attempt)
    with Lease(job) as lease:
        try:
            finished = work(job, Report(job, lease))
        except LeaseEnded:
            return "cancelled" if confirm_cancel(job) else "lease lost; another attempt owns it"
        except FailedSearch as failure:
            logger.warning("%s failed: %s %s", job, failure.code, failure)
            return "failed" if fail_search(job, failure) else "lease lost; another attempt owns it"
        except SteerError as error:
            if _is_device_lost(error):
                return _end_worker(job, error)
            logger.warning("%s failed: %s %s", job, error.code, error)
            return "failed" if fail_job(job, code=error.code, message=str(error)) else "lease lost; another attempt owns it"
        except Exception as error:
            if _is_device_lost(error):
                return _end_worker(job, error)
            logger.exception("%s: attempt %s was lost", job, job.attempt)
            _release(job, f"attempt {job.attempt} was lost: {type(error).__name__}: {error}")
            return "lost; another attempt will be made"
        finally:
            leave_target()
    return "succeeded" if finished else "lease lost; another attempt owns it"


def _is_device_lost(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False
    from steernode.engine.access.devices import is_device_lost

    return is_device_lost(error)


def _end_worker(job: Job, error: Exception) -> str:
    """The job goes back, and this process ends in order once this task has: whoever keeps it running starts another."""
    logger.exception("%s: attempt %s lost its GPU; this worker ends", job, job.attempt)
    _release(job, f"attempt {job.attempt} lost its GPU: {error}")
    os.kill(os.getpid(), signal.SIGTERM)
    return "lost with its GPU; another worker will make another attempt"


def _release(job: Job, note: str) -> None:
    """At once; where the database is away, when the lease runs out."""
    try:
        release_job(job, note=note)
    except DatabaseError as failure:
        logger.warning("could not give %s back: %s", job, failure)
        connection.close()
