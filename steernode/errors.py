"""Every error a user of steernode can meet. The code is stable and may be matched on; the message is for people."""

from __future__ import annotations

from typing import Any


class SteerError(Exception):
    """Something a user can act on: a stable code, a sentence naming the offending item, and that item alone."""

    # Each of several faults with its code, its message and the field it is of, where the refusal is of more than one thing.
    errors: list[dict[str, str]]

    def __init__(self, code: str, message: str, item: str | None = None) -> None:
        # All three go into args, so that the error survives pickling between worker processes.
        super().__init__(code, message, item)
        self.code = code
        self.message = message
        self.item = item

    def __str__(self) -> str:
        return self.message


class CanonicalError(SteerError):
    """A value has no canonical JSON form, or bytes are not the strict JSON we accept."""


class AlphaError(SteerError):
    """A coefficient is not a plain decimal number, or is outside the range anybody may ask for."""


class FieldError(SteerError):
    """A field of a document is not what it must be. Whoever reads the document says what that means there: `strict.refused_as`."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__("FIELD_INVALID", f"{path} {problem}", path)
        self.args = (path, problem)


class SpellingError(SteerError):
    """A text that names something is written as no name may be: see `steernode.spelling`."""


class LayerError(SteerError):
    """A layer is not the index of a decoder block of this model."""


class ModelError(SteerError):
    """A model folder is incomplete, unsafe to load, or of an architecture we do not know."""


class ContrastSetError(SteerError):
    """A contrast set cannot be used as written."""


class SuiteError(SteerError):
    """An eval suite or a rubric cannot be used as written."""


class PromptSetError(SteerError):
    """A set of labelled prompts cannot be used as written."""


class VectorFileError(SteerError):
    """Bytes are not a steering vector file we are willing to load."""


class SnapshotRefused(SteerError):
    """A snapshot must not be applied; the node keeps the one it has and reports the code. `revision` is None if it was not read.

    `word` is a `lowering.Word` if it is the hub's newest for this environment all the same, and what it lowers counts; None if not.
    """

    revision: int | None = None
    word: Any = None


class StopRefused(SteerError):
    """Bytes are not a stop statement that a node may believe."""


class ConditionError(SteerError):
    """A condition is of no known kind, or not what its kind must be."""


class GateError(SteerError):
    """A gate, or a set of gates, is not one that can be judged by."""


class EngineError(SteerError):
    """The engine could not do what was asked of it, or produced a value that is not finite."""


class HubError(SteerError):
    """The hub refused a request, answered nonsense, or could not be reached. `status` is None if it never answered."""

    status: int | None = None
    retry_after_seconds: float | None = None

    def __init__(self, code: str, message: str, item: str | None = None) -> None:
        super().__init__(code, message, item)
        # The whole problem document, for who knows what its further fields mean.
        self.problem: dict[str, Any] = {}

    @property
    def is_the_hubs_own(self) -> bool:
        """Whether the hub itself said so, and not something on the way to it, such as a proxy with a page of its own."""
        return str(self.problem.get("type", "")).startswith("urn:steerhub:error:")


class VerificationFailed(SteerError):
    """An audit export does not prove what it claims."""


class ManifestError(SteerError):
    """A manifest file cannot be read as the documents it should hold."""


class NodeError(SteerError):
    """A serving node was started or asked in a way it cannot honour."""
