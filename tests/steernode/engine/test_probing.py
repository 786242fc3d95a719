"""A probe from a labelled set: the layer and threshold that the select split chooses, and what the test split says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from steernode.canonical import canonical_json
from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.conditions import decide
from steernode.engine.measuring.ranking import estimate_auc
from steernode.engine.searching.probing import search_probe
from steernode.engine.searching.rocplots import draw_roc
from steernode.errors import EngineError, SteerError
from steernode.files.prompts import parse_prompts
from steernode.records.recipe import ProbeRecipe
from steernode.snapshot.conditions import parse_condition
from tests.support.kept_work import Kept
from tests.support.prompts import prompt_file, prompt_rows

RECIPE = ProbeRecipe("refund-intent", "", (0, 1, 2), "resid_post", "all", "0.05", "0.7")


def search(loaded: LoadedModel, rows: list[dict[str, Any]] | None = None, **changes: Any):
    return search_probe(loaded, parse_prompts(prompt_file(rows)), replace(RECIPE, **changes))


def test_a_probe_is_chosen_on_one_split_and_judged_on_another(llama: LoadedModel) -> None:
    found = search(llama)
    document = found.document
    assert canonical_json(document)
    assert document["prompts"] == {split: {"positives": 20, "negatives": 20} for split in ("train", "select", "test")}
    assert document["calibration"]["rule"] == "false_positive_rate"
    assert float(document["calibration"]["false_positive_rate"]) <= 0.05
    aucs = {each["layer"]: float(each["auc"]["value"]) for each in document["layers"]}
    assert document["layer"] == min(layer for layer, auc in aucs.items() if auc == max(aucs.values()))
    held_out = found.held_out
    assert float(held_out["auc"]["low"]) >= 0.7
    assert set(held_out["by_locale"]) == {"en-GB", "de-DE"}
    assert sum(part["positives"] for part in held_out["by_kind"].values()) == 20
    assert draw_roc(held_out, title="refund-intent").startswith(b"\x89PNG")
    parse_condition(found.trained.condition)
    # What is told of the test split is what the stored probe decides there.
    test = parse_prompts(prompt_file()).part("test")
    fires = decide(llama, [found.trained.probe], [encode_prompt(llama, prompt.messages) for prompt in test])[:, 0].numpy()
    hits = np.array([prompt.label for prompt in test])
    assert f"{fires[hits].mean():.2f}" == f"{float(held_out['true_positive_rate']['value']):.2f}"
    assert f"{fires[~hits].mean():.2f}" == f"{float(held_out['false_positive_rate']['value']):.2f}"


def test_words_of_intent_say_what_it_fires_on(llama: LoadedModel) -> None:
    rows = prompt_rows(positive="refund", negative="parcel")
    assert search(llama, rows, intent="refund").trained.vector_file != search(llama, rows, intent="parcel").trained.vector_file
    for intent in ("billing", ""):
        with pytest.raises(SteerError) as refused:
            search(llama, rows, intent=intent)
        assert (refused.value.code, refused.value.item) == ("PROBE_INTENT", intent)


@pytest.mark.parametrize(
    ("rows", "changes", "code", "item"),
    [
        (prompt_rows(19), {}, "PROBE_TOO_FEW", "train positive"),
        (prompt_rows(20), {"target_false_positive_rate": "0.01"}, "PROBE_TOO_FEW", "select negative"),
        (None, {"intent": "billing"}, "PROBE_INTENT", "billing"),
        (None, {"site": "embedding", "layers": (0,), "read_position": "last_prompt_token"}, "PROBE_CONSTANT", "0"),
        (None, {"read_position": "assistant_tokens"}, "READ_POSITION_UNKNOWN", "assistant_tokens"),
    ],
)
def test_what_gives_no_probe_is_refused_by_name(llama: LoadedModel, rows, changes, code: str, item: str) -> None:
    with pytest.raises(SteerError) as refused:
        search(llama, rows, **changes)
    assert (refused.value.code, refused.value.item) == (code, item)


def test_classes_that_do_not_separate_are_refused_with_their_auc(llama: LoadedModel) -> None:
    mixed = prompt_rows()
    # Every other positive changes its label with its neighbour.
    for row, other in zip(mixed[::4], mixed[1::4], strict=True):
        row["label"], other["label"] = other["label"], row["label"]
    with pytest.raises(EngineError) as refused:
        search(llama, mixed)
    assert refused.value.code == "PROBE_NOT_SEPARATED"
    assert refused.value.item is not None
    assert f"AUC {refused.value.item} [" in refused.value.message
    assert "the best of 3" in refused.value.message


def test_an_attempt_that_goes_on_reads_and_fits_nothing_again_and_makes_the_same_bytes(llama: LoadedModel) -> None:
    work = Kept()
    first = search(replace(llama, work=work))
    assert len(work.done) >= 4
    work.done.clear()
    again = search(replace(llama, work=work))
    assert work.done == []
    assert again.trained.vector_file == first.trained.vector_file
    assert canonical_json(again.document) == canonical_json(first.document)


def test_an_area_of_one_still_says_how_few_items_there_were() -> None:
    few, many = (estimate_auc(np.r_[np.ones(n), np.zeros(n)], np.r_[np.ones(n), np.zeros(n)]) for n in (20, 200))
    assert (few.value, few.high, many.value) == (1.0, 1.0, 1.0)
    assert 0.85 < few.low < many.low < 1


def test_the_interval_of_an_area_holds_the_true_one() -> None:
    rng = np.random.default_rng(1)
    labels = np.r_[np.ones(40), np.zeros(60)]
    true = float(scipy_stats.norm.cdf(1.5 / np.sqrt(2)))
    held = 0
    for _ in range(300):
        scores = rng.normal(size=100) + 1.5 * labels
        estimate = estimate_auc(scores, labels)
        assert estimate.value == pytest.approx(roc_auc_score(labels, scores))
        held += estimate.low <= true <= estimate.high
    assert held >= 276
