"""Evidence: what one run of the test split found of a vector, or of the components of a revision together.

An approval names the digest of the document, so that a record keeps it as it was written. `engine.judging.evidence` writes it,
against its schema. Documents of before intervals have a text where there is an estimate now, and are read as that value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steernode.gates import FAIL, PASS, UNDECIDABLE
from steernode.records.lenient import Document, read_list, read_mapping, read_mappings, read_number, read_words
from steernode.records.sweep import Cell, read_curve

JOINT = "joint"
# What the items of evidence are called, where it is not as the document calls them.
_ITEMS = {"behaviour": "tickets", "refusals": "requests that may be refused", "capability": "capability items"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value, with its 95 % interval and the number of items where the document has them."""

    value: Decimal
    low: Decimal | None = None
    high: Decimal | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """Without steering, with it, the paired change, and what the prompt alone does where that was asked."""

    baseline: Estimate | None
    steered: Estimate | None
    difference: Estimate | None
    prompt: Estimate | None = None


@dataclass(frozen=True, slots=True)
class JudgedGate:
    """`value` is the number that was compared. `note` says what a bound needs of the suite, where no loss was seen, or with `code`
    why nothing can be concluded."""

    metric: str
    kind: str
    threshold: str
    value: str
    verdict: str
    note: str
    code: str = ""

    def describe(self) -> str:
        """What it looked at, as it stands in a sentence about gates that were not met."""
        if self.verdict == UNDECIDABLE:
            return f"{self.metric} ({self.note or self.code or 'nothing says why'})"
        return f"{self.metric} ({self.value}, threshold {self.threshold}{f'; {self.note}' if self.note else ''})"


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    score: str


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One held-out conversation as (role, text), and the two replies to it."""

    asked: tuple[tuple[str, str], ...]
    baseline: Reply
    steered: Reply


@dataclass(frozen=True, slots=True)
class Part:
    """What one component does alone, or all do together. `effects` are the changes of each axis's margin, in nats."""

    name: str
    kept: Estimate | None
    lost: Estimate | None
    divergence: Estimate | None
    norm_share: Estimate | None
    effects: tuple[Estimate | None, ...]
    verdict: str

    @property
    def is_joint(self) -> bool:
        return self.name == JOINT


@dataclass(frozen=True, slots=True)
class Pair:
    """What two components do beyond the sum of what each does: on each axis, in refusing, and in divergence."""

    parts: tuple[str, ...]
    cosine: Estimate | None
    interactions: tuple[Estimate | None, ...]


@dataclass(frozen=True, slots=True)
class Composition:
    """Each component, and all together where there are several; and each two of them."""

    axes: tuple[str, ...]
    parts: tuple[Part, ...]
    pairs: tuple[Pair, ...]
    breaks_jointly: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """`curve` is what the search measured on the select split. `controls` are the mean slopes in nats per unit of α of the candidate
    and of what has its norm, and the shift in nats that a system message makes, as far as they were measured. `speed` is in
    milliseconds per token. `composition` is None of a vector."""

    document: Document
    verdict: str
    metrics: Mapping[str, Metric]
    gates: tuple[JudgedGate, ...]
    curve: tuple[Cell, ...]
    controls: Mapping[str, Estimate]
    replies: tuple[SideBySide, ...]
    speed: Metric
    composition: Composition | None
    # What the numbers come from: versions, dtype, device, kernels.
    engine: Mapping[str, str]

    @property
    def passed(self) -> bool:
        return self.verdict == PASS

    @property
    def measured_form(self) -> str:
        """Which form of the model was measured, in words; of evidence of before, as much as it says."""
        run = read_mapping(self.document, "run")
        form = read_mapping(run, "measured_form")
        stored = read_words(form, "dtype")
        said = (read_words(form, "name"), f"weights in {stored}" if stored else "", read_words(run, "form"))
        return ", ".join(filter(None, said))

    @property
    def decoding(self) -> str:
        """How its replies were chosen, in words; empty where the document does not say."""
        run = read_mapping(self.document, "run")
        drawn = read_mapping(run, "decoding")
        if not drawn:
            return read_words(run, "decoding")
        seeds = ", ".join(str(seed) for seed in read_list(drawn.get("seeds")))
        return f"drawn at temperature {read_words(drawn, 'temperature')}, top-p {read_words(drawn, 'top_p')}, seeds {seeds}"

    @property
    def system_message(self) -> str:
        """What the items were asked under that have none of their own; empty where there was nothing."""
        return read_words(read_mapping(self.document, "run"), "system_message")

    @property
    def acting(self) -> str:
        """On how many items of each kind the condition held, in words; empty where there was none."""
        counts = read_mapping(self.document, "acting")
        held = [(kind, read_mapping(counts, kind)) for kind in counts]
        return ", ".join(f"{count.get('acts_on')} of {count.get('items')} {_ITEMS.get(kind, kind)}" for kind, count in held)

    @property
    def refusal_judge(self) -> str:
        """How sure what judged refusals was, in words; empty for evidence of before, which did not say."""
        judge = read_mapping(self.document, "refusal_judge")
        unsure, held_out = read_mapping(judge, "unsure"), read_mapping(judge, "held_out")
        share = read_number(held_out.get("accuracy"))
        if not unsure or share is None:
            return ""
        return (
            f"unsure of {unsure.get('baseline')} replies without steering and {unsure.get('steered')} with it, which were read the "
            f"unkind way; of {held_out.get('replies')} held-out replies it decides {held_out.get('decided')}, {100 * share:.1f} % rightly"
        )


def read_evidence(document: Document) -> Evidence:
    return Evidence(
        document=document,
        verdict=read_words(document, "verdict"),
        metrics=read_metrics(document.get("metrics")),
        gates=read_gates(document.get("gates")),
        curve=read_curve(document.get("curve")),
        controls=_read_controls(read_mapping(document, "controls")),
        replies=read_replies(document.get("replies")),
        speed=_read_metric(read_mapping(document, "speed", "milliseconds_per_token")),
        composition=_read_composition(document["composition"]) if isinstance(document.get("composition"), dict) else None,
        engine={name: str(value) for name, value in read_mapping(document, "engine").items()},
    )


def read_estimate(value: Any) -> Estimate | None:
    """{"value", "low", "high", "n"}, or a bare number."""
    found = value if isinstance(value, dict) else {"value": value}
    number, n = read_number(found.get("value")), found.get("n")
    if number is None:
        return None
    return Estimate(number, read_number(found.get("low")), read_number(found.get("high")), n if isinstance(n, int) else None)


def read_metrics(value: Any) -> dict[str, Metric]:
    return {name: _read_metric(metric) for name, metric in read_mapping(value).items() if isinstance(metric, dict)}


def _read_metric(document: Document) -> Metric:
    return Metric(*(read_estimate(document.get(side)) for side in ("baseline", "steered", "difference", "prompt")))


def blocking_gates(gates: Iterable[JudgedGate]) -> list[JudgedGate]:
    """Those that failed; if none did, those that are undecidable. What has another word for a verdict has failed."""
    unmet = [gate for gate in gates if gate.verdict != PASS]
    return [gate for gate in unmet if gate.verdict != UNDECIDABLE] or unmet


def read_gates(value: Any) -> tuple[JudgedGate, ...]:
    names = ("metric", "kind", "threshold", "value", "verdict", "note", "code")
    return tuple(JudgedGate(*(read_words(gate, name) for name in names)) for gate in read_mappings(value))


def _read_controls(found: Document) -> dict[str, Estimate]:
    controls = {
        **{name: read_estimate(found.get(name)) for name in ("slope", "negated", "prompt_only_shift")},
        "random_percentile_95": read_estimate(read_mapping(found, "random").get("percentile_95")),
        "largest_shuffled": _read_largest(read_list(read_mapping(found, "shuffled_labels").get("slopes"))),
    }
    return {name: estimate for name, estimate in controls.items() if estimate is not None}


def _read_largest(values: Iterable[Any]) -> Estimate | None:
    return max((estimate for value in values if (estimate := read_estimate(value))), key=lambda estimate: estimate.value, default=None)


def read_replies(value: Any) -> tuple[SideBySide, ...]:
    """Of evidence, or of the sweep of a search: both have them in one form."""
    return tuple(_read_side_by_side(row) for row in read_mappings(value))


def _read_side_by_side(row: Document) -> SideBySide:
    asked = tuple((read_words(message, "role"), read_words(message, "content")) for message in read_mappings(row.get("messages")))
    baseline, steered = (read_mapping(row, side) for side in ("baseline", "steered"))
    return SideBySide(asked, *(Reply(read_words(reply, "text"), read_words(reply, "score")) for reply in (baseline, steered)))


def _read_composition(found: Document) -> Composition:
    axes = tuple(sorted(read_mapping(found, "axes")))
    names = [read_words(component, "name") for component in read_mappings(found.get("components"))]
    measures = (*(f"axis {axis}" for axis in axes), "refusals", "divergence")
    return Composition(
        axes=axes,
        parts=tuple(_read_part(found, name, axes) for name in ((*names, JOINT) if len(names) > 1 else names)),
        pairs=tuple(
            Pair(
                tuple(str(name) for name in read_list(pair.get("parts"))),
                read_estimate(pair.get("cosine")),
                tuple(read_estimate(read_mapping(pair, "interaction").get(measure)) for measure in measures),
            )
            for pair in read_mappings(found.get("pairs"))
        ),
        breaks_jointly=found.get("breaks_jointly") is True,
    )


def _read_part(found: Document, name: str, axes: tuple[str, ...]) -> Part:
    refusals = read_mapping(found, "refusals", name)
    gates = read_gates(read_mapping(found, "gates").get(name))
    return Part(
        name=name,
        kept=read_estimate(refusals.get("kept")),
        lost=read_estimate(refusals.get("lost")),
        divergence=read_estimate(read_mapping(found, "divergence", "effects", name).get("p95")),
        norm_share=_read_largest(read_mapping(found, "norm_shares", name).values()),
        effects=tuple(read_estimate(read_mapping(found, "axes", axis, "effects").get(name)) for axis in axes),
        verdict=_judge_part(gates) if gates else "unknown",
    )


def _judge_part(gates: Iterable[JudgedGate]) -> str:
    blocking = blocking_gates(gates)
    if not blocking:
        return PASS
    return UNDECIDABLE if blocking[0].verdict == UNDECIDABLE else FAIL
