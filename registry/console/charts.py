"""The dose-response chart: one small panel per metric, drawn on the server as plain SVG.

Four panels with the same α axis say more than one with four scales: behaviour should rise to the marked α while facts and
refusals stay above their gates and the perplexity ratio below its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor, log10

from registry.console.documents import METRICS
from steernode.gates import KINDS
from steernode.records.evidence import Estimate, JudgedGate, Metric
from steernode.records.lenient import read_number
from steernode.records.sweep import Cell

Scale = Callable[[float], float]
WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 16, 38
# What a metric cannot leave, so that an axis never promises more.
_BOUNDS = {"behaviour": (1.0, 5.0), "facts": (0.0, 1.0), "refusals": (0.0, 1.0), "perplexity_ratio": (0.0, None)}
_SMALLEST_SPAN = {"behaviour": 2.0, "facts": 0.1, "refusals": 0.1, "perplexity_ratio": 0.3}


@dataclass(frozen=True)
class Tick:
    at: str
    label: str


@dataclass(frozen=True)
class Point:
    """A measured value in the panel; `low` and `high` are the ends of its interval where it has one."""

    x: str
    y: str
    label: str
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Gate:
    """Where a gate draws its line, and the side of it that fails."""

    y: str
    label: str
    label_y: str
    fail_y: str
    fail_height: str


@dataclass(frozen=True)
class Panel:
    metric: str
    title: str
    unit: str
    description: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    line: str
    points: list[Point]
    tested: list[Point]
    gate: Gate | None
    proposed_x: str
    proposed_label: str
    # The frame is the same for all panels; templates cannot read module constants.
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM
    plot_width: int = WIDTH - LEFT - RIGHT


def draw_panels(
    curve: Sequence[Cell], tested: Mapping[str, Mapping[Decimal, Estimate]], gates: Sequence[JudgedGate], proposed: Decimal
) -> list[Panel]:
    """One panel for each metric that has anything to show.

    `curve`: cells of the select split, by rising α. `tested`: metric -> α -> what the test split said.
    """
    panels = []
    for metric in METRICS:
        values = [(float(cell.alpha), float(cell.values[metric])) for cell in curve if metric in cell.values]
        marks = {float(alpha): estimate for alpha, estimate in tested.get(metric, {}).items()}
        if values or marks:
            gate = next((gate for gate in gates if gate.metric == metric), None)
            notes = {float(cell.alpha): _note(cell, metric) for cell in curve}
            panels.append(_draw(metric, values, marks, _threshold(gate, values, marks), gate, float(proposed), notes))
    return panels


def _note(cell: Cell, metric: str) -> tuple[str, str]:
    """What a point says beside its α, the share of the stream that it is; and beside its value, the interval. Older cells say neither."""
    share = cell.values.get("dose")
    low, high = (cell.values.get(f"{metric}_{end}") for end in ("low", "high"))
    ends = "" if low is None or high is None else f" ({_plain(float(low))} to {_plain(float(high))})"
    return "" if share is None else f", {100 * share:.3g} % of the stream", ends


def _threshold(gate: JudgedGate | None, values: list[tuple[float, float]], marks: dict[float, Estimate]) -> float | None:
    """Where the gate lies on the metric's own axis. A change is counted from the baseline that the gate was judged on."""
    number = read_number(gate.threshold) if gate else None
    if gate is None or number is None:
        return None
    if not _is_change(gate):
        return float(number)
    baseline = float(marks[0.0].value) if 0.0 in marks else dict(values).get(0.0)
    return None if baseline is None else baseline + float(number)


def _is_change(gate: JudgedGate) -> bool:
    return gate.kind in KINDS and KINDS[gate.kind].is_difference


def _draw(
    metric: str,
    values: list[tuple[float, float]],
    marks: dict[float, Estimate],
    threshold: float | None,
    gate: JudgedGate | None,
    proposed: float,
    notes: Mapping[float, tuple[str, str]],
) -> Panel:
    xs = [alpha for alpha, _ in values] + [*marks, 0.0, proposed]
    ys = [value for _, value in values] + ([] if threshold is None else [threshold])
    for estimate in marks.values():
        ys += [float(end) for end in (estimate.value, estimate.low, estimate.high) if end is not None]
    low, high, step = _axis(metric, min(ys), max(ys))
    x_low, x_high = min(xs), max(xs)

    def x(value: float) -> float:
        return LEFT + (value - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (min(max(value, low), high) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    title, unit = METRICS[metric]
    tested = [_mark(alpha, estimate, x, y) for alpha, estimate in sorted(marks.items())]
    return Panel(
        metric=metric,
        title=title,
        unit=unit,
        description=_describe(title, values, marks, proposed),
        x_ticks=_thin([Tick(_at(x(alpha)), _plain(alpha)) for alpha in sorted({*[alpha for alpha, _ in values], *marks})]),
        y_ticks=[Tick(_at(y(low + step * index)), _plain(low + step * index)) for index in range(round((high - low) / step) + 1)],
        line=" ".join(f"{_at(x(alpha))},{_at(y(value))}" for alpha, value in values),
        points=[
            Point(_at(x(alpha)), _at(y(value)), f"select split, α {_plain(alpha)}{notes[alpha][0]}: {_plain(value)}{notes[alpha][1]}")
            for alpha, value in values
        ],
        tested=tested,
        gate=_draw_gate(threshold, gate, y) if threshold is not None and gate is not None else None,
        proposed_x=_at(x(proposed)),
        proposed_label=f"α = {_plain(proposed)}",
    )


def _mark(alpha: float, estimate: Estimate, x: Scale, y: Scale) -> Point:
    interval = ""
    if estimate.low is not None and estimate.high is not None:
        interval = f" ({_plain(float(estimate.low))} to {_plain(float(estimate.high))})"
    return Point(
        x=_at(x(alpha)),
        y=_at(y(float(estimate.value))),
        label=f"test split, α {_plain(alpha)}: {_plain(float(estimate.value))}{interval}",
        low=_at(y(float(estimate.low))) if estimate.low is not None else "",
        high=_at(y(float(estimate.high))) if estimate.high is not None else "",
    )


def _draw_gate(threshold: float, gate: JudgedGate, y: Scale) -> Gate:
    line = y(threshold)
    kind = KINDS.get(gate.kind)
    fails_below = kind is not None and kind.passes in ("min", "above")
    fail_y, fail_end = (line, HEIGHT - BOTTOM) if fails_below else (TOP, line)
    # Above the line, unless that would leave the frame.
    label_y = line - 4 if line - 4 > TOP + 9 else line + 12
    # A gate on an end of the interval asks more than that the point be on its side.
    side = {"low": ", for the lower bound", "high": ", for the upper bound"}.get(kind.side if kind else "", "")
    return Gate(_at(line), f"gate {_plain(threshold)}{side}", _at(label_y), _at(fail_y), _at(max(fail_end - fail_y, 0)))


def _axis(metric: str, lowest: float, highest: float) -> tuple[float, float, float]:
    """Round ends and a round step that hold all values, and are not so near that noise looks like an effect."""
    bottom, top = _BOUNDS[metric]
    span = max(highest - lowest, _SMALLEST_SPAN[metric])
    middle = (highest + lowest) / 2
    low, high = min(lowest, middle - span / 2) - span * 0.06, max(highest, middle + span / 2) + span * 0.06
    low = low if bottom is None else max(low, bottom)
    high = high if top is None else min(high, top)
    raw = (high - low) / 4
    scale = 10 ** floor(log10(raw))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale >= raw * 0.999)
    return floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, step


def _describe(title: str, values: list[tuple[float, float]], marks: dict[float, Estimate], proposed: float) -> str:
    """What a person who cannot see the panel is told."""
    curve = ", ".join(f"{_plain(value)} at α {_plain(alpha)}" for alpha, value in values)
    tests = ", ".join(f"{_plain(float(estimate.value))} at α {_plain(alpha)}" for alpha, estimate in sorted(marks.items()))
    parts = [f"Select split: {curve}." if curve else "", f"Test split: {tests}." if tests else "", f"Proposed α is {_plain(proposed)}."]
    return f"{title}. " + " ".join(part for part in parts if part)


def _thin(ticks: list[Tick]) -> list[Tick]:
    """Labels that would touch their left neighbour are left out."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or float(tick.at) - float(kept[-1].at) >= 24:
            kept.append(tick)
    return kept


def _at(value: float) -> str:
    return f"{value:.1f}"


def _plain(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def read_tested(metrics: Mapping[str, Metric], alpha: Decimal) -> dict[str, dict[Decimal, Estimate]]:
    """What the evidence says of the test split: metric -> α -> estimate, at no steering and at the evaluated α."""
    return {
        name: {at: estimate for at, estimate in ((Decimal(0), metric.baseline), (alpha, metric.steered)) if estimate is not None}
        for name, metric in metrics.items()
    }
