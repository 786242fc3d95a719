"""A search in which no cell passes: the cell that came nearest, what stops it, and which α would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from steernode.canonical import format_measure
from steernode.engine.measuring.gates import judge_gates
from steernode.gates import KINDS, passes

Cell = Mapping[str, Any]
Judged = Mapping[str, str]
# A threshold where the unsteered model already is leaves no room to count a miss in.
_LEAST_ROOM = 0.01
# The curve between the measured α is looked at in so many steps.
_STEPS = 400
_BOUNDS = {"min": "at least", "above": "above", "max": "at most", "below": "below"}


def find_nearest(cells: Sequence[Cell], gates: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Of the steered cells with replies the one that the fewest gates stop, and of those the one that misses them by least.

    A miss is counted in what a gate gives away: from what the unsteered model has to the threshold. `windows` says of each gate
    that stops a cell of the layer between which α it would pass, None where there is no bound; `would_do` at which layer and α all
    would, if any does: both by straight lines between what was measured, so that it is a guess and not a promise. `sentence` says all.
    """
    baseline = next(cell for cell in cells if cell["stage"] == "final" and cell["layer"] is None)
    steered = [cell for cell in cells if cell["stage"] == "final" and cell["layer"] is not None]
    origin = judge_gates(gates, baseline, baseline)
    judged = [judge_gates(gates, cell, baseline) for cell in steered]

    def merit(index: int) -> tuple[int, float]:
        misses = _worst_misses(judged[index], origin)
        return len(misses), sum(miss for miss, _ in misses)

    best = min(range(len(steered)), key=merit)
    nearest, stopped = steered[best], [own for _, own in _worst_misses(judged[best], origin)]
    points: dict[tuple[int, int], list[tuple[float, Sequence[Judged]]]] = {_key(nearest): []}
    for cell, own in zip(steered, judged, strict=True):
        points.setdefault(_key(cell), []).append((abs(float(cell["alpha"])), own))
    lines = {key: _Line(own, origin, key[1]) for key, own in points.items()}
    line = lines[_key(nearest)]
    would_do = next(({"layer": layer, "alpha": alpha} for (layer, _), each in lines.items() if (alpha := each.find_all())), None)
    said = f"{_say_stop(nearest, stopped)}{line.say_neighbour(nearest, stopped[0])}"
    return {
        "layer": nearest["layer"],
        "alpha": nearest["alpha"],
        "stopped_by": stopped,
        "windows": line.windows(),
        "would_do": would_do,
        "sentence": f"{said}; {_say_what_would_do(line, would_do, nearest['layer'])}",
    }


def _key(cell: Cell) -> tuple[int, int]:
    """The layer, and the sign of α."""
    return cell["layer"], -1 if Decimal(cell["alpha"]) < 0 else 1


@dataclass(frozen=True)
class _Line:
    """One layer's cells of one sign by distance from α = 0, each with its gates as judged."""

    points: Sequence[tuple[float, Sequence[Judged]]]
    origin: Sequence[Judged]
    sign: int

    def find_all(self) -> str | None:
        """An α at which every gate would pass, in the middle of the widest such stretch."""
        grid = self._grid()
        stretches = _stretches(np.all([self._passing(gate, grid) for gate in range(len(self.origin))], axis=0))
        if not stretches:
            return None
        first, last = max(stretches, key=lambda each: each[1] - each[0])
        return self._write((grid[first] + grid[last]) / 2)

    def windows(self) -> list[dict[str, Any]]:
        """Of each gate that stops a cell of the line: where it would pass. `never` where it does at no α."""
        grid, found = self._grid(), []
        for number, gate in enumerate(self.origin):
            if all(judged[number]["verdict"] == "pass" for _, judged in self.points):
                continue
            window: dict[str, Any] = {name: gate[name] for name in ("metric", "kind", "threshold")}
            stretches = _stretches(self._passing(number, grid))
            if stretches:
                first, last = max(stretches, key=lambda each: each[1] - each[0])
                window["from"] = None if first == 0 else self._write(grid[first])
                window["to"] = None if last == len(grid) - 1 else self._write(grid[last])
            found.append(window | {"never": not stretches})
        return found

    def say_neighbour(self, nearest: Cell, stopped: Judged) -> str:
        """At the next α at which the first gate that stops the cell passes, what is wrong there."""
        number = next(index for index, gate in enumerate(self.origin) if _is_same(gate, stopped))
        place = abs(float(nearest["alpha"]))
        passing = [point for point in self.points if point[1][number]["verdict"] == "pass"]
        if not passing:
            return ""
        alpha, judged = min(passing, key=lambda point: abs(point[0] - place))
        lacking = [own for _, own in _worst_misses(judged, self.origin)]
        what = " and ".join(f"{own['metric']} misses by {_short(_gap(own))}" for own in lacking)
        return f"; at {_short(self.sign * alpha)} it is {_short(judged[number]['value'])} and {what}"

    def _passing(self, number: int, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        # How deep a layer lies does not begin at 0 with α.
        starts = [] if self.origin[number]["metric"] == "layer_depth" else [(0.0, self.origin)]
        known = sorted([*starts, *self.points], key=lambda point: point[0])
        values = np.interp(grid, [place for place, _ in known], [float(judged[number]["value"]) for _, judged in known])
        # What was measured is judged as it was written.
        measured = {place: judged[number]["verdict"] == "pass" for place, judged in self.points}
        gate = self.origin[number]
        return np.array([measured.get(place, passes(gate, Decimal(repr(float(value))))) for place, value in zip(grid, values, strict=True)])

    def _grid(self) -> npt.NDArray[np.float64]:
        """Rising α beyond 0 up to the largest that was measured, all measured ones among them."""
        places = [place for place, _ in self.points]
        return np.unique(np.concatenate([np.linspace(0, max(places), _STEPS + 1)[1:], places]))

    def _write(self, place: float) -> str:
        return format_measure(self.sign * place, significant_digits=3)


def _stretches(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of truths."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(end) - 1) for first, end in zip(edges[0::2], edges[1::2], strict=True)]


def _worst_misses(judged: Sequence[Judged], origin: Sequence[Judged]) -> list[tuple[float, Judged]]:
    """Of each metric that stops the cell the gate that it misses by most: gates on a point and on its bound are one here."""
    worst: dict[str, tuple[float, Judged]] = {}
    for own, start in zip(judged, origin, strict=True):
        miss = _miss(own, start)
        if own["verdict"] != "pass" and miss > worst.get(own["metric"], (-1.0, own))[0]:
            worst[own["metric"]] = miss, own
    return list(worst.values())


def _miss(judged: Judged, origin: Judged) -> float:
    room = abs(float(judged["threshold"]) - float(origin["value"]))
    return _gap(judged) / max(room, _LEAST_ROOM)


def _gap(judged: Judged) -> float:
    return abs(float(Decimal(judged["value"]) - Decimal(judged["threshold"])))


def _is_same(one: Judged, other: Judged) -> bool:
    return all(one[name] == other[name] for name in ("metric", "kind", "threshold"))


def _say_stop(cell: Cell, stopped: Sequence[Judged]) -> str:
    place = f"layer {cell['layer']} at α {cell['alpha']}"
    rules = [f"{own['metric']} {_short(own['value'])} against {_say_rule(own)}" for own in stopped]
    if len(stopped) == 1:
        return f"only {stopped[0]['metric']} stops {place}: {_short(stopped[0]['value'])} against {_say_rule(stopped[0])}"
    return f"nearest is {place}, which {len(stopped)} gates stop: {', '.join(rules)}"


def _say_rule(gate: Mapping[str, str]) -> str:
    kind = KINDS[gate["kind"]]
    return f"{'a change of ' if kind.is_difference else ''}{_BOUNDS[kind.passes]} {gate['threshold']}"


def _say_what_would_do(line: _Line, would_do: Mapping[str, Any] | None, layer: int) -> str:
    if would_do is None:
        return f"no α that was not measured would do: {', '.join(dict.fromkeys(map(_say_window, line.windows())))}"
    where = "" if would_do["layer"] == layer else f" at layer {would_do['layer']}"
    return f"between what was measured, α {would_do['alpha']}{where} would do: search it"


def _say_window(window: Mapping[str, Any]) -> str:
    if window["never"]:
        return f"{window['metric']} passes at none"
    ends = [f"from {window['from']}" if window["from"] else "", f"up to {window['to']}" if window["to"] else ""]
    return f"{window['metric']} passes {' '.join(filter(None, ends)) or 'throughout'}"


def _short(value: float | str) -> str:
    return format_measure(float(value), significant_digits=4)
