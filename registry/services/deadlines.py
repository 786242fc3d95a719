"""What ends by the clock: what changes what is served, and jobs nobody works on. Every web process does each of these every second, so none
waits for a worker.

Each begins with one query that finds nothing nearly always, and says whether it did anything. A new deadline is a line here.
"""

from collections.abc import Callable

from registry.services.approvals import expire_approvals
from registry.services.jobs import end_abandoned_jobs
from registry.services.reviews import end_overdue_reviews
from registry.services.stops import renew_stop, tend_stop

DEADLINES: tuple[Callable[[], object], ...] = (tend_stop, renew_stop, end_overdue_reviews, expire_approvals, end_abandoned_jobs)
