"""A serving node's engine on top of transformers: one model, steered by hooks, one conversation at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from steerkit import __version__
from steerkit.conversation import Message
from steerkit.effective import Effective
from steerkit.engine.generate import generate
from steerkit.engine.models import load_model
from steerkit.engine.operators import OPERATORS
from steerkit.engine.positions import SCOPES
from steerkit.engine.sites import SITES
from steerkit.engine.steer import Component, check_component
from steerkit.errors import EngineError
from steerkit.nodeengine import Generation
from steerkit.snapshotrecords import Component as ProfileComponent
from steerkit.snapshotrecords import Profile
from steerkit.vectorfile import VectorFile


@dataclass(frozen=True, eq=False)
class StagedVectors:
    """Directions on the model's device, by the digest of their file."""

    directions: Mapping[str, torch.Tensor] = field(default_factory=dict)


class TransformersEngine:
    """Loads a model folder once and answers with it. Nothing is steered until vectors are staged and swapped in."""

    name = "transformers"

    def __init__(self, folder: str | Path, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu") -> None:
        self._loaded = load_model(folder, revision=revision, dtype=dtype, device=device)
        self._active = StagedVectors()
        # Hooks sit on the one model, so two generations at once would steer each other's batches.
        self._one_at_a_time = threading.Lock()

    @property
    def version(self) -> str:
        return f"{__version__} (transformers {version('transformers')}, torch {version('torch')})"

    @property
    def fingerprint(self) -> str:
        """Of the files this engine loaded its weights from."""
        return self._loaded.fingerprint

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(
            [
                *(f"operator:{operator}" for operator in OPERATORS),
                *(f"site:{site}" for site in SITES),
                *(f"scope:{scope}" for scope in SCOPES),
                "schedule:constant",
            ]
        )

    @property
    def d_model(self) -> int:
        return self._loaded.d_model

    def stage(self, profiles: Sequence[Profile], vectors: Mapping[str, VectorFile]) -> StagedVectors:
        """Raises: EngineError VECTOR_MISSING, BASE_MODEL_MISMATCH, SCHEDULE_UNKNOWN, CONDITION_UNKNOWN, and those of `check_component`."""
        directions: dict[str, torch.Tensor] = {}
        for profile in profiles:
            for component in profile.components:
                digest = component.vector.sha256
                if digest not in vectors:
                    raise EngineError("VECTOR_MISSING", f"profile {profile.id!r} needs vector {digest}, which was not given", digest)
                if digest not in directions:
                    directions[digest] = self._stage_vector(digest, vectors[digest])
                self._check_component(component, directions[digest])
        return StagedVectors(directions)

    def swap(self, staged: StagedVectors) -> None:
        """Waits for a running generation, so that no reply is steered by two snapshots."""
        with self._one_at_a_time:
            self._active = staged

    def generate(self, messages: Sequence[Message], effective: Effective, *, max_tokens: int) -> Generation:
        """Raises: EngineError VECTOR_MISSING if what is effective was never swapped in, and the codes of the engine's `generate`."""
        with self._one_at_a_time:
            components = []
            for scaled in effective.components:
                digest = scaled.component.vector.sha256
                if digest not in self._active.directions:
                    raise EngineError("VECTOR_MISSING", f"vector {digest} is not among those in use", digest)
                components.append(_engine_component(scaled.component, self._active.directions[digest], float(scaled.coefficient)))
            [reply] = generate(self._loaded, [messages], components=components, max_new_tokens=max_tokens)
        return Generation(
            text=reply.text,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=len(reply.scored_token_ids),
            milliseconds_per_token=reply.milliseconds_per_token,
            finish_reason="length" if reply.end_token_id is None else "stop",
        )

    def _stage_vector(self, digest: str, vector: VectorFile) -> torch.Tensor:
        made_for = vector.lineage["base_model_fingerprint"]
        if made_for != self.fingerprint:
            raise EngineError(
                "BASE_MODEL_MISMATCH", f"vector {digest} was made for base model {made_for}, this node runs {self.fingerprint}", digest
            )
        # The file's array is read-only, which torch tensors cannot be.
        return torch.from_numpy(vector.direction.copy()).to(self._loaded.device)

    def _check_component(self, component: ProfileComponent, direction: torch.Tensor) -> None:
        if component.schedule_kind != "constant":
            kind = component.schedule_kind
            raise EngineError("SCHEDULE_UNKNOWN", f"schedule {kind!r} is not in this release; it has constant", kind)
        if component.condition is not None:
            raise EngineError("CONDITION_UNKNOWN", "conditions are not in this release; remove the condition", component.condition_kind)
        check_component(self._loaded, _engine_component(component, direction, 0.0))


def _engine_component(component: ProfileComponent, direction: torch.Tensor, coefficient: float) -> Component:
    return Component(direction, component.layer, coefficient, component.site, component.operator, component.scope)
