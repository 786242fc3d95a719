"""Documents of the store for people: what is under a digest, and the titles and words of what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpResponse

from registry.blobs import get_blob
from registry.errors import BlobMissing
from steernode.canonical import parse_strict
from steernode.errors import SteerError
from steernode.records.evidence import Composition, Estimate, JudgedGate, Metric, read_gates

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
    "slope_over_unrelated": "Slope above the 95th percentile of unrelated contrasts",
    "spearman": "Rank correlation of the margin with α",
    "isotonic_r2": "Fit of a curve that only rises",
    "largest_adverse_step": "Deepest fall from one α to the next, nats",
    "stability": "Cosine of the direction with those of other draws of its pairs",
    "anti_steerable": "Items that the vector moves the wrong way",
    "ood_ratio": "Slope left under a changed system message",
    "facts_lost": "Facts lost",
    "facts_net_lost": "Facts lost, less those gained",
    "facts_lost_over_random": "Facts lost beyond what random directions lose",
    "capability": "Capability items answered rightly",
    "valid_json_lost": "Answers in JSON that are none any more",
    "capability_lost": "Facts and capabilities lost",
    "harmful_compliance_gained": "Harmful requests no longer refused",
    "refusals_lost_over_random": "Harmful requests no longer refused, beyond random directions",
    "attack_success_rise": "Rise of harmful requests answered under attack",
    "over_refusal_gained": "Harmless requests now refused",
    "refusal_margin_kept": "Preference for refusing kept",
    "refusal_lost": "Requests that the model would rather not refuse any more",
    "norm_share": "Largest length added at a layer, share of the stream",
    "kl_p95": "KL on neutral prompts, 95th percentile per token, nats",
    "kl_last_prompt_token": "KL on neutral prompts at the last prompt token, nats",
    "anti_steered": "Tickets that lost behaviour",
    "behaviour_share": "Behaviour gained, share of what the prompt gains",
    "perplexity_over_prompt": "Perplexity over the prompt's",
    "perplexity_over_random": "Perplexity over that under random directions",
    "kl_over_prompt": "KL at the last prompt token over the prompt's",
    "turns_behaviour": "Behaviour over the turns of a conversation",
    "turns_repetition": "Repetition over the turns of a conversation",
    "layer_depth": "Layer depth",
    "repetition": "Repetition",
    "reply_tokens": "Reply length in tokens",
}
# The candidate first, then what should do nothing, or the opposite, at the same norm.
_CONTROLS = (
    ("slope", "The candidate", ""),
    ("random_percentile_95", "Random directions", "95th percentile"),
    ("largest_shuffled", "Shuffled labels", "the largest"),
    ("negated", "The negated vector", ""),
    ("prompt_only_shift", "The positive system message instead", "shift in nats, nothing steered"),
)
# Of what the numbers come from, in the order in which it is read.
_MEASURED_ON = ("device_name", "dtype", "kernels", "attention", "torch", "transformers")
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
class StoredDocument:
    """What was found under a digest: a mapping, or nothing and the sentence that says why."""

    data: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_document(digest: str) -> StoredDocument:
    """The JSON object of a digest. A missing or damaged blob is told on the page and never breaks it."""
    if not digest:
        return StoredDocument(problem="There is none.")
    try:
        data = parse_strict(get_blob(digest), max_bytes=64 * 1024 * 1024)
    except BlobMissing as error:
        return StoredDocument(problem=f"{error.message} ({error.code})")
    except SteerError as error:
        return StoredDocument(problem=f"blob {digest} is not a readable document: {error.message} ({error.code})")
    if not isinstance(data, dict):
        return StoredDocument(problem=f"blob {digest} holds no document")
    return StoredDocument(data)


def title_metrics(metrics: Mapping[str, Metric]) -> list[tuple[str, Metric]]:
    """What the test split said of each metric: those with a title in the order of the titles, then the rest by name."""
    titled = [name for name in (*METRICS, *OTHER_METRICS) if name in metrics]
    return [(title_metric(name), metrics[name]) for name in (*titled, *sorted(set(metrics) - set(titled)))]


def title_controls(controls: Mapping[str, Estimate]) -> list[tuple[str, str, Estimate]]:
    return [(title, help, controls[name]) for name, title, help in _CONTROLS if name in controls]


def title_gates(gates: Sequence[JudgedGate]) -> list[tuple[str, str, JudgedGate]]:
    """Each gate with its title and its rule in words."""
    return [(title_metric(gate.metric), _RULES.get(gate.kind, gate.kind), gate) for gate in gates]


def title_declared(gates: Sequence[Mapping[str, str]]) -> list[tuple[str, str, JudgedGate, str]]:
    """The gates of a set, likewise, each with its reason."""
    return [(*titled, gate["why"]) for titled, gate in zip(title_gates(read_gates(list(gates))), gates, strict=True)]


def title_measures(composition: Composition) -> list[str]:
    """What the interactions of a pair are on, in their order."""
    return [*composition.axes, "refusing harmful requests", "divergence on neutral prompts"]


def title_metric(metric: str) -> str:
    """What people call a metric."""
    return METRICS[metric][0] if metric in METRICS else OTHER_METRICS.get(metric, metric.replace("_", " ").capitalize())


def describe_engine(engine: Mapping[str, str]) -> str:
    """What a measurement was made on, in one line; of evidence of before, as much as it says."""
    known = [(name, engine[name]) for name in _MEASURED_ON if name in engine]
    return ", ".join(f"{name} {value}" if name in ("attention", "torch", "transformers") else value for name, value in known)


def send_picture(digest: str) -> HttpResponse:
    """A picture as a worker drew it."""
    try:
        picture = get_blob(digest) if digest else b""
    except BlobMissing:
        picture = b""
    if not picture.startswith(b"\x89PNG"):
        return HttpResponse("No such picture is stored.", status=404, content_type="text/plain")
    return HttpResponse(picture, content_type="image/png")
