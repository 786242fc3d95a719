"""Whether the model that a node loaded behaves as it did when it was registered. Its engine is asked once for each word of the hub."""

from __future__ import annotations

import logging

from steernode.behaviour import Behaviour
from steernode.errors import ModelError, SnapshotRefused
from steernode.node.engines import Stages
from steernode.snapshot.records import Snapshot

log = logging.getLogger("steernode.node")


class ModelProof:
    """`said` is the outcome in words, for logs and status."""

    def __init__(self, engine: Stages) -> None:
        self._engine = engine
        self._asked: Behaviour | None = None
        self.said = "not proved: no snapshot has said yet how the model behaves"

    def check(self, snapshot: Snapshot) -> None:
        """Raises: SnapshotRefused MODEL_BEHAVES_OTHERWISE."""
        listed = [model.behaviour for model in snapshot.base_models if model.fingerprint == self._engine.fingerprint]
        # The same files may be registered under several names, and not under all of them with what they say.
        known = [behaviour for behaviour in listed if behaviour is not None]
        if not known:
            self._say("not proved: the base model was registered without what it says to the eight prompts")
            return
        for behaviour in known:
            if behaviour == self._asked:
                continue
            prove = getattr(self._engine, "prove_behaviour", None)
            if prove is None:
                self._say(f"not proved: {self._engine.name} has no way to read log-probabilities")
                return
            try:
                self._say(prove(behaviour))
            except ModelError as error:
                self._say(f"refuted: {error.message}")
                raise SnapshotRefused(error.code, error.message, error.item) from error
            self._asked = behaviour

    def _say(self, outcome: str) -> None:
        if outcome != self.said:
            log.info("how the model behaves is %s", outcome)
        self.said = outcome
