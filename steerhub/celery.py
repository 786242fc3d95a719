"""The Celery application.

A worker is one process with one thread of work, so that it loads one model once. The job row is the truth and a message
only a hint (design: rule 4), hence late acknowledgement and a scheduler that re-sends what was lost.
"""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, worker_init
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "steerhub.settings")

# The folder of embedded mode, for those who send and those who consume.
TRANSPORT_ALIASES["filesystem"] = "steerhub.broker:Transport"
app = Celery("steerhub")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_pool="threads",
    worker_concurrency=1,
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
    worker_consumer="steerhub.consumer:PatientConsumer",
    broker_connection_retry_on_startup=True,
    task_default_queue="steerhub",
    imports=["workers.extraction", "workers.validation", "workers.composition", "workers.probing", "workers.sweeper"],
    beat_schedule={
        "re-send lost jobs": {"task": "workers.sweeper.run", "schedule": 5.0, "options": {"expires": 5.0}},
        # The second road: web processes look every second by themselves, and wait for no worker.
        "end what is overdue": {"task": "workers.sweeper.run_deadlines", "schedule": 60.0, "options": {"expires": 60.0}},
    },
)


@beat_init.connect
@worker_init.connect
def check_settings(**_: object) -> None:
    """A worker with wrong settings stops before it takes a job."""
    from registry.checks import EVERYWHERE
    from steerhub.startup import refuse_wrong_settings

    refuse_wrong_settings(tags=[EVERYWHERE])


@worker_init.connect
def hold_device(sender: Any, **_: object) -> None:
    """A worker has its device, and nobody else has it, before it takes a job."""
    from steernode.errors import ModelError
    from workers.devices import hold_device

    # The model that is loaded is one for the process, and hooks of two jobs at once would steer each other's rows.
    if sender.concurrency != 1:
        raise SystemExit("steerhub.E024: a worker runs one job at a time; start one for each GPU, with --concurrency 1.")
    try:
        hold_device()
    except ModelError as error:
        raise SystemExit(f"steerhub.E025: STEERHUB_WORKER_DEVICE: {error.message}.") from error
