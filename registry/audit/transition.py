"""A transition is one durable transaction; inside a batch it is one step of a transaction that commits whole or not at all.

What it records is appended to the log at its end. The log is one chain for everybody, so nobody holds it while there is work to do.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
_events: ContextVar[list[Any] | None] = ContextVar("events_of_the_transition", default=None)
_append: list[Callable[[Sequence[Any]], None]] = []


def appends_events(function: Callable[[Sequence[Any]], None]) -> Callable[[Sequence[Any]], None]:
    """Marks the one function that gives events their place in the log, which stands above this module."""
    _append[:] = [function]
    return function


def transition(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A service that changes state. It commits before it returns; a transaction around it is refused, unless that is a batch's."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if _open.get() is not None:
            # A step needs no savepoint: when it fails, all of the batch does.
            with transaction.atomic(savepoint=False):
                return function(*args, **kwargs)
        with transaction.atomic(durable=True):
            events: list[Any] = []
            token = _events.set(events)
            try:
                result = function(*args, **kwargs)
            finally:
                _events.reset(token)
            if events:
                _append[0](events)
            return result

    return run


def open_events() -> list[Any] | None:
    """The events that the running transition or batch will append at its end. None outside of both."""
    batch = _open.get()
    return _events.get() if batch is None else batch.events


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
