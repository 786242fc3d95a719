"""The lease: a thread that renews it while a job runs, and the check that tells the job it is no longer ours."""

import logging
import threading
from types import TracebackType

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from registry.models import Job
from registry.services.jobs import renew_lease

logger = logging.getLogger(__name__)


class LeaseEnded(Exception):
    """The job was cancelled, or another attempt owns it. Nothing that this attempt does counts any more."""


class Lease:
    """Held with `with`. Work calls `check` wherever it can stop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ended = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {job}", daemon=True)

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._released.set()
        self._thread.join()

    def check(self) -> None:
        """Raises: LeaseEnded."""
        if self._ended.is_set():
            raise LeaseEnded(f"{self._job} attempt {self._job.attempt} is not ours any more")

    def _renew(self) -> None:
        try:
            while not self._released.wait(min(settings.STEERHUB_LEASE_SECONDS / 4, 2.0)):
                try:
                    if not renew_lease(self._job):
                        self._ended.set()
                        return
                except DatabaseError as failure:
                    # The database may be back before the lease runs out; if not, the next attempt takes the job.
                    logger.warning("could not renew the lease of %s: %s", self._job, failure)
                    connection.close()
        finally:
            connection.close()
