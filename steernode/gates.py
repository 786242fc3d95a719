"""Gates: thresholds declared as data, and when one gate is at least as strict as another.

Free of torch, so that the registry can hold an evaluation's gates against those that a risk policy demands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from steernode.canonical import canonical_json, format_decimal, format_measure, parse_alpha, parse_strict, sha256_hex
from steernode.errors import GateError

Gate = dict[str, str]
# Of a gate, and of evidence. What is undecidable blocks like what failed, by its name, and says what would decide it.
PASS, FAIL, UNDECIDABLE = VERDICTS = ("pass", "fail", "undecidable")
# What is said of one direction: of several together there is no slope over one α, and each vector's own evidence says it of its own.
OF_ONE_DIRECTION = (
    "slope", "slope_over_random", "slope_over_unrelated", "anti_steerable", "ood_ratio", "isotonic_r2", "spearman", "largest_adverse_step",
    "stability",
)  # fmt: skip
# What compares its replies with those under random directions of its norm; written only where a gate asks for it.
OF_RANDOM = ("facts_lost_over_random", "refusals_lost_over_random", "perplexity_over_random")
# What is lost under attack; written only where a gate asks for it.
OF_ATTACKS = ("attack_success_rise",)
# What becomes of it over the turns of a conversation; written only where a gate asks for it.
OF_TURNS = ("turns_behaviour", "turns_repetition")
# What compares one direction with what the contrast set's positive side is told, asked as a prompt.
OF_A_PROMPT = ("behaviour_share", "perplexity_over_prompt", "kl_over_prompt")
# What each vector's own evidence has to say, because that of several together does not.
OF_EACH_PART = OF_ONE_DIRECTION + OF_A_PROMPT + OF_RANDOM
# What says that a behaviour rose, which components that only remove are not there for.
OF_A_RISE = ("behaviour", "anti_steered")
# What is measured where components are judged as they act together, and nowhere else.
OF_A_COMPOSITION = ("refusal_margin_kept", "refusal_lost", "norm_share")
_JUDGED = ("metric", "kind", "threshold")
MOST_GATES = 50
_NO_RISE = {"metric": "behaviour", "kind": "max_difference", "threshold": "0"}
METRICS = (
    "behaviour", "facts", "refusals", "perplexity_ratio", "repetition", "reply_tokens", "layer_depth",
    "harmful_refused", "over_refusal", "anti_steered", "capability",
    "kl_p95", "kl_last_prompt_token",
    "facts_lost", "facts_net_lost", "capability_lost", "valid_json_lost", "harmful_compliance_gained", "over_refusal_gained",
    *OF_ONE_DIRECTION,
    *OF_A_COMPOSITION,
    *OF_A_PROMPT,
    *OF_RANDOM,
    *OF_ATTACKS,
    *OF_TURNS,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """How a gate reads a metric: which number of it (`side`), compared how, and whether it is the change from the baseline."""

    passes: str
    side: str = "value"
    is_difference: bool = False


# `min` and `max` let the threshold itself pass, `above` and `below` do not. Without a suffix the point estimate is judged, with
# `_low` or `_high` that end of its 95 % interval. `max_ratio` is `max` for a metric that already is a ratio to the baseline.
KINDS = {
    "min": Kind("min"),
    "max": Kind("max"),
    "above": Kind("above"),
    "below": Kind("below"),
    "max_ratio": Kind("max"),
    "min_low": Kind("min", "low"),
    "above_low": Kind("above", "low"),
    "max_high": Kind("max", "high"),
    "below_high": Kind("below", "high"),
    "min_difference": Kind("min", "value", True),
    "max_difference": Kind("max", "value", True),
    "min_difference_low": Kind("min", "low", True),
    "max_difference_high": Kind("max", "high", True),
}


@dataclass(frozen=True)
class GateSet:
    """Gates under a name. Other gates, or other reasons, are another version, which the digest tells apart."""

    name: str
    version: int
    digest: str
    about: str
    # Each with `why`.
    reasoned: tuple[Gate, ...]

    @property
    def gates(self) -> tuple[Gate, ...]:
        return tuple({key: gate[key] for key in _JUDGED} for gate in self.reasoned)

    @property
    def named(self) -> dict[str, Any]:
        """What a recipe and evidence say of the set beside its gates."""
        return {"name": self.name, "version": self.version, "digest": self.digest}


def declare_gates(name: str, version: int, about: str, gates: Sequence[Mapping[str, str]]) -> GateSet:
    """A set of these gates, each with metric, kind, threshold and why; thresholds in their one decimal form.

    Raises: GateError GATE_INVALID naming the gate; AlphaError ALPHA_FORMAT.
    """
    if not about.strip() or not 1 <= len(gates) <= MOST_GATES:
        raise GateError("GATE_INVALID", f"a gate set says what it is about, and has 1 to {MOST_GATES} gates", name)
    for gate in gates:
        if set(gate) != {*_JUDGED, "why"} or not all(isinstance(value, str) and value.strip() for value in gate.values()):
            raise GateError("GATE_INVALID", f"gate {dict(gate)} of {name} needs metric, kind, threshold and why", str(dict(gate)))
    judged = [{key: gate[key] for key in _JUDGED} for gate in gates]
    check_gates(judged)
    for gate in judged:
        gate["threshold"] = format_decimal(parse_alpha(gate["threshold"]))
    if twice := next((gate for number, gate in enumerate(judged) if gate in judged[:number]), None):
        raise GateError("GATE_INVALID", f"{name} has the gate {' '.join(twice.values())} twice", str(twice))
    reasoned = tuple({**gate, "why": said["why"]} for gate, said in zip(judged, gates, strict=True))
    content = {"schema": "steerhub.gate-set/1", "name": name, "about": about, "gates": list(reasoned)}
    return GateSet(name, version, sha256_hex(canonical_json(content)), about, reasoned)


@cache
def _read_sets() -> dict[str, GateSet]:
    document = parse_strict(files("steernode").joinpath("data/gates.json").read_bytes())
    return {
        name: declare_gates(name, declared.get("version", 1), declared["about"], declared["gates"])
        for name, declared in document["sets"].items()
    }


def gate_sets() -> tuple[str, ...]:
    """The names of the sets that ship with the kit, as declared in data/gates.json with the reason for every threshold."""
    return tuple(_read_sets())


def shipped_set(name: str) -> GateSet:
    """Raises: GateError GATE_SET_UNKNOWN."""
    if name not in _read_sets():
        raise GateError("GATE_SET_UNKNOWN", f"gate set {name!r} is not known; known are {', '.join(gate_sets())}", name)
    return _read_sets()[name]


def load_gates(gates: str | Sequence[Mapping[str, str]]) -> tuple[Gate, ...]:
    """The gates of a named set, or a list of gates checked.

    Raises: GateError GATE_SET_UNKNOWN, and the codes of `check_gates`.
    """
    if isinstance(gates, str):
        return shipped_set(gates).gates
    check_gates(gates)
    return tuple(dict(gate) for gate in gates)


def composition_gates(asked: Iterable[str | Sequence[Mapping[str, str]]], *, only_removes: bool = False) -> tuple[Gate, ...]:
    """The set `composition`, and of the sets and lists asked for whatever can be judged of components together; each gate once.

    Components that only remove (ablate, clamp) need not raise the behaviour, and must not.
    Raises: as `load_gates`.
    """
    left_out = OF_EACH_PART + (OF_A_RISE if only_removes else ())
    found = [gate for gates in ("composition", *asked) for gate in load_gates(gates) if gate["metric"] not in left_out]
    if only_removes:
        found.append(_NO_RISE)
    return tuple({(gate["metric"], gate["kind"], gate["threshold"]): gate for gate in found}.values())


def check_gates(gates: Sequence[Mapping[str, str]], metrics: Sequence[str] = METRICS, kinds: Sequence[str] = tuple(KINDS)) -> None:
    """Raises: GateError GATE_INVALID naming the gate; AlphaError if a threshold is no plain decimal."""
    for gate in gates:
        if set(gate) != set(_JUDGED):
            raise GateError("GATE_INVALID", f"gate {dict(gate)} needs metric, kind and threshold, and nothing else", str(dict(gate)))
        for noun, known in (("metric", metrics), ("kind", kinds)):
            if gate[noun] not in known:
                raise GateError("GATE_INVALID", f"no {noun} of a gate is {gate[noun]!r}; known are {', '.join(known)}", gate[noun])
        parse_alpha(gate["threshold"])


def passes(gate: Mapping[str, str], value: Decimal) -> bool:
    """The one comparison behind every verdict."""
    threshold = Decimal(gate["threshold"])
    verdicts = {"min": value >= threshold, "max": value <= threshold, "above": value > threshold, "below": value < threshold}
    return verdicts[KINDS[gate["kind"]].passes]


def candidate_layers(n_layers: int, gates: str | Sequence[Mapping[str, str]] = "default") -> list[int]:
    """The layers, ascending, that none of the gates refuses for its depth alone, so that searching the others would be in vain.

    Raises: as `load_gates`.
    """
    loaded = load_gates(gates)
    return [layer for layer in range(n_layers) if allows_depth(loaded, layer_depth(layer, n_layers))]


def allows_depth(gates: Sequence[Mapping[str, str]], depth: Decimal) -> bool:
    """Whether none of the gates refuses a layer for how deep it lies, which is known before anything is measured."""
    return all(passes(gate, depth) for gate in gates if gate["metric"] == "layer_depth")


def layer_depth(layer: int, n_layers: int) -> Decimal:
    """From 0 up to 1, rounded as documents write it, so that the search, the evidence and `candidate_layers` judge one number."""
    return Decimal(format_measure(layer / n_layers, significant_digits=6))


def find_weaker_gates(gates: Sequence[Mapping[str, str]], demanded: Iterable[Mapping[str, str]]) -> list[Gate]:
    """The demanded gates that none of `gates` is at least as strict as. Verdicts beside a gate are not looked at."""
    return [dict(gate) for gate in demanded if not any(_is_as_strict(mine, gate) for mine in gates)]


def _is_as_strict(gate: Mapping[str, str], demanded: Mapping[str, str]) -> bool:
    """Whether all that passes `gate` passes `demanded`. A bound lies on the unkind side of its point, so it may stand for the point."""
    mine, theirs = KINDS.get(gate.get("kind", "")), KINDS[demanded["kind"]]
    if mine is None or gate["metric"] != demanded["metric"] or mine.is_difference != theirs.is_difference:
        return False
    is_floor = theirs.passes in ("min", "above")
    if (mine.passes in ("min", "above")) != is_floor or theirs.side not in ("value", mine.side):
        return False
    threshold, wanted = Decimal(gate["threshold"]), Decimal(demanded["threshold"])
    if threshold == wanted:
        # `min` and `max` let the threshold itself pass, which `above` and `below` do not.
        return mine.passes in ("above", "below") or theirs.passes in ("min", "max")
    return threshold > wanted if is_floor else threshold < wanted
