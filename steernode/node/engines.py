"""What a serving node asks of an engine. `steernode.integrations.transformers` is one; a node needs nothing else of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steernode.files.conversations import Message
from steernode.files.vectors import VectorFile
from steernode.snapshot.conditions import NO_FACTS, RequestFacts
from steernode.snapshot.records import Profile
from steernode.snapshot.resolve import Effective


@dataclass(frozen=True, slots=True)
class Generation:
    """One reply. `finish_reason` is 'stop' when the model ended it, 'length' when max_tokens did.

    `effective` is what steered it once its conditions were decided; None from an engine that has no conditions, and so applied
    what it was given.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    milliseconds_per_token: float
    finish_reason: str
    effective: Effective | None = None


class NodeEngine(Protocol):
    """A loaded model that can be steered. The node never calls `swap` while a `generate` is running."""

    @property
    def name(self) -> str:
        """Which engine this is, for reports: 'transformers'."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Of the files really loaded, as `basemodel.inspect_model` computes it."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """Such as operator:add, site:resid_post, scope:generated, schedule:constant, condition:intent, preserve_norm."""
        ...

    @property
    def d_model(self) -> int: ...

    def stage(self, profiles: Sequence[Profile], vectors: Mapping[str, VectorFile]) -> Any:
        """Prepares these profiles beside the ones in use, and returns a handle for `swap`.

        `vectors` is keyed by file digest and holds all that `conditions.profile_vectors` names.

        The profiles are those for this engine's own fingerprint. Raises: SteerError if one cannot be served; nothing in use changes.
        """
        ...

    def swap(self, staged: Any) -> None:
        """Replaces what is in use by what was staged. Cannot fail half-way."""
        ...

    def generate(self, messages: Sequence[Message], effective: Effective, *, max_tokens: int, facts: RequestFacts = NO_FACTS) -> Generation:
        """The most likely reply, steered by `effective.components`; their vectors are found by `component.vector.sha256`.

        `facts` are what conditions on intents and attributes look at.
        """
        ...
