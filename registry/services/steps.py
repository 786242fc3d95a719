"""Steps: the finished pieces of an unfinished job, kept for its next attempt, and never trusted for more than they are."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Sum
from django.utils.crypto import constant_time_compare, salted_hmac

from registry.models import Job, JobStep
from registry.services.jobs import lock_attempt


@dataclass(frozen=True, slots=True)
class Taken:
    """What steps of one stage and name took together."""

    stage: str
    name: str
    count: int
    tokens: int
    seconds: float


def keep_steps(job: Job, steps: Iterable[JobStep]) -> bool:
    """Keep them, if this attempt is still ours: then the job has not ended either, and what is kept is removed when it does."""
    with transaction.atomic():
        if lock_attempt(job) is None:
            return False
        JobStep.objects.bulk_create(steps, ignore_conflicts=True)
    return True


def make_step(job: Job, *, conditions: str, call: str, batch: int, data: bytes, taken: Taken) -> JobStep:
    """A sealed step, not kept yet."""
    return JobStep(
        job=job,
        conditions=conditions,
        call=call,
        batch=batch,
        data=data,
        seal=_seal(job, conditions, call, batch, data),
        stage=taken.stage,
        name=taken.name,
        count=taken.count,
        tokens=taken.tokens,
        seconds=taken.seconds,
    )


def find_steps(job: Job, *, conditions: str, call: str) -> tuple[dict[int, bytes], list[JobStep]]:
    """What is kept of a call, by batch, and the steps whose bytes are not those that were kept: these are forgotten."""
    found, broken = {}, []
    for step in job.steps.filter(conditions=conditions, call=call):
        data = bytes(step.data)
        if constant_time_compare(step.seal, _seal(job, conditions, call, step.batch, data)):
            found[step.batch] = data
        else:
            broken.append(step)
    if broken:
        job.steps.filter(pk__in=[step.pk for step in broken]).delete()
    return found, broken


def sum_steps(job: Job, *, conditions: str) -> list[Taken]:
    """What is kept under these conditions took, by stage and name."""
    rows = job.steps.filter(conditions=conditions).values("stage", "name").annotate(Sum("count"), Sum("tokens"), Sum("seconds"))
    return [Taken(row["stage"], row["name"], row["count__sum"], row["tokens__sum"], row["seconds__sum"]) for row in rows]


def _seal(job: Job, conditions: str, call: str, batch: int, data: bytes) -> str:
    """Changes with the job, the place and any bit of the bytes, and cannot be made without the hub's secret."""
    place = f"{job.pk} {conditions} {call} {batch} ".encode()
    return salted_hmac("registry.services.steps", place + data, algorithm="sha256").hexdigest()
