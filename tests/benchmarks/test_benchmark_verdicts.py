"""Targets are judged as the issue words them, and a miss is said plainly."""

import json

from benchmarks.engine.effort import QUICK, Effort
from benchmarks.engine.report import judge, render, table
from benchmarks.peers import copy_for_transformers_4

SIDE = {"median_s": 1.0, "q1_s": 0.9, "q3_s": 1.1, "repeats": 9, "pairs_per_s": 128.0}


def extraction(data, *, to_rival, to_bare, distinct=100, error=1e-7):
    return {
        "model": "reference", "data": data, "pairs": 128, "tokens_asked": 100, "distinct_tokens": distinct, "rival": "repeng",
        "setups": {"repeng": {"batch_size": 8, "side": "left"}}, "bare_rows_per_batch": 4,
        "sides": {"ours": SIDE, "repeng": SIDE, "bare": SIDE}, "tokens": {}, "memory_peak_above_start_bytes": {"ours": 1024**2},
        "ratio_to_rival": {"value": to_rival}, "ratio_to_bare": {"value": to_bare}, "relative_error": {"0": error},
    }  # fmt: skip


def verdicts(report):
    return {line["claim"]: line["met"] for line in judge(report)}


def test_each_kind_of_pairs_has_its_own_bound_against_the_faster_peer():
    met = verdicts(
        {
            "extraction": [
                extraction("nothing shared", to_rival=1.45, to_bare=0.95),
                extraction("shared prefix", to_rival=1.45, to_bare=0.95, distinct=50),
            ]
        }
    )
    assert met["extraction, reference, nothing shared: times the faster peer at its best (repeng)"]
    assert met["extraction, reference, nothing shared: times the bare truncated forward pass"]
    assert not met["extraction, reference, shared prefix: times the faster peer at its best (repeng)"]
    assert not met["extraction, reference, shared prefix: times the bare truncated forward pass"]


def test_fast_and_wrong_is_a_miss():
    met = verdicts({"extraction": [extraction("nothing shared", to_rival=9, to_bare=9, error=2e-5)]})
    assert not met["extraction, reference, nothing shared: largest relative error of a layer"]


def test_sweep_that_chooses_another_cell_is_a_miss_however_fast():
    search = {"same_cell": {"steering-vectors": False, "ours": True}, "sweep_ratio": {"value": 40.0}, "grid_ratio": {"value": 1.2}}
    assert list(verdicts({"search": search}).values()) == [False, True, False]


def test_report_says_misses_and_a_busy_machine_and_a_quick_run():
    machine = {
        "cpu": "a CPU", "cores": 2, "memory_gib": 24.0, "load_average": 3.0, "quiet": False, "system": "Linux", "python": "3.11",
        "date": "2026-11-22 15:00 UTC",
    }  # fmt: skip
    report = {"quick": True, "machine": machine, "versions": {"ours": {"torch": "2.13.0"}}, "notes": ["a note"]}
    report["memory"] = {"ratio": 1.2, "runs": [{"pairs": 1000, "memory_peak_bytes": 1024**2, "seconds": 1.0}]}
    report["extraction"] = [extraction("nothing shared", to_rival=2, to_bare=1)]
    report["targets"] = judge(report)
    text = render(report)
    assert "Targets: 3 of 4 met" in text
    assert "| peak memory of many pairs over few | ≤ 1.1 | 1.200 | **missed** |" in text
    assert "too few repeats" in text
    assert "not to be trusted" in text


def test_table_is_markdown():
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_full_run_repeats_at_least_nine_times_and_the_quick_one_says_that_it_is_quick():
    full = Effort()
    assert full.repeats >= 9
    assert min(full.serving_repeats.values()) >= 9
    # One layer of the reference model's eight is one repeat of the grid.
    assert full.grid_passes * len(full.grid_layers(8)) >= 9
    assert full.memory_pairs == (1_000, 100_000)
    assert QUICK.quick
    assert not full.quick


def test_copy_for_transformers_4_leaves_the_original_alone(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    config = {"hidden_size": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes(b"weights")
    copy_for_transformers_4(model, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "config.json").read_text()) == {"hidden_size": 8, "rope_theta": 500.0}
    assert json.loads((model / "config.json").read_text()) == config
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == b"weights"
