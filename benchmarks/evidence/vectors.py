"""The vectors that are judged: kinds that must be refused, and kinds that must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice, product

import torch

from benchmarks.evidence.subjects import Subject
from steernode.canonical import format_decimal, format_measure, parse_alpha
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.controls import random_unit_directions
from steernode.engine.judging.unrelated import unrelated_axes
from steernode.engine.reading.directions import LayerDirection
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.files.suites import SuiteItem
from steernode.snapshot.readers import read_component

# How many of each kind; what a model has not, such as a second axis, is left out.
BAD = {
    "reference": {
        "random": 15, "wrong sign": 10, "refusal subtracted": 10, "refusal subtracted from a good one": 10, "unrelated contrast": 15,
        "overdosed": 15, "leaked": 8, "too early or late": 6, "another axis": 11,
    },
    "smollm2": {
        "random": 5, "wrong sign": 4, "refusal subtracted": 3, "refusal subtracted from a good one": 3, "unrelated contrast": 6,
        "overdosed": 5, "leaked": 4, "too early or late": 4, "another axis": 3,
    },
}  # fmt: skip
_METHODS = ("mean_difference", "pca_uncentred", "logistic_probe", "whitened_difference")
_SUBSETS = (100, 200, 400)


@dataclass(frozen=True, eq=False)
class Entry:
    """A vector at one α. `pairs` are those that it was read from, where it goes by a contrast set, and `direction` reads it."""

    kind: str
    name: str
    is_good: bool
    alpha: str
    direction: Callable[[], LayerDirection]
    pairs: Sequence[ContrastPair] = ()

    def candidate(self) -> Candidate:
        """Added to what is generated, as a revision writes it."""
        found = self.direction()
        document = {
            "vector": {"sha256": "0" * 64, "bytes": 1, "dtype": "F32", "shape": [len(found.direction)]},
            "layer": found.layer, "site": found.site, "norm": format_measure(found.norm),
            "mean_residual_norm": format_measure(found.mean_residual_norm), "alpha": self.alpha, "alpha_min": self.alpha,
            "alpha_max": self.alpha, "unit": "mean_difference", "operator": "add", "scope": "generated",
            "schedule": {"kind": "constant"}, "condition": None,
        }  # fmt: skip
        return Candidate(read_component(document, "component"), found)


Draft = tuple[str, str, Callable[[], LayerDirection], Sequence[ContrastPair]]


def bad_vectors(subject: Subject) -> list[Entry]:
    """The kinds of `BAD` for the subject, as many as it says."""
    kinds: dict[str, Callable[[Subject], Iterator[Draft]]] = {
        "random": _random, "wrong sign": _wrong_sign, "refusal subtracted": _without_refusal,
        "refusal subtracted from a good one": _good_without_refusal, "unrelated contrast": _unrelated, "overdosed": _overdosed,
        "leaked": _leaked, "too early or late": _wrong_layer, "another axis": _another_axis,
    }  # fmt: skip
    counts = BAD.get(subject.name.split("-")[0], {})
    return [
        Entry(kind, f"{kind} {number}: {name}", False, alpha, direction, pairs)
        for kind, count in counts.items()
        for number, (name, alpha, direction, pairs) in enumerate(islice(kinds[kind](subject), count))
    ]


def good_vectors(subject: Subject) -> list[Entry]:
    """Inside the window, however they were read; none where nothing is known to be good."""
    if not subject.window.is_good:
        return []
    found = _planted(subject) if subject.planted is not None else _inside_the_window(subject)
    kind = "planted" if subject.planted is not None else "in the window"
    return [
        Entry(kind, f"{kind} {number}: {name}", True, alpha, direction, pairs)
        for number, (name, alpha, direction, pairs) in enumerate(found)
    ]


def _grid(subject: Subject, *factors: str) -> list[tuple[int, str]]:
    """The layers of the window with its α, each also by these factors."""
    scaled = [format_decimal(parse_alpha(alpha) * parse_alpha(factor)) for factor in factors or ("1",) for alpha in subject.window.alphas]
    return list(product(subject.window.layers, dict.fromkeys(scaled)))


def _good(subject: Subject, layer: int) -> LayerDirection:
    return subject.extract(subject.axis, layer)


def _random(subject: Subject) -> Iterator[Draft]:
    drawn = random_unit_directions(subject.loaded.d_model, 64, seed=1001)
    for number, (direction, (layer, alpha)) in enumerate(zip(drawn, cycle(_grid(subject, "1", "1.5")), strict=False)):
        yield f"draw {number}", alpha, lambda to=direction, at=layer: replace(_good(subject, at), direction=to), ()


def _wrong_sign(subject: Subject) -> Iterator[Draft]:
    """The good one turned round, and the good one at an α below zero."""
    for method, (layer, alpha) in product(_METHODS, _grid(subject, "1", "1.5")):

        def turned(method: str = method, at: int = layer) -> LayerDirection:
            found = subject.extract(subject.axis, at, method)
            return replace(found, direction=-found.direction)

        yield f"{method} turned round", alpha, turned, ()
        yield f"{method} at −{alpha}", f"-{alpha}", lambda how=method, at=layer: subject.extract(subject.axis, at, how), ()


def _without_refusal(subject: Subject) -> Iterator[Draft]:
    for alpha, layer in product(("0.5", "1", "1.5", "0.75", "2"), _lower(subject)):

        def subtracted(at: int = layer) -> LayerDirection:
            found = subject.refusal(at)
            return replace(found, direction=-found.direction)

        yield f"layer {layer}", alpha, subtracted, ()


def _good_without_refusal(subject: Subject) -> Iterator[Draft]:
    for share, (layer, alpha) in product((0.3, 0.5, 1.0, 0.4, 0.75), _grid(subject, "1", "1.25")):
        yield f"{share:g} refusals less", alpha, lambda at=layer, to=alpha, less=share: _blend(subject, at, to, less), ()


def _blend(subject: Subject, layer: int, alpha: str, share: float) -> LayerDirection:
    """At α it is the good one at α, minus `share` of the mean difference between harmful and harmless requests."""
    good, refusal = _good(subject, layer), subject.refusal(layer)
    pushed = float(alpha) * good.norm * good.direction - share * refusal.norm * refusal.direction
    length = float(pushed.norm())
    return replace(good, direction=pushed / length, norm=length / float(alpha))


def _unrelated(subject: Subject) -> Iterator[Draft]:
    """At the norm of the good one: between two things that have nothing to do with the axis, either way round."""
    for (name, pairs), (layer, alpha) in zip(unrelated_axes().items(), cycle(_grid(subject, "1", "1.5")), strict=False):

        def read(pairs: Sequence[ContrastPair] = pairs, at: int = layer) -> LayerDirection:
            return replace(subject.read(pairs)[at], norm=_good(subject, at).norm)

        yield name, alpha, read, pairs


def _overdosed(subject: Subject) -> Iterator[Draft]:
    for method, alpha, layer in product(_METHODS, subject.window.overdosed, subject.window.layers):
        yield f"{method}, layer {layer}", alpha, lambda how=method, at=layer: subject.extract(subject.axis, at, how), ()


def _leaked(subject: Subject) -> Iterator[Draft]:
    """Read from what the vector is judged on: a suite's items under both sides' messages, whole, in part, and in other letters."""
    sides = subject.sets[subject.axis][0]
    systems = [side[0] for side in (sides.positive, sides.negative)]
    layer, alpha = _grid(subject)[0]

    def under(items: Sequence[SuiteItem], change: Callable[[str], str] = str) -> tuple[ContrastPair, ...]:
        asked = [[Message(each.role, change(each.content)) for each in item.messages if each.role != "system"] for item in items]
        return tuple(
            ContrastPair(f"leaked-{number}", *((system, *turns) for system in systems), "", "", "0" * 64)
            for number, turns in enumerate(asked)
        )

    own = tuple(subject.sets[subject.axis])
    asked = {
        name: subject.suites[kind].split("test") for name, kind in (("tickets", "behaviour"), ("facts", "factual"), ("refusals", "safety"))
    }
    sets = {
        "the test tickets": under(asked["tickets"]),
        "one test ticket among the pairs": own + under(asked["tickets"][:1]),
        "the test tickets in capitals": under(asked["tickets"], str.upper),
        "the test facts": under(asked["facts"]),
        "the select tickets": under(subject.suites["behaviour"].split("select")),
        "the test refusals": under(asked["refusals"]),
        "the test tickets with other spaces": under(asked["tickets"], lambda text: f"  {text.replace(' ', '  ')} "),
        "half of the test facts among the pairs": own + under(asked["facts"][::2]),
    }
    for name, pairs in sets.items():
        yield name, alpha, lambda of=pairs: subject.read(of)[layer], pairs


def _wrong_layer(subject: Subject) -> Iterator[Draft]:
    window = subject.window
    alphas = dict.fromkeys(alpha for _, alpha in _grid(subject, "1", "2"))
    for alpha, layer in product(alphas, (*window.too_early, *window.too_late)):
        yield f"layer {layer}", alpha, lambda at=layer: _good(subject, at), ()


def _another_axis(subject: Subject) -> Iterator[Draft]:
    """Judged as if it were of the axis; what other behaviours share with it is small."""
    others = [axis for axis in subject.sets if axis != subject.axis]
    for axis, sign, (layer, alpha) in product(others, (1, -1), _grid(subject, "1", "2", "3")):

        def read(axis: str = axis, sign: int = sign, at: int = layer) -> LayerDirection:
            found = subject.extract(axis, at)
            return replace(found, direction=sign * found.direction)

        yield f"{axis}{'' if sign > 0 else ' turned round'}", alpha, read, ()


def _inside_the_window(subject: Subject) -> Iterator[Draft]:
    pairs = subject.sets[subject.axis]
    for layer, alpha in _grid(subject):
        for method in _METHODS:
            yield f"{method}, layer {layer}", alpha, lambda how=method, at=layer: subject.extract(subject.axis, at, how), pairs
        for count, seed in product(_SUBSETS, range(4)):
            yield (
                f"{count} pairs drawn with {seed}, layer {layer}", alpha,
                lambda of=count, by=seed, at=layer: subject.extract(subject.axis, at, count=of, seed=by), pairs,
            )  # fmt: skip


def _planted(subject: Subject) -> Iterator[Draft]:
    """The direction itself, and what every method finds of it."""
    pairs, [layer] = subject.sets[subject.axis], subject.window.layers

    def itself() -> LayerDirection:
        found = _good(subject, layer)
        towards = torch.as_tensor(subject.planted)
        return replace(found, direction=towards, norm=found.norm * float(found.direction @ towards))

    for alpha in subject.window.alphas:
        yield "the direction itself", alpha, itself, pairs
    for method in _METHODS:
        yield method, subject.window.alphas[0], lambda how=method: subject.extract(subject.axis, layer, how), pairs
    yield "40 pairs", subject.window.alphas[0], lambda: subject.extract(subject.axis, layer, count=40, seed=1), pairs


def _lower(subject: Subject) -> tuple[int, ...]:
    """The layers of the window and the one below it."""
    return (*subject.window.layers, min(subject.window.layers) - 1)
