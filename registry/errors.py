"""What the registry refuses, beyond what steernode refuses. One sentence each; the code says which."""

from steernode.errors import SteerError


class NotFound(SteerError):
    """No such record, or none that the caller may know of."""


class TransitionRefused(SteerError):
    """The record is not in a state from which this change may be made, or not by this person."""


class InvalidInput(SteerError):
    """What was sent cannot become a record."""


class RecordChanged(SteerError):
    """The record is not the one that was read: somebody changed it since."""


class ConfirmationNeeded(SteerError):
    """The change steers somebody more, and nobody has said yet that they know."""


class NotReady(SteerError):
    """The hub cannot do its work until something that it needs is there."""


class BlobMissing(SteerError):
    """The store has no blob of that digest, or its bytes are not what the digest says."""
