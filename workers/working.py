"""The work of one attempt: batches that an earlier attempt kept are given back, new ones are kept, and every one is told of."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import Error as DatabaseError
from django.db import connection
from django.utils import timezone

from registry.models import Job, JobStep
from registry.services.notices import notices_on_worker
from registry.services.steps import Taken, find_steps, keep_steps, make_step, sum_steps
from steernode.canonical import canonical_json
from steernode.engine.access.devices import describe_slowness
from steernode.engine.access.work import Call, Lanes, Planned, Work
from workers.conditions import digest_conditions
from workers.lease import LeaseEnded
from workers.progress import Progress
from workers.running import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

    from steernode.engine.access.models import LoadedModel

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")


class JobWork(Work):
    """Held by the model that an attempt works with; begins with what earlier attempts left."""

    def __init__(self, job: Job, loaded: LoadedModel, plan: Iterable[Planned], report: Report) -> None:
        self._job, self._report = job, report
        self._conditions = digest_conditions(job, loaded)
        before = sum_steps(job, conditions=self._conditions)
        self._progress = Progress(plan, before)
        # Where an earlier attempt left off; only what was skipped with a stage is not among its steps.
        self._least = min(job.progress_done, self._progress.total) if before else 0
        self._stage = ""
        # Of a batch that takes long, what is done so far.
        self._inside: Taken | None = None
        # Steps that the database could not be told of, because it was away.
        self._unkept: list[JobStep] = []

    def enter(self, stage: str) -> None:
        self._stage = stage
        self._progress.enter(stage)
        self._tell("")

    def run(self, call: Call[T, R], do: Callable[[T], R], lanes: Lanes[Any, Any] = map) -> Iterator[tuple[T, R]]:
        digest = call.digest()
        kept, broken = find_steps(self._job, conditions=self._conditions, call=digest)
        for step in broken:
            logger.warning("%s: %s was not what had been kept, and is measured again", self._job, step)
            self._progress.add(Taken(step.stage, step.name, -step.count, -step.tokens, -step.seconds))
        whole = sum(call.size(batch) for number, batch in enumerate(call.batches) if number not in kept)
        self._progress.expect(self._stage, call.name, self._progress.done_of(self._stage, call.name) + whole)
        self._tell(call.name)

        def take(number: int) -> tuple[int, R]:
            return number, call.unpack(kept[number]) if number in kept else do(call.batches[number])

        last = time.monotonic()
        for number, result in lanes(take, range(len(call.batches))):
            batch = call.batches[number]
            if number not in kept:
                now = time.monotonic()
                taken = Taken(self._stage, call.name, call.size(batch), call.tokens(batch, result), now - last)
                self._keep(
                    make_step(self._job, conditions=self._conditions, call=digest, batch=number, data=call.pack(result), taken=taken)
                )
                self._count_inside(None)
                self._progress.add(taken)
                self._tell(call.name)
            last = time.monotonic()
            yield batch, result

    def make(self, call: Call[None, R], do: Callable[[], R]) -> R:
        """What a call of one batch gives."""
        [(_, made)] = self.run(call, lambda _: do())
        return made

    def check(self) -> None:
        """Raises: LeaseEnded."""
        self._report.check()

    def passed(self, name: str, count: int, tokens: int, seconds: float) -> None:
        self._progress.add(Taken(self._stage, name, count, tokens, seconds))
        self._tell(name)

    def inside(self, name: str, each: int = 1) -> Callable[[int, int], None]:
        """For a batch that takes long: called with how much of it is done, each worth so many of what its call makes."""
        began = time.monotonic()

        def advance(done: int, _total: int) -> None:
            self._count_inside(Taken(self._stage, name, done * each, 0, time.monotonic() - began))
            self._tell(name)

        return advance

    def _count_inside(self, taken: Taken | None) -> None:
        if (before := self._inside) is not None:
            self._progress.add(Taken(before.stage, before.name, -before.count, -before.tokens, -before.seconds))
        if taken is not None:
            self._progress.add(taken)
        self._inside = taken

    def _keep(self, step: JobStep) -> None:
        """Raises: LeaseEnded when another attempt owns the job."""
        self._unkept.append(step)
        try:
            is_ours = keep_steps(self._job, self._unkept)
        except DatabaseError as failure:
            # It may be back before the lease runs out; what is measured meanwhile is kept then.
            logger.warning("could not keep %s: %s", step, failure)
            connection.close()
            return
        if not is_ours:
            raise LeaseEnded(f"{self._job} attempt {self._job.attempt} is not ours any more")
        self._unkept = []

    def _tell(self, name: str) -> None:
        progress, left = self._progress, self._progress.seconds_left()
        self._least = max(self._least, progress.done)
        note = progress.say(self._stage, name) if name else ""
        try:
            self._report(
                self._stage,
                note,
                progress_done=self._least,
                progress_total=progress.total,
                expected_at=None if left is None else timezone.now() + timedelta(seconds=left),
                tokens_per_second=progress.tokens_per_second(self._stage, name),
            )
        except DatabaseError as failure:
            logger.warning("could not tell how far %s is: %s", self._job, failure)
            connection.close()


def do_work(job: Job, loaded: LoadedModel, plan: Iterable[Planned], report: Report) -> tuple[LoadedModel, JobWork]:
    """The model with the work of an attempt, and the work."""
    work = JobWork(job, loaded, plan, report)
    report("loading", notices=notices_on_worker(job, describe_slowness(loaded.device, loaded.dtype_name)))
    return replace(loaded, work=work), work


def document_call(name: str, count: int, *inputs: Any) -> Call[None, dict[str, Any]]:
    """A call that makes a document."""
    return Call(name, inputs, [None], lambda _: count, lambda *_: 0, canonical_json, json.loads)


def files_call(name: str, count: int, *inputs: Any) -> Call[None, list[bytes]]:
    """A call that makes files."""
    return Call(
        name,
        inputs,
        [None],
        lambda _: count,
        lambda *_: 0,
        lambda files: json.dumps([b64encode(file).decode() for file in files]).encode(),
        lambda data: [b64decode(text) for text in json.loads(data)],
    )
