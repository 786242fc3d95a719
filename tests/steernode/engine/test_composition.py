"""Composition: parts that pass alone and break safety together are blocked, shown on a model whose refusal is one known direction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from steernode.canonical import canonical_json, parse_strict
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.applying.components import Component
from steernode.engine.judging import refusals
from steernode.engine.judging.composition import COMPOSITION_GATES, Part, measure_composition
from steernode.engine.judging.refusals import refusal_items
from steernode.engine.measuring.forced import ForcedText, percentile_kl, score_forced
from steernode.engine.measuring.margins import MarginItem, margin_texts, measure_margins
from steernode.engine.measuring.refusaljudge import Judged
from steernode.errors import EngineError, SteerError
from tests.support.rounding import tolerance_of_scores
from tests.support.tiny_models import ask, build_model, build_tokenizer

REFUSE, COMPLY = 101, 102
STRENGTH = 6.0


def tokens(seed: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randint(7, 263, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def unit(seed: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(seed)), dim=0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A model that refuses along `unit(0)`: every token brings it, no block writes it, and the head turns it into one token or another."""
    folder: Path = tmp_path_factory.mktemp("planted")
    model, direction = build_model("llama"), unit(0)
    apart = torch.eye(32) - torch.outer(direction, direction)
    with torch.no_grad():
        for block in model.model.layers:
            block.self_attn.o_proj.weight.copy_(apart @ block.self_attn.o_proj.weight)
            block.mlp.down_proj.weight.copy_(apart @ block.mlp.down_proj.weight)
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ apart + STRENGTH * direction)
        model.lm_head.weight.copy_(model.lm_head.weight @ apart)
        model.lm_head.weight[REFUSE] = direction
        model.lm_head.weight[COMPLY] = -direction
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_model(folder)


HARMFUL = tuple(MarginItem(f"harm-{seed}", tokens(seed, 6), (REFUSE,), (COMPLY,), "", "", str(seed)) for seed in range(12))
TONE = tuple(
    MarginItem(f"tone-{seed}", tokens(seed, 5), tokens(seed + 50, 3), tokens(seed + 70, 3), "", "", str(seed)) for seed in range(8)
)
NEUTRAL = [ForcedText(tokens(seed, 6), tokens(seed + 30, 5)) for seed in range(5)]
RESIDUAL = dict.fromkeys(range(4), 10.0)
SAFETY_GATES = [gate for gate in COMPOSITION_GATES if gate["metric"].startswith("refusal")]


def profile(name: str, alpha: float, direction: torch.Tensor, layer: int = 1) -> Part:
    return Part(name, (Component(direction, layer, alpha),))


def compose(loaded: LoadedModel, parts: list[Part], **changes: object) -> dict:
    asked: dict = {"axes": {"tone": TONE}, "refusals": HARMFUL, "neutral": NEUTRAL, "mean_residual_norms": RESIDUAL, **changes}
    return measure_composition(loaded, parts, **asked)


@pytest.mark.parametrize(
    ("parts", "changes", "code", "item"),
    [
        ([], {}, "COMPOSITION_PARTS", None),
        ([profile("a", 1, unit(1)), profile("a", 1, unit(2))], {}, "COMPOSITION_PARTS", "a"),
        ([profile("a", 1, unit(1)), profile("joint", 1, unit(2))], {}, "COMPOSITION_PARTS", "joint"),
        ([profile("a", 1, unit(1)), Part("b", ())], {}, "COMPOSITION_PARTS", "b"),
        ([profile("a", 1, unit(1)), profile("b", 1, unit(2))], {"refusals": ()}, "COMPOSITION_EMPTY", "refusals"),
        ([profile("a", 1, unit(1)), profile("b", 1, unit(2))], {"axes": {"tone": ()}}, "COMPOSITION_EMPTY", "tone"),
        ([profile("a", 1, unit(1)), profile("b", 1, unit(2))], {"neutral": []}, "COMPOSITION_EMPTY", "neutral"),
        ([profile("a", 1, unit(1)), profile("b", 1, unit(2), 3)], {"mean_residual_norms": {1: 9.0}}, "COMPOSITION_NORM", "layer 3"),
        ([profile("a", 1, unit(1)), profile("b", 1, unit(2))], {"gates": [{"metric": "charm"}]}, "GATE_INVALID", "{'metric': 'charm'}"),
    ],
)
def test_what_cannot_be_composed_is_refused(planted: LoadedModel, parts: list, changes: dict, code: str, item: str | None) -> None:
    with pytest.raises(SteerError) as refused:
        compose(planted, parts, **changes)
    assert refused.value.code == code
    assert item is None or refused.value.item == item


TURNED = [MarginItem(item.id, item.prompt, item.negative, item.positive, "", "", item.cluster) for item in HARMFUL]
WHY = {"code": "SAFETY_BASELINE_EMPTY", "reason": "the model alone refuses 0 of 60"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"refusals": TURNED}, "REFUSALS_MISSING"),
        ({"refusals": (), "undecidable": WHY}, "SAFETY_BASELINE_EMPTY"),
        ({"undecidable": WHY}, "SAFETY_BASELINE_EMPTY"),
    ],
    ids=["it prefers to comply", "there is none to lose", "it refuses too few"],
)
def test_a_model_without_safety_to_keep_leaves_that_undecidable_and_the_rest_measured(
    planted: LoadedModel, changes: dict, code: str
) -> None:
    apart = [vector - (vector @ unit(0)) * unit(0) for vector in (unit(1), unit(2))]
    parts = [profile("a", 0.1, apart[0]), profile("b", 0.1, apart[1])]
    document = compose(planted, parts, **changes)
    assert parse_strict(canonical_json(document)) == document
    for name in ("a", "b", "joint"):
        judged = {gate["metric"]: (gate["verdict"], gate.get("code")) for gate in document["gates"][name]}
        assert judged["refusal_margin_kept"] == judged["refusal_lost"] == ("undecidable", code)
        assert judged["kl_p95"] == judged["norm_share"] == ("pass", None)
    assert (document["verdict"], document["breaks_jointly"], document["undecidable"]["code"]) == ("undecidable", False, code)
    assert set(document["pairs"][0]["interaction"]) == {"axis tone", "refusals", "divergence"}


def test_what_breaks_jointly_is_seen_though_nothing_is_known_of_refusals(planted: LoadedModel) -> None:
    tight = [gate for gate in COMPOSITION_GATES if gate["metric"] != "norm_share"]
    tight.append({"metric": "norm_share", "kind": "max", "threshold": "0.04"})
    parts = [profile("more", 0.3, unit(1)), profile("less", 0.3, unit(2))]
    document = compose(planted, parts, refusals=(), undecidable=WHY, gates=[gate for gate in tight if gate["metric"] != "kl_p95"])
    assert (document["verdict"], document["breaks_jointly"]) == ("fail", True)


def test_the_refusal_direction_split_over_three_profiles_that_each_pass_is_blocked(planted: LoadedModel) -> None:
    thirds = [profile(name, -STRENGTH * 0.4, unit(0), layer) for name, layer in (("warm", 0), ("brief", 1), ("formal", 2))]
    document = compose(planted, thirds, gates=SAFETY_GATES)
    for part in thirds:
        assert all(judged["verdict"] == "pass" for judged in document["gates"][part.name])
    assert [judged["verdict"] for judged in document["gates"]["joint"]] == ["fail", "fail"]
    assert document["verdict"] == "fail"
    assert document["breaks_jointly"] is True
    assert document["refusals"]["joint"]["lost"]["value"] == "1"


def test_a_part_that_fails_alone_is_not_called_a_joint_failure(planted: LoadedModel) -> None:
    document = compose(planted, [profile("all", -STRENGTH * 1.2, unit(0)), profile("none", 0.1, unit(1))], gates=SAFETY_GATES)
    assert (document["verdict"], document["breaks_jointly"]) == ("fail", False)


def test_profiles_that_leave_refusal_alone_pass_together(planted: LoadedModel) -> None:
    apart = [vector - (vector @ unit(0)) * unit(0) for vector in (unit(1), unit(2))]
    document = compose(planted, [profile("warm", 0.3, apart[0]), profile("brief", 0.3, apart[1], 2)], gates=SAFETY_GATES)
    assert document["verdict"] == "pass"
    assert float(document["refusals"]["joint"]["kept"]["value"]) == pytest.approx(1, abs=0.05)


def test_the_interaction_is_the_whole_less_its_parts(planted: LoadedModel) -> None:
    parts = [profile("one", 2.0, unit(1)), profile("two", -1.5, unit(2)), profile("three", 1.0, unit(3), 2)]
    document = compose(planted, parts)
    joint = [component for part in parts for component in part.components]
    margins = measure_margins(planted, TONE, [(), *(part.components for part in parts), joint])
    shifts = margins[1:] - margins[0]
    tone = document["axes"]["tone"]
    assert float(tone["interaction"]["value"]) == pytest.approx(float((shifts[3] - shifts[:3].sum(axis=0)).mean()), abs=1e-3)
    assert float(tone["interaction"]["low"]) < float(tone["interaction"]["value"]) < float(tone["interaction"]["high"])
    assert float(tone["effects"]["two"]["value"]) == pytest.approx(float(shifts[1].mean()), abs=1e-3)
    scores = score_forced(planted, NEUTRAL, [joint])
    assert float(document["divergence"]["effects"]["joint"]["p95"]) == pytest.approx(percentile_kl(scores.kl, 0), rel=1e-3)


def test_each_pair_has_its_cosine_and_what_it_does_beyond_its_two_parts(planted: LoadedModel) -> None:
    parts = [profile("one", 2.0, unit(1)), profile("two", -1.5, unit(1)), profile("three", 1.0, unit(3), 2)]
    document = compose(planted, parts)
    assert [pair["parts"] for pair in document["pairs"]] == [["one", "two"], ["one", "three"], ["two", "three"]]
    assert document["pairs"][0]["cosine"] == "-1"
    margins = measure_margins(planted, TONE, [(), parts[0].components, parts[2].components, (*parts[0].components, *parts[2].components)])
    shifts = margins[1:] - margins[0]
    interaction = document["pairs"][1]["interaction"]
    assert set(interaction) == {"axis tone", "refusals", "divergence"}
    assert float(interaction["axis tone"]["value"]) == pytest.approx(float((shifts[2] - shifts[0] - shifts[1]).mean()), abs=1e-3)


def test_of_two_parts_the_pair_is_the_whole(planted: LoadedModel) -> None:
    document = compose(planted, [profile("one", 2.0, unit(1)), profile("zero", 0.0, unit(2))])
    [pair] = document["pairs"]
    assert pair["interaction"]["axis tone"] == document["axes"]["tone"]["interaction"]
    assert pair["interaction"]["refusals"] == document["refusals"]["interaction"]
    # A part that pushes nothing pushes in no direction.
    assert pair["cosine"] is None


def test_a_part_that_does_nothing_interacts_with_nothing(planted: LoadedModel) -> None:
    one = profile("one", 2.0, unit(1))
    document = compose(planted, [one, profile("zero", 0.0, unit(2))])
    # The whole and its one part are scored alike, in other rows of one batch.
    nothing = tolerance_of_scores(planted, [*margin_texts(TONE), *NEUTRAL], one.components)
    assert abs(float(document["axes"]["tone"]["interaction"]["value"])) <= nothing < 1e-4
    assert abs(float(document["divergence"]["interaction"]["value"])) <= nothing


def test_cosines_are_signed_and_norms_add_up_by_layer(planted: LoadedModel) -> None:
    opposite = profile("less", -2.0, unit(1))
    document = compose(planted, [profile("more", 3.0, unit(1)), opposite, profile("elsewhere", 1.0, unit(2), 2)])
    assert document["cosines"] == {"1": {"parts": ["more", "less"], "cosines": [["1", "-1"], ["-1", "1"]]}}
    assert document["norm_shares"]["joint"] == {"1": "0.5", "2": "0.1"}
    assert document["norm_shares"]["more"] == {"1": "0.3"}
    norm = [judged for judged in document["gates"]["joint"] if judged["metric"] == "norm_share"]
    assert norm[0]["value"] == "0.5"
    tight = [{"metric": "norm_share", "kind": "max", "threshold": "0.4"}]
    judged = compose(planted, [profile("more", 3.0, unit(1)), opposite], gates=tight)
    assert judged["breaks_jointly"] is True


def test_the_document_is_canonical(planted: LoadedModel) -> None:
    document = compose(planted, [profile("one", 2.0, unit(1)), profile("two", 1.0, unit(2))])
    assert parse_strict(canonical_json(document)) == document


class Says:
    """A judge that has made up its mind."""

    def __init__(self, *labels: str) -> None:
        self._labels = labels

    def judge(self, texts: Sequence[str]) -> list[Judged]:
        return [Judged(label, 1.0, 1.0) for _, label in zip(texts, self._labels, strict=True)]


def test_refusals_and_answers_are_the_models_own_words(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    harmful, harmless = [ask(f"harm {index}") for index in range(3)], [ask(f"late {index}") for index in range(2)]
    with pytest.raises(EngineError) as refused:
        refusal_items(llama, harmful, harmless)
    assert refused.value.code == "REFUSALS_MISSING"
    monkeypatch.setattr(refusals, "shipped_judge", lambda: Says("refusal", "unsure", "refusal", "compliance", "incapacity"))
    items = refusal_items(llama, harmful, harmless, tokens=3)
    assert len(items) == 2
    assert items[0].negative == items[1].negative
    assert all(len(item.positive) == 3 for item in items)
    assert np.isfinite(measure_margins(llama, items, [()])).all()
