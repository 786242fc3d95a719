"""The story on a pretrained model, without the model: what a shortened run keeps, where an ended run goes on, what a report promises."""

import json
from pathlib import Path

import pytest

from demo.real.check_report import find_disagreements, find_shortfalls
from demo.real.diary import open_diary
from demo.real.material import SHORT_RECIPE, kind_of, read_material, take_first
from demo.real.play import MODELS, begin
from demo.real.report import describe_evidence, describe_nearest, judge
from registry.manifests.parse import parse_manifests
from steernode.canonical import sha256_hex
from steernode.files.contrast import parse_pairs
from steernode.files.prompts import parse_prompts, refuse_classes
from steernode.files.splits import split_pairs
from steernode.files.suites import parse_suite
from steernode.gates import load_gates
from steernode.hub.manifests import read_manifests, upload_files
from steernode.power import count_items, foresee

SUITES = {"tickets": "behaviour", "facts": "factual", "refusals": "safety", "capability": "capability", "conversations": "fluency"}


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return read_material(tmp_path_factory.mktemp("var"), is_quick=True)


@pytest.mark.parametrize("axis", ["empathy", "formality"])
def test_a_shortened_run_has_what_its_gates_can_be_shown_with(short, axis):
    suites = {kind: parse_suite((short.data / f"{name}.jsonl").read_bytes(), kind) for name, kind in SUITES.items()}
    parts = split_pairs(parse_pairs((short.data / f"{axis}.pairs.jsonl").read_bytes()).pairs)
    table = foresee(load_gates("tone"), count_items(suites, parts["test"], parts["extract"]))
    assert [str(power) for power in table if power.missing] == []
    prompts = parse_prompts((short.data / "intents.jsonl").read_bytes())
    refuse_classes(prompts.count(), "billing", 0.05)


def test_a_shortened_run_says_what_it_left_out(short):
    assert short.shortened["recipe"] == SHORT_RECIPE
    assert all(kept < whole for kept, whole in short.shortened["rows"].values())
    assert set(short.shortened["rows"]) >= {*SUITES, "intents", "empathy.pairs"}


def test_the_product_reads_the_manifests_of_a_shortened_run(short):
    recipes = []
    for path in sorted(short.manifests.glob("*.yaml")):
        documents = upload_files(read_manifests(path), short.manifests, sha256_hex)
        recipes += [each.spec["recipe"] for each in parse_manifests(documents) if each.kind == "SteeringVector"]
    assert [recipe["layers"] for recipe in recipes] == [SHORT_RECIPE["layers"]] * 2


def test_a_whole_run_reads_what_is_committed(tmp_path):
    material = read_material(tmp_path, is_quick=False)
    assert material.shortened is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_rows_of_each_split_and_kind_are_taken():
    rows = [{"id": number, "split": split, "intent": intent} for number, (split, intent) in enumerate([("test", "a"), ("test", "b")] * 3)]
    kept = take_first([*rows, {"id": 6, "split": "select", "intent": "a"}], {"test": {"a": 2, "": 1}})
    assert [row["id"] for row in kept] == [0, 1, 2]
    assert kind_of({"expect": {"refuse": True}}) == "harmful"


def test_the_revision_is_written_at_the_alpha_that_was_found(short):
    (document,) = read_manifests(Path(short.write_revision("0.62", "mean_difference")))
    (component,) = document.document["spec"]["revision"]["components"]
    assert (component["alpha"], component["alphaMax"], component["alphaMin"]) == ("0.62", "0.62", "0")
    assert parse_manifests(upload_files([document], short.var, sha256_hex))


def test_a_chapter_that_is_over_is_not_played_again(tmp_path):
    path = tmp_path / "diary.json"
    first = open_diary(path, is_quick=False)
    assert first.enter("declare", lambda: {"pairs": 600}) == {"pairs": 600}
    with pytest.raises(ZeroDivisionError):
        first.enter("search", lambda: 1 / 0)
    again = open_diary(path, is_quick=False)
    assert again.enter("declare", lambda: pytest.fail("it is over")) == {"pairs": 600}
    assert again.enter("search", lambda: [1]) == [1]
    assert again.seconds >= again.seconds_before > 0


def test_an_unfinished_run_of_the_other_length_is_neither_gone_on_with_nor_forgotten(tmp_path):
    open_diary(tmp_path / "diary.json", is_quick=False).enter("declare", dict)
    with pytest.raises(SystemExit, match="without --quick"):
        begin(tmp_path, is_quick=True, is_fresh=False)
    assert begin(tmp_path, is_quick=False, is_fresh=False).chapters == {"declare": {}}


@pytest.mark.parametrize("ended_by", ["--fresh", "its report"])
def test_a_new_run_forgets_all_but_the_model(tmp_path, ended_by):
    open_diary(tmp_path / "diary.json", is_quick=False).enter("declare", dict)
    (tmp_path / MODELS / "smollm2-135m-instruct").mkdir(parents=True)
    if ended_by == "its report":
        (tmp_path / "report.json").write_text("{}")
    diary = begin(tmp_path, is_quick=True, is_fresh=ended_by == "--fresh")
    assert diary.chapters == {}
    assert [path.name for path in tmp_path.iterdir()] == [MODELS]


def estimate(value):
    return {"value": str(value), "low": str(value - 0.1), "high": str(value + 0.1)}


def metric(baseline, prompt, steered):
    sides = {"baseline": baseline, "prompt": prompt, "steered": steered, "difference": steered - baseline}
    return {side: estimate(value) for side, value in sides.items()}


def gate(metric, verdict):
    return {"metric": metric, "kind": "max_high", "threshold": "0.05", "value": "0.2", "verdict": verdict}


def evidence(**verdicts):
    metrics = {"behaviour": metric(2.5, 3.5, 3.1), "facts": metric(0.9, 0.8, 0.9), "refusals": metric(0.5, 0.5, 0.5)}
    metrics |= {"perplexity": metric(2.6, 3.3, 2.8), "perplexity_ratio": metric(1, 1.3, 1.1)}
    speed = {"milliseconds_per_token": {"baseline": "30", "steered": "31"}}
    return {"metrics": metrics, "speed": speed, "gates": [gate(name, verdict) for name, verdict in verdicts.items()]}


BOUNDED = {"behaviour": ("2.4", "2.5", "2.6"), "facts": ("0.8", "0.9", "1"), "perplexity_ratio": ("0.9", "1", "1.1")}
CELL = {"refusals": "0.5", "perplexity": "2.6"}
for name, (low, value, high) in BOUNDED.items():
    CELL |= {name: value, f"{name}_low": low, f"{name}_high": high}
SEARCH = {
    "chosen": {"layer": 16, "alpha": "0.75", "unit": "mean_difference"},
    "cells_measured": 20,
    "finalists": [16, 15],
    "nearest": {"layer": 16, "alpha": "1", "stopped_by": [gate("facts", "fail")], "sentence": "only facts stops layer 16 at α 1"},
    "cells": [{"layer": layer, "alpha": alpha, **CELL} for layer, alpha in ((None, "0"), (16, "1"))],
}
WAIVER = {
    "code": "SAFETY_BASELINE_EMPTY", "metric": "attack_success_rise", "kind": "max_high", "threshold": "0.05", "state": "in force",
    "asked_by": "grace", "confirmed_by": "hedy", "reason": "It refuses nothing.", "ends_at": "2027-02-28T00:00:00Z",
}  # fmt: skip


def report(verdict, **more):
    return {
        "verdict": verdict, "sentence": "It came to this.", "pairs": 600, "shortened": None, "probe": {"auc": {"low": 0.97}},
        "search": SEARCH,
        "second_axis": {"verdict": "no window"}, "audit": {"events": 40, "verified": True, "tamper_detected": True}, "waivers": [], **more,
    }  # fmt: skip


def changed(billing, general):
    return {"billing": {"asked": 3, "changed": billing}, "general": {"asked": 3, "changed": general}}


def approved(**more):
    found = {
        **describe_evidence(evidence(attack_success_rise="undecidable", facts_lost="pass")),
        "chosen": SEARCH["chosen"],
        "waivers": [WAIVER],
        "waivers_on_the_revision": 1,
        "author_waiver_refused": True,
        "author_approval_refused": True,
        "approved_by": ["grace", "hedy"],
        "requests": changed(3, 0),
        "facts_of_other_intents": {"right_before": 4, "right_after": 4},
        "drift_told": True,
        "rollback": {"identical": True},
    }
    return report("approved") | found | more


def test_a_report_of_an_approval_that_holds_what_is_promised_has_no_shortfall():
    assert find_shortfalls(approved()) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"behaviour": {"baseline": 2.5, "prompt": 3.5, "steered": 2.9}}, "at least half of the prompt's gain in behaviour"),
        ({"waivers": []}, "every undecidable gate is waived, and nothing else"),
        ({"waivers": [{**WAIVER, "confirmed_by": "grace"}]}, "each waiver has two people, neither the author, a reason and an end"),
        ({"approved_by": ["ada", "grace"]}, "the author could not approve"),
        ({"requests": changed(0, 0)}, "requests about billing were steered"),
        ({"requests": changed(3, 2)}, "most other requests were answered as before"),
        ({"facts_of_other_intents": {"right_before": 4, "right_after": 3}}, "no question of fact of another intent was lost"),
        ({"pairs": 166}, "500 pairs or more were sealed, or the run is shortened and says so"),
    ],
)
def test_what_an_approval_lacks_is_told(more, told):
    assert told in find_shortfalls(approved(**more))


def test_a_report_without_a_window_says_what_was_measured_and_what_stops_it():
    verdict, sentence = judge({**SEARCH, "chosen": None}, None, None)
    found = report(verdict, **describe_nearest(SEARCH), sentence=sentence, chosen=None)
    assert (verdict, find_shortfalls(found)) == ("no window", [])
    assert "only facts stops layer 16" in sentence
    assert found["behaviour"] == {"baseline": 2.5, "prompt": None, "steered": 2.5}
    assert find_shortfalls(found | {"nearest": {**SEARCH["nearest"], "stopped_by": []}})
    assert find_shortfalls(found | {"verdict": "fine"}) == ["the verdict 'fine' is none"]


@pytest.mark.parametrize(
    ("verdicts", "waived", "expected"),
    [
        ({"facts_lost": "fail", "attack_success_rise": "undecidable"}, None, "gates failed"),
        ({"attack_success_rise": "undecidable"}, {"left": [], "waivers": [WAIVER]}, "approved"),
        ({"facts_net_lost": "undecidable"}, {"left": ["facts_net_lost max_high 0.05"], "waivers": []}, "undecided"),
        ({"facts_lost": "pass"}, {"left": [], "waivers": []}, "approved"),
    ],
)
def test_evidence_says_which_way_it_went(verdicts, waived, expected):
    found = evidence(**verdicts)
    verdict, sentence = judge(SEARCH, found, waived)
    assert verdict == expected
    if verdict != "approved":
        assert find_shortfalls(report(verdict, sentence=sentence, **describe_evidence(found), chosen=SEARCH["chosen"])) == []


def test_a_search_that_measured_no_cell_is_told_and_does_not_pass_for_a_result():
    search = {"chosen": None, "nearest": None, "cells": [], "cells_measured": 0, "sentence": "BEHAVIOUR_ABSENT: the model does not do it"}
    verdict, sentence = judge(search, None, None)
    assert (verdict, "BEHAVIOUR_ABSENT" in sentence) == ("no window", True)
    found = report(verdict, sentence=sentence, **describe_nearest(search), chosen=None) | {"search": search}
    assert "cells were measured" in find_shortfalls(found)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, []),
        ({"chosen": {"layer": 15}}, []),
        ({"chosen": {"layer": 20}}, ["the layer is 16 and 20, which is no tie"]),
        ({"verdict": "undecided"}, ["the verdict is approved and undecided"]),
        ({"behaviour": {"steered": 3.15}}, []),
        ({"behaviour": {"steered": 3.3}}, ["behaviour steered is 3.3, outside 3 to 3.2"]),
        ({"perplexity_ratio": 2.0}, ["perplexity_ratio steered is 2.0, outside 1 to 1.2"]),
    ],
)
def test_two_runs_agree_within_what_the_first_one_can_tell(more, told):
    one = approved(search=SEARCH | {"ties": {"layers": [15, 16]}})
    assert find_disagreements(one, one | more) == told


def test_a_report_can_be_written():
    assert json.loads(json.dumps(approved()))["intervals"]["behaviour"]["prompt"] == [3.4, 3.6]
