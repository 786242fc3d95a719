"""Reading the evidence and sweep documents for people. They come from the store, so nothing about them is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from registry.blobs import get_blob
from registry.errors import BlobMissing
from steernode.canonical import parse_strict
from steernode.errors import SteerError

# What is drawn over α, with how it is read: the name for people, and what its numbers mean.
METRICS = {
    "behaviour": ("Behaviour", "rubric score, 1 to 5"),
    "facts": ("Facts", "share of right answers"),
    "refusals": ("Refusals", "share of right refusals"),
    "perplexity_ratio": ("Perplexity ratio", "steered / unsteered"),
}
# What is only listed.
OTHER_METRICS = {
    "perplexity": "Perplexity",
    "harmful_refused": "Harmful requests refused",
    "over_refusal": "Harmless look-alikes refused",
    "slope": "Slope of the contrast margin, nats per unit of α",
    "slope_over_random": "Slope above the 95th percentile of random directions",
    "anti_steerable": "Items that the vector moves the wrong way",
    "ood_ratio": "Slope left under a changed system message",
    "facts_lost": "Facts lost",
    "capability_lost": "Facts and capabilities lost",
    "harmful_compliance_gained": "Harmful requests no longer refused",
    "over_refusal_gained": "Harmless requests now refused",
    "refusal_margin_kept": "Preference for refusing kept",
    "refusal_lost": "Requests that the model would rather not refuse any more",
    "norm_share": "Largest length added at a layer, share of the stream",
    "kl_p95": "KL on neutral prompts, 95th percentile per token, nats",
    "kl_last_prompt_token": "KL on neutral prompts at the last prompt token, nats",
    "anti_steered": "Tickets that lost behaviour",
    "repetition": "Repetition",
    "reply_tokens": "Reply length in tokens",
}
_RULES = {
    "min": "at least",
    "max": "at most",
    "above": "above",
    "below": "below",
    "max_ratio": "ratio of at most",
    "min_low": "lower bound of at least",
    "above_low": "lower bound above",
    "max_high": "upper bound of at most",
    "below_high": "upper bound below",
    "min_difference": "change of at least",
    "max_difference": "change of at most",
    "min_difference_low": "lower bound of the change at least",
    "max_difference_high": "upper bound of the change at most",
}


@dataclass(frozen=True)
class Document:
    """What was found under a digest: a mapping, or nothing and the sentence that says why."""

    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_document(digest: str) -> Document:
    """The JSON object of a digest. A missing or damaged blob is told on the page and never breaks it."""
    if not digest:
        return Document(problem="There is none.")
    try:
        data = parse_strict(get_blob(digest), max_bytes=64 * 1024 * 1024)
    except BlobMissing as error:
        return Document(problem=f"{error.message} ({error.code})")
    except SteerError as error:
        return Document(problem=f"blob {digest} is not a readable document: {error.message} ({error.code})")
    if not isinstance(data, dict):
        return Document(problem=f"blob {digest} holds no document")
    return Document(data)


def to_decimal(value: Any) -> Decimal | None:
    """A number of a document, or None for what is no finite number."""
    try:
        number = Decimal(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def list_of_mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Estimate:
    """A measured value, with its interval and the number of items where the document has them."""

    value: Decimal
    low: Decimal | None = None
    high: Decimal | None = None
    n: int | None = None


def read_estimate(value: Any) -> Estimate | None:
    """{"value", "low", "high", "n"}, or a bare number."""
    if not isinstance(value, dict):
        number = to_decimal(value)
        return Estimate(number) if number is not None else None
    number = to_decimal(value.get("value"))
    if number is None:
        return None
    n = value.get("n")
    return Estimate(number, to_decimal(value.get("low")), to_decimal(value.get("high")), n if isinstance(n, int) else None)


def read_curve(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The select split's dose-response at the chosen layer, as the sweep and the evidence both carry it, by rising α."""
    cells = [cell for cell in list_of_mappings(document.get("curve")) if to_decimal(cell.get("alpha")) is not None]
    return sorted(cells, key=lambda cell: to_decimal(cell["alpha"]) or Decimal(0))


@dataclass(frozen=True)
class MetricRow:
    """What the test split said of one metric: without steering, with it, and the paired change."""

    title: str
    baseline: Estimate | None
    steered: Estimate | None
    difference: Estimate | None


def read_metrics(evidence: Mapping[str, Any]) -> list[MetricRow]:
    found = evidence.get("metrics")
    titles = {**{metric: title for metric, (title, _) in METRICS.items()}, **OTHER_METRICS}
    entries = [(title, found.get(metric)) for metric, title in titles.items()] if isinstance(found, dict) else []
    return [
        MetricRow(title, *(read_estimate(entry.get(side)) for side in ("baseline", "steered", "difference")))
        for title, entry in entries
        if isinstance(entry, dict)
    ]


@dataclass(frozen=True)
class ControlRow:
    """What the candidate is compared with: a mean slope in nats per unit of α, or several of which the largest counts."""

    title: str
    slope: Estimate
    help: str = ""


def read_controls(evidence: Mapping[str, Any]) -> list[ControlRow]:
    """The candidate first, then what should do nothing, or the opposite, at the same norm; none where nothing was measured."""
    found = evidence.get("controls")
    if not isinstance(found, dict):
        return []
    random, shuffled = found.get("random"), found.get("shuffled_labels")
    rows = [
        ("The candidate", read_estimate(found.get("slope")), ""),
        ("Random directions", read_estimate(random.get("percentile_95")) if isinstance(random, dict) else None, "95th percentile"),
        ("Shuffled labels", _largest(shuffled.get("slopes")) if isinstance(shuffled, dict) else None, "the largest"),
        ("The negated vector", read_estimate(found.get("negated")), ""),
        ("The positive system message instead", read_estimate(found.get("prompt_only_shift")), "shift in nats, nothing steered"),
    ]
    return [ControlRow(title, estimate, help) for title, estimate, help in rows if estimate is not None]


def _largest(values: Any) -> Estimate | None:
    numbers = [number for number in map(to_decimal, values if isinstance(values, list) else []) if number is not None]
    return Estimate(max(numbers)) if numbers else None


@dataclass(frozen=True)
class Reply:
    text: str
    score: str


@dataclass(frozen=True)
class SideBySide:
    """One held-out conversation and the two replies to it."""

    asked: list[tuple[str, str]]
    baseline: Reply
    steered: Reply


def read_replies(evidence: Mapping[str, Any]) -> list[SideBySide]:
    return [
        SideBySide(
            asked=[(str(message.get("role", "")), str(message.get("content", ""))) for message in list_of_mappings(row.get("messages"))],
            baseline=_read_reply(row.get("baseline")),
            steered=_read_reply(row.get("steered")),
        )
        for row in list_of_mappings(evidence.get("replies"))
    ]


def _read_reply(value: Any) -> Reply:
    return Reply(str(value.get("text", "")), str(value.get("score", ""))) if isinstance(value, dict) else Reply("", "")


@dataclass(frozen=True)
class GateRow:
    """One gate as the approver reads it."""

    metric: str
    title: str
    rule: str
    threshold: str
    value: str
    verdict: str
    # What a bound needs of the suite, where no loss was seen: a failure for want of items is not harm.
    note: str = ""


def read_gates(gates: Any) -> list[GateRow]:
    rows = []
    for gate in list_of_mappings(gates):
        metric, kind = str(gate.get("metric", "")), str(gate.get("kind", ""))
        title = METRICS[metric][0] if metric in METRICS else OTHER_METRICS.get(metric, metric.replace("_", " ").capitalize())
        threshold, value = str(gate.get("threshold", "")), str(gate.get("value", ""))
        verdict, note = str(gate.get("verdict", "unknown")), str(gate.get("note", ""))
        rows.append(GateRow(metric, title, _RULES.get(kind, kind), threshold, value, verdict, note))
    return rows
