"""How a worker meets a message that it cannot read: it says so and goes on. The job row is the truth, so nothing is lost with it."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer

from steerhub.broker import UNREADABLE_ERRORS

logger = logging.getLogger(__name__)


class PatientConsumer(Consumer):
    """Celery's consumer, which outlives messages of every broker that are no messages, or no tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        loop: Callable[..., None] = self.loop  # type: ignore[has-type]  # Celery sets it without saying what it is
        self.loop = functools.partial(_go_on, loop)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        handle = super().create_task_handler(*args, **kwargs)

        def handle_or_discard(message: Any) -> Any:
            try:
                return handle(message)
            except UNREADABLE_ERRORS:
                logger.exception("discarded a message that is no task: %.500r", message.body)
                message.reject()

        return handle_or_discard


def _go_on(loop: Callable[..., None], *args: Any) -> None:
    """A broker that gave something unreadable is asked anew: what it gave is out of its queue, and nobody holds it."""
    try:
        loop(*args)
    except UNREADABLE_ERRORS as error:
        logger.exception("the broker gave a message that cannot be read")
        raise ConnectionResetError(f"an unreadable message: {error}") from error
