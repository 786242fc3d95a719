"""Transitions: each is one durable transaction that locks, checks, writes and records. At its end it publishes the snapshots that it
changed, appends its events to the log, and commits.

A transition called inside another is a step of it, and a batch is a transaction of many steps. What a step records and publishes waits
for the one end, as it does in a change on its own; so a step means nothing else in a batch. All of the transaction commits, or nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

from registry.audit import Action, Actor, append_events
from registry.audit.pending import Pending, Publication, begin_pending, in_progress, is_in_progress
from registry.locks import Lock, hold
from registry.models import Environment
from registry.snapshots import publish_snapshot

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def transition(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A service that changes state. On its own it commits before it returns, and refuses a transaction around it."""

    @wraps(function)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if is_in_progress():
            # A step needs no savepoint: when it fails, all of the transaction does.
            with transaction.atomic(savepoint=False):
                return function(*args, **kwargs)
        with _begin():
            return function(*args, **kwargs)

    return run


@contextmanager
def all_or_nothing(*, cause: Action, actor: Actor) -> Iterator[None]:
    """A batch: the transitions inside commit together or not at all, and what they publish has this one cause.

    One batch at a time, with every environment locked from its start: so its steps find them locked in the one order of
    `registry.locks`. A kill waits for none of this, and what the batch publishes is under it all the same.
    """
    with _begin() as pending:
        hold(Lock.NAMES)
        lock_environments(Environment.objects.all())
        yield
        pending.publications.update({key: replace(each, cause=cause, actor=actor) for key, each in pending.publications.items()})


@contextmanager
def rehearse() -> Iterator[None]:
    """The transitions inside do what they do, and all of it is undone: nothing is recorded, published or told.

    A refusal is the one that the change itself would meet, but for what only the end of a transaction refuses.
    """
    with transaction.atomic(durable=True), begin_pending():
        yield
        transaction.set_rollback(True)


@contextmanager
def _begin() -> Iterator[Pending]:
    with transaction.atomic(durable=True), begin_pending() as pending:
        yield pending
        for each in pending.publications.values():
            publish_snapshot(each.environment, cause=each.cause, actor=each.actor, only_lowers=each.only_lowers)
        # Last: the log is one chain for everybody, so nobody holds it while there is work to do.
        append_events(pending.entries)


def lock_environments(environments: Iterable[Environment]) -> list[Environment]:
    """Their rows, locked, in the order of their keys. Those that the transaction has locked already are not asked for again."""
    keys, locked = {environment.pk for environment in environments}, in_progress().locked
    if not keys <= locked.keys():
        rows = Environment.objects.select_for_update(no_key=True).filter(pk__in=keys - locked.keys()).order_by("pk")
        locked.update({row.pk: row for row in rows})
    return [locked[key] for key in sorted(keys)]


def publish_at_end(environment: Environment, *, cause: Action, actor: Actor, only_lowers: bool = False) -> None:
    """Publish one snapshot of a locked environment at the end of the transaction, if anything changed for its nodes.

    Of several changes the last one is its cause. `only_lowers` says that a change by its nature never raises steering; where that is
    so of all of them no freeze is asked. The end of the transaction raises: TransitionRefused FREEZE.
    """
    publications = in_progress().publications
    before = publications.get(environment.pk)
    only_lowers = only_lowers and (before is None or before.only_lowers)
    publications[environment.pk] = Publication(environment, cause, actor, only_lowers)
