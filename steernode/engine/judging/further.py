"""What is measured further, only where a gate asks for it, because it takes replies of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.judging.acting import Rows, find_acting
from steernode.engine.judging.attacks import measure_attacks
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.randomreplies import measure_random_replies
from steernode.engine.judging.runs import Runs
from steernode.engine.judging.turns import measure_turns
from steernode.engine.measuring.metrics import EvalItems, Scorer
from steernode.files.suites import SuiteFile, SuiteItem
from steernode.gates import OF_ATTACKS, OF_RANDOM, OF_TURNS
from steernode.records.decoding import Decoding


@dataclass
class Further:
    """Metrics, and sections of the document by name."""

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)


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
    found = tuple(item for item in suites["fluency"].split("test") if item.turns) if "fluency" in suites else ()
    found = EvalItems(found, (), ()).under(loaded, system_message).behaviour
    if not found or candidate is None:
        return found
    return tuple(item for item, meets in zip(found, find_acting(loaded, candidate, found), strict=True) if meets)


def measure_further(
    loaded: LoadedModel,
    runs: Runs,
    components: Sequence[Component],
    gates: Sequence[Mapping[str, str]],
    scorer: Scorer,
    conversations: Sequence[SuiteItem],
    *,
    acts: Rows | None = None,
    max_new_tokens: int,
    decoding: Decoding,
) -> Further:
    """`acts` as `run_both` takes it; on the `conversations` the components act.

    Of several components together no gate asks for random directions.

    Raises: the codes of `generate`.
    """
    asked, found = {gate["metric"] for gate in gates}, Further()
    if acts is not None and asked & set(OF_RANDOM):
        pushed = measure_random_replies(loaded, runs, components[0], asked, acts=acts, max_new_tokens=max_new_tokens, decoding=decoding)
        found.metrics |= pushed.metrics
        found.sections["random_replies"] = pushed.document
    if asked & set(OF_ATTACKS):
        attacks = measure_attacks(loaded, runs, components, max_new_tokens=max_new_tokens, decoding=decoding)
        found.metrics[OF_ATTACKS[0]] = attacks.metric
        found.sections["attacks"] = attacks.document
    if asked & set(OF_TURNS):
        turns = measure_turns(loaded, conversations, components, scorer, max_new_tokens=max_new_tokens, decoding=decoding)
        found.metrics |= turns.metrics
        found.sections["turns"] = turns.document
    return found
