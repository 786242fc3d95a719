"""Composition: what several steerings do together, measured and not assumed from what each does alone.

    interaction = effect of all together - sum of the effects of each alone

per item, on every axis and on the divergence. Parts that each pass can break safety together: the gates judge the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from typing import Any

import numpy as np
import torch

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.judging.refusals import describe_refusals, find_no_preference
from steernode.engine.measuring.forced import Floats, ForcedText, percentile_kl, score_forced
from steernode.engine.measuring.gates import judge_value, judge_whole
from steernode.engine.measuring.margins import MarginItem, margin_texts, margins_of
from steernode.engine.measuring.stats import Estimate, estimate_mean, measure, reference
from steernode.errors import EngineError
from steernode.gates import FAIL, OF_A_COMPOSITION, PASS, UNDECIDABLE, check_gates, load_gates
from steernode.records.evidence import JOINT

SCHEMA = "steerhub.composition/1"
# What stands beside the names of parts in the document.
_RESERVED = (JOINT, "unsteered", "interaction")
METRICS = (*OF_A_COMPOSITION, "kl_p95")
OF_REFUSING = ("refusal_margin_kept", "refusal_lost")
# Those of the set that are judged without writing replies.
COMPOSITION_GATES = tuple(gate for gate in load_gates("composition") if gate["metric"] in METRICS)


@dataclass(frozen=True, eq=False)
class Part:
    """One steering by name, such as a profile: components that are applied, or not, as a whole."""

    name: str
    components: tuple[Component, ...]


@dataclass(frozen=True, eq=False)
class _Effects:
    """What the variants change, per item. Rows of `shifts` are the parts in order, all together, and with more than two parts the
    pairs in the order of `combinations`."""

    shifts: Floats
    clusters: Sequence[str] | None = None

    def mean(self, row: int) -> Estimate:
        return self._estimate(self.shifts[row])

    def interaction(self, whole: int, parts: Sequence[int]) -> Estimate:
        """What the row `whole` does beyond the sum of what its parts do."""
        return self._estimate(self.shifts[whole] - self.shifts[list(parts)].sum(axis=0))

    def _estimate(self, values: Floats) -> Estimate:
        return estimate_mean(values, self.clusters) if len(values) else reference(0.0, 0)


def measure_composition(
    loaded: LoadedModel,
    parts: Sequence[Part],
    *,
    axes: Mapping[str, Sequence[MarginItem]],
    refusals: Sequence[MarginItem],
    neutral: Sequence[ForcedText],
    mean_residual_norms: Mapping[int, float],
    gates: Sequence[Mapping[str, str]] = COMPOSITION_GATES,
    undecidable: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The composition document: canonical JSON, numbers as decimal strings.

    `axes` are contrast items by axis, `refusals` harmful requests as `refusal_items` makes them, `neutral` texts on which any
    divergence is collateral, `mean_residual_norms` the mean length of the residual stream by layer, in activation units.
    Each part, each pair and all together are scored in one teacher-forced run.

    The verdict is that of all parts together. `breaks_jointly` is true when no part fails alone and all together do.
    `undecidable` says, with code and reason, why nothing can be concluded on refusals, of which there may then be none. The model that
    prefers none of those given says so by itself.

    Raises: EngineError COMPOSITION_PARTS without parts or for a name used twice, COMPOSITION_EMPTY naming what has no
    items, COMPOSITION_NORM naming a layer without a residual norm, GATE_INVALID, and the codes of `score_forced`.
    """
    required: dict[str, Sequence[MarginItem] | Sequence[ForcedText]] = {**axes, "neutral": neutral}
    if not undecidable:
        required["refusals"] = refusals
    _check(parts, required, mean_residual_norms, gates)
    names = [*(part.name for part in parts), JOINT]
    sets = [part.components for part in parts]
    # Of two parts the pair is all there is.
    pairs = list(combinations(sets, 2)) if len(parts) > 2 else []
    sets.append(tuple(component for part in parts for component in part.components))
    groups = {**{f"axis {name}": items for name, items in axes.items()}, "refusals": refusals}
    texts = [text for items in groups.values() for text in margin_texts(items)]
    variants = [(), *sets, *((*one, *other) for one, other in pairs)]
    scores = score_forced(loaded, [*texts, *neutral], variants)
    margins: dict[str, Floats] = {}
    start = 0
    for group, items in groups.items():
        margins[group] = margins_of(scores.log_likelihood[:, start : start + 2 * len(items)])
        start += 2 * len(items)
    kl = scores.kl[start:]
    effects = {group: _Effects(margins[group][1:] - margins[group][0], [item.cluster for item in items]) for group, items in groups.items()}
    effects["divergence"] = _Effects(np.array([values.mean(axis=1) for values in kl]).T[1:])
    refusal = describe_refusals(names, margins["refusals"], refusals)
    undecidable = undecidable or find_no_preference(margins["refusals"][0])
    norms = {name: _norm_shares(components, mean_residual_norms) for name, components in zip(names, sets, strict=True)}
    values = {
        name: {
            "refusal_margin_kept": refusal[name]["kept"]["value"],
            "refusal_lost": refusal[name]["lost"]["value"],
            "kl_p95": measure(percentile_kl(kl, index + 1)),
            "norm_share": max(norms[name].values(), key=Decimal, default="0"),
        }
        for index, name in enumerate(names)
    }
    judged = {name: [_judge(gate, values[name][gate["metric"]], undecidable) for gate in gates] for name in names}
    verdicts = {name: judge_whole(judged[name]) for name in names}
    return {
        "schema": SCHEMA,
        "base_model_fingerprint": loaded.fingerprint,
        "parts": [part.name for part in parts],
        "cosines": _describe_cosines(parts),
        "pairs": _describe_pairs(parts, effects),
        "norm_shares": norms,
        "axes": {name: _describe_effects(names, effects[f"axis {name}"]) for name in axes},
        "refusals": {**refusal, "interaction": effects["refusals"].interaction(len(parts), range(len(parts))).to_document()},
        "divergence": _describe_divergence(names, effects["divergence"], kl),
        "gates": judged,
        "breaks_jointly": all(verdicts[part.name] != FAIL for part in parts) and verdicts[JOINT] == FAIL,
        "verdict": verdicts[JOINT],
        **({"undecidable": dict(undecidable)} if undecidable else {}),
    }


def _judge(gate: Mapping[str, str], value: str, undecidable: Mapping[str, str] | None) -> dict[str, str]:
    judged = judge_value(gate, Decimal(value))
    if undecidable and gate["metric"] in OF_REFUSING and judged["verdict"] == PASS:
        judged |= {"verdict": UNDECIDABLE, "code": undecidable["code"], "note": undecidable["reason"]}
    return judged


def _check(
    parts: Sequence[Part],
    required: Mapping[str, Sequence[MarginItem] | Sequence[ForcedText]],
    mean_residual_norms: Mapping[int, float],
    gates: Sequence[Mapping[str, str]],
) -> None:
    names = [part.name for part in parts]
    repeated = [name for index, name in enumerate(names) if name in (*names[:index], *_RESERVED)]
    if not parts or repeated:
        raise EngineError("COMPOSITION_PARTS", f"a composition needs parts with names of their own, got {names}", *repeated[:1])
    for name, items in required.items():
        if not items:
            raise EngineError("COMPOSITION_EMPTY", f"there are no items for {name}; a composition is not judged without them", name)
    for part in parts:
        if not part.components:
            raise EngineError("COMPOSITION_PARTS", f"part {part.name!r} has no components", part.name)
        for component in part.components:
            if mean_residual_norms.get(component.layer, 0.0) <= 0:
                raise EngineError(
                    "COMPOSITION_NORM",
                    f"part {part.name!r} acts on layer {component.layer}, whose mean residual norm was not given",
                    f"layer {component.layer}",
                )
    check_gates(gates, METRICS, ("min", "max"))


def _describe_cosines(parts: Sequence[Part]) -> dict[str, Any]:
    """Per layer on which two or more components act: whose they are, and the cosine of each with each, signs of α included."""
    acting: dict[int, list[tuple[str, torch.Tensor]]] = {}
    for part in parts:
        for component in part.components:
            if component.coefficient != 0:
                signed = component.direction.double() * (1 if component.coefficient > 0 else -1)
                acting.setdefault(component.layer, []).append((part.name, signed / signed.norm()))
    return {
        str(layer): {
            "parts": [name for name, _ in directions],
            "cosines": [[measure(float(one @ other)) for _, other in directions] for _, one in directions],
        }
        for layer, directions in sorted(acting.items())
        if len(directions) > 1
    }


def _norm_shares(components: Sequence[Component], mean_residual_norms: Mapping[int, float]) -> dict[str, str]:
    """Per layer, the summed length of what is added there as a share of the residual norm: the most it can come to, at cosine 1.

    Components that remove or cap take away what is there and add nothing, so that they do not count.
    """
    lengths: dict[int, float] = {}
    for component in components:
        if component.operator == "add":
            length = abs(component.coefficient) * float(component.direction.norm())
            lengths[component.layer] = lengths.get(component.layer, 0.0) + length
    return {str(layer): measure(length / mean_residual_norms[layer]) for layer, length in sorted(lengths.items())}


def _describe_effects(names: Sequence[str], effects: _Effects) -> dict[str, Any]:
    """The change of the margin from the unsteered model under each part and under all, and their interaction, in nats."""
    return {
        "effects": {name: effects.mean(row).to_document() for row, name in enumerate(names)},
        "interaction": effects.interaction(len(names) - 1, range(len(names) - 1)).to_document(),
    }


def _describe_divergence(names: Sequence[str], effects: _Effects, kl: Sequence[Floats]) -> dict[str, Any]:
    """KL(unsteered ‖ steered) on the neutral texts: the mean over texts of each text's mean, the 95th percentile over tokens, and
    the interaction."""
    described = _describe_effects(names, effects)
    return {
        "effects": {
            name: {"mean": described["effects"][name], "p95": measure(percentile_kl(kl, row + 1))} for row, name in enumerate(names)
        },
        "interaction": described["interaction"],
    }


def _describe_pairs(parts: Sequence[Part], effects: Mapping[str, _Effects]) -> list[dict[str, Any]]:
    """Each two parts: the cosine of what they push, and what both do beyond the sum of what each does, by axis, on refusals and in
    divergence. No cosine where a part pushes nothing."""
    whole = len(parts)
    described = []
    for place, (one, other) in enumerate(combinations(range(len(parts)), 2)):
        row = whole + 1 + place if len(parts) > 2 else whole
        described.append(
            {
                "parts": [parts[one].name, parts[other].name],
                "cosine": _cosine(_push(parts[one]), _push(parts[other])),
                "interaction": {group: each.interaction(row, (one, other)).to_document() for group, each in effects.items()},
            }
        )
    return described


def _push(part: Part) -> torch.Tensor:
    return torch.stack([component.coefficient * component.direction.double() for component in part.components]).sum(dim=0)


def _cosine(one: torch.Tensor, other: torch.Tensor) -> str | None:
    length = float(one.norm() * other.norm())
    return measure(float(one @ other) / length) if length else None
