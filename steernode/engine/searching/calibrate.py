"""Calibration: the α at which a steering moves the next-token distribution by a given amount, found in a handful of evaluations."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import exp, log
from typing import Any

from steernode.canonical import format_decimal, format_measure, parse_alpha
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import coefficient_of, component_of
from steernode.engine.applying.generate import generate
from steernode.engine.measuring.forced import ForcedText, percentile_kl, score_forced
from steernode.engine.measuring.metrics import force_replies
from steernode.engine.measuring.stats import measure
from steernode.engine.reading.directions import LayerDirection
from steernode.errors import EngineError
from steernode.files.conversations import Message

MAX_EVALUATIONS = 6
# The target is met when KL is within 5 % of it; a gate resolves no more.
TOLERANCE = 0.05
# The first dose that is tried, as a share of the mean residual norm: enough to measure, too little to break a reply.
FIRST_RESIDUAL_FRACTION = 0.1
# For small α the divergence grows with α², since it is 0 and least at 0.
_SMALL_DOSE_SLOPE = 2.0
# Below this many nats the divergence is rounding.
_KL_FLOOR = 1e-6
_MAX_STEP = 8.0


@dataclass(frozen=True)
class Calibration:
    """Where the search ended. `reached` is false if the cap, or the number of evaluations, ended it before the target.

    `alpha` is in `unit`; `residual_fraction` is the same dose as a share of the mean residual norm. `path` holds what was
    evaluated, in order: α and the 95th percentile over tokens of KL(unsteered ‖ steered), in nats.
    """

    alpha: str
    unit: str
    residual_fraction: str
    kl_p95: str
    target: str
    reached: bool
    path: tuple[tuple[str, str], ...]

    def to_document(self) -> dict[str, Any]:
        return {
            "schema": "steerhub.calibration/1",
            "alpha": self.alpha,
            "unit": self.unit,
            "residual_fraction": self.residual_fraction,
            "kl_p95": self.kl_p95,
            "target": self.target,
            "reached": self.reached,
            "path": [{"alpha": alpha, "kl_p95": kl} for alpha, kl in self.path],
        }


def neutral_texts(loaded: LoadedModel, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int = 32) -> list[ForcedText]:
    """The conversations with the model's own greedy replies: text on which it is at home, and any divergence is collateral."""
    return force_replies(loaded, conversations, generate(loaded, conversations, max_new_tokens=max_new_tokens))


def calibrate_alpha(
    loaded: LoadedModel,
    direction: LayerDirection,
    texts: Sequence[ForcedText],
    *,
    cap: str,
    target: str = "1",
    unit: str = "mean_difference",
    operator: str = "add",
    scope: str = "generated",
) -> Calibration:
    """The α of the sign of `cap`, and never beyond it, at which the 95th percentile of KL per token on neutral texts is `target`.

    A secant search in log α and log KL that starts from slope 2 and keeps to the bracket it has found.

    Raises: EngineError CALIBRATION_TARGET if target or cap is not usable, KL_UNRESPONSIVE if even the cap moves nothing, and the
    codes of `score_forced` and `parse_alpha`.
    """
    found = calibrate_layers(loaded, [direction], texts, cap=cap, target=target, unit=unit, operator=operator, scope=scope)
    return found[direction.layer]


def calibrate_layers(
    loaded: LoadedModel,
    directions: Sequence[LayerDirection],
    texts: Sequence[ForcedText],
    *,
    cap: str,
    target: str = "1",
    unit: str = "mean_difference",
    operator: str = "add",
    scope: str = "generated",
) -> dict[int, Calibration]:
    """`calibrate_alpha` of several layers at once, which share the work on the texts; without those that even the cap does not move.

    Raises: as `calibrate_alpha`; KL_UNRESPONSIVE if no layer is moved.
    """
    limit, wanted = parse_alpha(cap), parse_alpha(target)
    if limit == 0 or wanted <= Decimal(str(_KL_FLOOR)):
        raise EngineError("CALIBRATION_TARGET", f"want a target above {_KL_FLOOR} nats and a cap other than 0, got {target} and {cap}", cap)
    searches = {
        direction.layer: _steps(float(wanted), FIRST_RESIDUAL_FRACTION / float(abs(_residual_fraction(direction, "1", unit))), limit)
        for direction in directions
    }
    of_layer = {direction.layer: direction for direction in directions}
    asked = {layer: next(search) for layer, search in searches.items()}
    paths: dict[int, list[tuple[str, float]]] = {}
    unmoved: list[EngineError] = []
    while asked:
        variants = [[component_of(of_layer[layer], alpha, unit, operator, scope)] for layer, alpha in asked.items()]
        scores = score_forced(loaded, texts, variants)
        now, asked = list(asked), {}
        for variant, layer in enumerate(now):
            try:
                asked[layer] = searches[layer].send(percentile_kl(scores.kl, variant))
            except StopIteration as end:
                paths[layer] = end.value
            except EngineError as error:
                unmoved.append(error)
    if not paths:
        raise unmoved[0]
    return {layer: _conclude(of_layer[layer], paths[layer], target, unit) for layer in sorted(paths)}


def _conclude(direction: LayerDirection, path: Sequence[tuple[str, float]], target: str, unit: str) -> Calibration:
    wanted = float(target)
    alpha, kl = min(path, key=lambda point: abs(_log_kl(point[1]) - log(wanted)))
    return Calibration(
        alpha,
        unit,
        measure(float(_residual_fraction(direction, alpha, unit))),
        measure(kl),
        target,
        _is_met(kl, wanted),
        tuple((alpha, measure(kl)) for alpha, kl in path),
    )


def _search(evaluate: Callable[[str], float], target: float, first: float, cap: Decimal) -> list[tuple[str, float]]:
    steps = _steps(target, first, cap)
    asked = next(steps)
    while True:
        try:
            asked = steps.send(evaluate(asked))
        except StopIteration as end:
            return list(end.value)


def _steps(target: float, first: float, cap: Decimal) -> Generator[str, float, list[tuple[str, float]]]:
    """One search: yields the α that it wants evaluated, is sent the divergence there, and returns what was evaluated, in order."""
    sign, limit = (1 if cap > 0 else -1), abs(float(cap))
    low, high = 0.0, limit
    alpha = min(first, limit)
    path: list[tuple[str, float]] = []
    while len(path) < MAX_EVALUATIONS:
        written = _write(sign * alpha, cap)
        if any(written == earlier for earlier, _ in path):
            break
        kl = yield written
        path.append((written, kl))
        at_cap = abs(Decimal(written)) >= abs(cap)
        if at_cap and kl < _KL_FLOOR:
            raise EngineError("KL_UNRESPONSIVE", f"at α {written} the model answers as if it were not steered (KL {kl:.2g} nats)", written)
        if _is_met(kl, target) or (at_cap and kl < target):
            break
        low, high = (alpha, high) if kl < target else (low, alpha)
        alpha = _next(path, target, low, high)
    return path


def _next(path: Sequence[tuple[str, float]], target: float, low: float, high: float) -> float:
    """The secant's α, or the bracket's middle where the secant leaves the bracket."""
    alpha, kl = abs(float(path[-1][0])), path[-1][1]
    slope = _SMALL_DOSE_SLOPE
    if len(path) > 1:
        before, kl_before = abs(float(path[-2][0])), path[-2][1]
        measured = (_log_kl(kl) - _log_kl(kl_before)) / (log(alpha) - log(before))
        slope = measured if measured > 0 else _SMALL_DOSE_SLOPE
    step = max(-log(_MAX_STEP), min(log(_MAX_STEP), (log(target) - _log_kl(kl)) / slope))
    proposed = alpha * exp(step)
    if low < proposed < high:
        return proposed
    if proposed >= high:
        # The cap itself may be the answer and is worth a look; a bracket's upper end has been looked at.
        return high if all(abs(float(seen)) < high for seen, _ in path) else (low * high) ** 0.5
    return (low * high) ** 0.5 if low > 0 else high / _MAX_STEP


def _log_kl(kl: float) -> float:
    return log(max(kl, _KL_FLOOR))


def _is_met(kl: float, target: float) -> bool:
    return abs(_log_kl(kl) - log(target)) <= TOLERANCE


def _write(alpha: float, cap: Decimal) -> str:
    """Four digits, so that a person can repeat it; rounded, it still is not beyond the cap."""
    written = format_measure(alpha, significant_digits=4)
    return format_decimal(cap) if abs(alpha) >= abs(float(cap)) or abs(Decimal(written)) > abs(cap) else written


def _residual_fraction(direction: LayerDirection, alpha: str, unit: str) -> Decimal:
    return coefficient_of(direction, alpha, unit) / Decimal(format_measure(direction.mean_residual_norm))
