"""A transition is one durable transaction; inside a batch it is one step of a transaction that commits whole or not at all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.db import transaction

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@dataclass
class Batch:
    """What the steps of a batch leave for its end: events to record in order, and environments whose nodes must hear of it."""

    events: list[Any] = field(default_factory=list)
    environments: set[Any] = field(default_factory=set)
    # Rows that the batch locked at its start, by key: a thousand steps need not lock them again.
    locked: dict[Any, Any] = field(default_factory=dict)
    # Revisions found fit to steer, by environment and revision: what a step found once need not be looked for again.
    checked: dict[Any, Any] = field(default_factory=dict)


_open: ContextVar[Batch | None] = ContextVar("open_batch", default=None)


def transition(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A service that changes state. It commits before it returns; a transaction around it is refused, unless that is a batch's."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        alone = _open.get() is None
        # A step needs no savepoint: when it fails, all of the batch does.
        with transaction.atomic(durable=alone, savepoint=alone):
            return function(*args, **kwargs)

    return run


def open_batch() -> Batch | None:
    """The batch that the running transition is a step of."""
    return _open.get()


@contextmanager
def begin_batch(locked: Iterable[Any] = ()) -> Iterator[Batch]:
    """Until it ends, transitions leave events and publishing to the batch. Only `snapshots.all_or_nothing` begins one."""
    batch = Batch(locked={row.pk: row for row in locked})
    token = _open.set(batch)
    try:
        yield batch
    finally:
        _open.reset(token)
