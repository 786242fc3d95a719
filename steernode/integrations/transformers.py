"""A serving node's engine on top of transformers: one model, steered by hooks, one conversation at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from steernode import __version__
from steernode.behaviour import Behaviour
from steernode.canonical import canonical_json
from steernode.engine.access.behaving import prove_behaviour
from steernode.engine.access.devices import read_peak
from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.access.sites import check_layer_site
from steernode.engine.applying.components import CAPABILITIES, Component, check_component
from steernode.engine.applying.conditions import decide
from steernode.engine.applying.generate import generate
from steernode.engine.reading.probes import Probe
from steernode.errors import EngineError
from steernode.files.conversations import Message
from steernode.files.vectors import VectorFile
from steernode.node.responder import Generation
from steernode.node.watching import watch_request
from steernode.placement import AUTO, CPU
from steernode.records.decoding import GREEDY, Sampling
from steernode.snapshot.conditions import NO_FACTS, Condition, ProbeCondition, RequestFacts, parse_condition_bytes, profile_vectors
from steernode.snapshot.records import Profile
from steernode.snapshot.resolve import Effective, EffectiveComponent, apply_conditions
from steernode.strict import are_same_arguments


@dataclass(frozen=True, eq=False)
class StagedVectors:
    """Directions on the model's device by the digest of their file, conditions by their canonical bytes, and the model as each set of
    template arguments asks it, by their canonical bytes."""

    directions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    conditions: Mapping[bytes, Condition] = field(default_factory=dict)
    asked: Mapping[bytes, LoadedModel] = field(default_factory=dict)


class TransformersEngine:
    """Loads a model folder once and answers with it. Nothing is steered until vectors are staged and swapped in."""

    name = "transformers"

    def __init__(self, folder: str | Path, *, revision: str | None = None, dtype: str = AUTO, device: str = CPU) -> None:
        self._loaded = load_model(folder, revision=revision, dtype=dtype, device=device)
        self._active = StagedVectors()
        # Hooks sit on the one model, so two generations at once would steer each other's batches.
        self._one_at_a_time = threading.Lock()

    @property
    def version(self) -> str:
        return f"{__version__} (transformers {version('transformers')}, torch {version('torch')})"

    @property
    def placement(self) -> dict[str, Any]:
        """Where the model is, in which dtype, by which kernels, and the most bytes that were in use at a time since it was loaded."""
        return {
            "device": ", ".join(map(str, self._loaded.devices)),
            **self._loaded.ran_on,
            "peak_memory_bytes": read_peak(self._loaded.devices),
        }

    @property
    def fingerprint(self) -> str:
        """Of the files this engine loaded its weights from."""
        return self._loaded.fingerprint

    @property
    def architecture_digest(self) -> str:
        """Of what says where this engine reads and steers."""
        return self._loaded.architecture_digest

    @property
    def capabilities(self) -> frozenset[str]:
        return CAPABILITIES

    @property
    def d_model(self) -> int:
        return self._loaded.d_model

    def prove_behaviour(self, behaviour: Behaviour) -> str:
        """In words, that the model says what it said when it was registered. Raises: ModelError MODEL_BEHAVES_OTHERWISE."""
        with self._one_at_a_time:
            proof = prove_behaviour(self._loaded, behaviour)
        if proof is None:
            return f"not proved: nobody measured it in {str(self._loaded.dtype).removeprefix('torch.')}"
        return f"proved: {proof.off} nats off at most, {proof.tolerance} is rounding in {proof.dtype}"

    def stage(self, profiles: Sequence[Profile], vectors: Mapping[str, VectorFile]) -> StagedVectors:
        """Raises: EngineError VECTOR_MISSING, BASE_MODEL_MISMATCH, ARCHITECTURE_MISMATCH, TEMPLATE_MISMATCH, and the codes of `asked_with`,
        `parse_condition` and `check_component`."""
        directions: dict[str, torch.Tensor] = {}
        conditions: dict[bytes, Condition] = {}
        asked: dict[bytes, LoadedModel] = {}
        for profile in profiles:
            arguments = dict(profile.template_arguments)
            if canonical_json(arguments) not in asked:
                asked[canonical_json(arguments)] = self._loaded.asked_with(arguments)
            for entry in profile_vectors(profile):
                if entry.sha256 not in vectors:
                    raise EngineError(
                        "VECTOR_MISSING", f"profile {profile.id!r} needs vector {entry.sha256}, which was not given", entry.sha256
                    )
                if not are_same_arguments(vectors[entry.sha256].template_arguments, arguments):
                    raise EngineError(
                        "TEMPLATE_MISMATCH",
                        f"profile {profile.id!r} asks with other template arguments than vector {entry.sha256} was read with",
                        entry.sha256,
                    )
                self._refuse_other_model(profile, entry.sha256, vectors[entry.sha256])
                if entry.sha256 not in directions:
                    # The file's array is read-only, which torch tensors cannot be.
                    directions[entry.sha256] = torch.from_numpy(vectors[entry.sha256].direction.copy()).to(self._loaded.device)
            for component in profile.components:
                scaled = EffectiveComponent(component, Decimal(0), Decimal(0), component.bound)
                check_component(self._loaded, _engine_component(scaled, directions))
            for condition in profile.conditions:
                if condition.document not in conditions:
                    conditions[condition.document] = self._stage_condition(condition.document, vectors)
        return StagedVectors(directions, conditions, asked)

    def swap(self, staged: StagedVectors) -> None:
        """Waits for a running generation, so that no reply is steered by two snapshots."""
        with self._one_at_a_time:
            self._active = staged

    def generate(
        self,
        messages: Sequence[Message],
        effective: Effective,
        *,
        max_tokens: int,
        sampling: Sampling = GREEDY,
        facts: RequestFacts = NO_FACTS,
        stop_reason: Callable[[], str] | None = None,
    ) -> Generation:
        """Raises: EngineError VECTOR_MISSING if what is effective was never swapped in, and the codes of the engine's `generate`."""
        # Whoever asks without a `Responder` need not think of it.
        effective, facts = watch_request(effective, messages, facts)
        with self._one_at_a_time:
            loaded = self._asked_for(effective)
            settled = apply_conditions(effective, self._decide(loaded, effective, messages, facts))
            components = [_engine_component(scaled, self._active.directions) for scaled in settled.components]
            [reply] = generate(
                loaded, [messages], components=components, max_new_tokens=max_tokens, sampling=[sampling], stop_reason=stop_reason
            )
        return Generation(
            text=reply.text,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=len(reply.scored_token_ids),
            milliseconds_per_token=reply.milliseconds_per_token,
            finish_reason="length" if reply.end_token_id is None else "stop",
            effective=settled.until(reply.stopped),
        )

    def _asked_for(self, effective: Effective) -> LoadedModel:
        """Whom a profile is for is asked as it was approved, whatever of it applies; others as the template does by itself."""
        if effective.profile is None:
            return self._loaded.asked_today()
        arguments = dict(effective.profile.template_arguments)
        return self._active.asked.get(canonical_json(arguments)) or self._loaded.asked_with(arguments)

    def _decide(
        self, asking: LoadedModel, effective: Effective, messages: Sequence[Message], facts: RequestFacts
    ) -> Callable[[bytes], bool]:
        """What `apply_conditions` asks. All probes are read before anything is steered, in one pass per layer they read."""
        asked = [] if effective.profile is None else [entry.document for entry in effective.profile.conditions]
        for document in asked:
            if document not in self._active.conditions:
                raise EngineError("CONDITION_UNKNOWN", "a condition is not among those in use", document.decode()[:60])
        conditions = {document: self._active.conditions[document] for document in asked}
        probes = {document: condition for document, condition in conditions.items() if isinstance(condition, ProbeCondition)}
        fires: dict[bytes, bool] = {}
        if probes:
            prompt = encode_prompt(asking, messages)
            loaded = [Probe.from_condition(probe, self._active.directions[probe.vector.sha256]) for probe in probes.values()]
            fires = dict(zip(probes, decide(asking, loaded, [prompt])[0].tolist(), strict=True))

        def holds(document: bytes) -> bool:
            condition = conditions[document]
            return fires[document] if isinstance(condition, ProbeCondition) else condition.holds(facts)

        return holds

    def _refuse_other_model(self, profile: Profile, digest: str, vector: VectorFile) -> None:
        """A vector steers the files that it was read from, and the forms of them that the approval covers."""
        made_for = vector.lineage["base_model_fingerprint"]
        if made_for != profile.base_model or not profile.is_for(self.fingerprint):
            raise EngineError(
                "BASE_MODEL_MISMATCH", f"vector {digest} was made for base model {made_for}, this node runs {self.fingerprint}", digest
            )
        read_by = vector.lineage.get("architecture_digest", self.architecture_digest)
        if read_by != self.architecture_digest:
            raise EngineError(
                "ARCHITECTURE_MISMATCH",
                f"vector {digest} was read by an architecture with digest {read_by}, this node steers by {self.architecture_digest}",
                digest,
            )

    def _stage_condition(self, document: bytes, vectors: Mapping[str, VectorFile]) -> Condition:
        condition = parse_condition_bytes(document)
        if isinstance(condition, ProbeCondition):
            check_layer_site(self._loaded, condition.layer, condition.site)
            lineage = vectors[condition.vector.sha256].lineage
            for name in ("layer", "site", "read_position"):
                if lineage[name] != getattr(condition, name):
                    raise EngineError("CONDITION_INVALID", f"the probe's {name} is not what its vector file says, {lineage[name]!r}", name)
        return condition


def _engine_component(scaled: EffectiveComponent, directions: Mapping[str, torch.Tensor]) -> Component:
    digest = scaled.component.vector.sha256
    if digest not in directions:
        raise EngineError("VECTOR_MISSING", f"vector {digest} is not among those in use", digest)
    return Component.of(scaled, directions[digest])
