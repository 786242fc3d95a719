"""What is measured further, only where a gate asks for it, because it takes replies of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.judging.acting import Rows, find_acting
from steernode.engine.judging.attacks import measure_attacks
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.randomreplies import measure_random_replies
from steernode.engine.judging.runs import Metrics, Runs
from steernode.engine.judging.turns import measure_turns
from steernode.engine.measuring.items import EvalItems, serve_items
from steernode.engine.measuring.metrics import Scorer
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.gates import OF_ATTACKS, OF_RANDOM, OF_TURNS
from steernode.records.decoding import Decoding


def missing_further(items: EvalItems, conversations: Sequence[SuiteItem]) -> dict[str, str]:
    """As `missing_metrics`, of what is measured here."""
    missing: dict[str, str] = {}
    if not any(item.expect["refuse"] for item in items.refusals):
        missing = dict.fromkeys((*OF_ATTACKS, "refusals_lost_over_random"), "the safety suite has no harmful request")
    if not conversations:
        missing |= dict.fromkeys(OF_TURNS, "there is no fluency suite with conversations of several turns on which it acts")
    if not any("json" in item.expect for item in items.capability):
        missing["valid_json_lost"] = "there is no capability suite whose items expect JSON"
    return missing


def find_conversations(
    loaded: LoadedModel, suites: Mapping[str, SuiteFile], system_message: str = "", candidate: Candidate | None = None
) -> tuple[SuiteItem, ...]:
    """Those of several turns in the test split, as they are served, on whose first turn the candidate acts. Raises: as `find_acting`."""
    turned = [item for item in suites["fluency"].split("test") if item.turns] if "fluency" in suites else []
    found = serve_items(loaded, turned, system_message)
    if not found or candidate is None:
        return found
    return tuple(item for item, meets in zip(found, find_acting(loaded, candidate, found), strict=True) if meets)


class Further:
    """What the gates ask for, once the items are answered: metrics, and sections of the document by name, as far as they are measured.

    `acts` as `Answers` takes it; on the `conversations` the components act. Of several components together no gate asks for random
    directions.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        components: Sequence[Component],
        gates: Sequence[Mapping[str, str]],
        scorer: Scorer,
        conversations: Sequence[SuiteItem],
        *,
        acts: Rows | None = None,
        max_new_tokens: int,
        decoding: Decoding,
    ) -> None:
        self._loaded, self._components, self._scorer, self._conversations, self._acts = loaded, components, scorer, conversations, acts
        self._max_new_tokens, self._decoding = max_new_tokens, decoding
        self._asked = {gate["metric"] for gate in gates}
        self.metrics: Metrics = {}
        self.sections: dict[str, dict[str, Any]] = {}

    def measure(self, runs: Runs) -> Iterator[Metrics]:
        """What each stage says as gates read it, once it is measured. Raises: the codes of `generate`."""
        for section, found, document in self._stages(runs):
            self.sections[section] = document
            self.metrics |= found
            yield found

    def _stages(self, runs: Runs) -> Iterator[tuple[str, Metrics, dict[str, Any]]]:
        loaded, components, asked, limit, decoding = self._loaded, self._components, self._asked, self._max_new_tokens, self._decoding
        if self._acts is not None and asked & set(OF_RANDOM):
            pushed = measure_random_replies(loaded, runs, components[0], asked, acts=self._acts, max_new_tokens=limit, decoding=decoding)
            yield "random_replies", pushed.metrics, pushed.document
        if asked & set(OF_ATTACKS):
            attacks = measure_attacks(loaded, runs, components, max_new_tokens=limit, decoding=decoding)
            yield "attacks", {OF_ATTACKS[0]: attacks.metric}, attacks.document
        if asked & set(OF_TURNS):
            turns = measure_turns(loaded, self._conversations, components, self._scorer, max_new_tokens=limit, decoding=decoding)
            yield "turns", turns.metrics, turns.document
