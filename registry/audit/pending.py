"""What the transaction in progress leaves for its end, and what it has locked and checked so far.

`services.transition` begins one and does at the end what is left. In between, whatever records an event, wants a snapshot published or
locks an environment asks this one object: in a single change, in a step of a batch, and in the batch itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from uuid import UUID

from registry.audit.actions import Action
from registry.models import Environment, ProfileRevision, ServingNode, User
from steernode.proof.events import Entry

# A person, a serving node, or the name of a part of the system (a worker, the scheduler).
Actor = User | ServingNode | str


@dataclass(frozen=True, slots=True)
class Publication:
    """A snapshot that an environment gets, and for which change."""

    environment: Environment
    cause: Action
    actor: Actor
    only_lowers: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """One transaction's. It ends with it."""

    # The events of the log, in their order.
    entries: list[Entry] = field(default_factory=list)
    # By environment: each gets one snapshot, however many changes want it.
    publications: dict[UUID, Publication] = field(default_factory=dict)
    # Environments that are locked, by key.
    locked: dict[UUID, Environment] = field(default_factory=dict)
    # Revisions that are locked and were found fit to steer, by environment and revision.
    checked: dict[tuple[UUID, str], ProfileRevision] = field(default_factory=dict)


_open: ContextVar[Pending | None] = ContextVar("pending", default=None)


def is_in_progress() -> bool:
    """Whether a transition or a batch is open."""
    return _open.get() is not None


def in_progress() -> Pending:
    """That of the open transition or batch. Raises: RuntimeError outside of both."""
    pending = _open.get()
    if pending is None:
        raise RuntimeError("events are recorded, environments locked and snapshots published in a transition")
    return pending


@contextmanager
def begin_pending() -> Iterator[Pending]:
    """A new one, in progress until the block ends."""
    pending = Pending()
    token = _open.set(pending)
    try:
        yield pending
    finally:
        _open.reset(token)
