"""What following the hub needs of an engine, whoever answers its requests. See docs/operations.md for attaching one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from steernode.files.vectors import VectorFile
from steernode.snapshot.records import Profile


class Stages(Protocol):
    """A loaded model that can be given profiles and their vectors.

    `name` is for reports, such as 'transformers'. `fingerprint` is of the files really loaded, as `basemodels.inspect_model` computes
    it. An engine that goes by an architecture file says `architecture_digest` too, of `inspect_model`; then snapshots for another are
    refused. One that can read log-probabilities has `prove_behaviour`, of a `behaviour.Behaviour`, which says the outcome in words or
    raises ModelError MODEL_BEHAVES_OTHERWISE. `capabilities` are of what `records.required_capabilities` asks for, such as operator:add
    and site:resid_post.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def capabilities(self) -> frozenset[str]: ...
    @property
    def d_model(self) -> int: ...

    def stage(self, profiles: Sequence[Profile], vectors: Mapping[str, VectorFile]) -> Any:
        """Prepares these profiles beside the ones in use, and returns a handle for `swap`, which `InForce.staged` keeps too.

        `vectors` is keyed by file digest and holds all that `conditions.profile_vectors` names. The profiles are those that
        may steer this engine's own fingerprint (`Profile.is_for`); the vectors of one were made for `Profile.base_model`, which is another
        where the approval covers a form that nothing was measured on. Raises: SteerError if one cannot be served; nothing in use changes.
        Each is then tried alone, and what can be served together after that.
        """
        ...

    def swap(self, staged: Any) -> None:
        """Replaces what is in use by what was staged. Cannot fail half-way."""
        ...
