"""The benchmark of a card: what its figures come to, and that what was not measured is not met."""

from benchmarks.gpu.report import judge, lines_of

SIDES = {"ours": {"median_s": 0.5}, "bare, 64": {"median_s": 0.4}}


def reading(kind, speed):
    return {
        "pairs": kind, "count": 256, "sides": SIDES, "fastest_bare": "bare, 64", "over_bare": {"value": speed},
        "capture": {"packed_windows": 0},
    }  # fmt: skip


def decoding(rows, *, over):
    return {
        "rows": rows, "ms_per_step": {"unsteered": 4.0}, "floor_ms": 3.4, "over_floor": {"unsteered": 1.2, "one layer": over},
        "share_of_tokens_as_over_a_growing_cache": {"unsteered": 0.98, "one layer": 1.0},
    }  # fmt: skip


def verdicts(**sections):
    targets = judge({"models": [{"name": "7B", **sections}]})
    return {target["claim"].removeprefix("7B, "): target["met"] for target in targets}


def test_every_kind_of_pairs_and_both_batches_have_a_bound_of_their_own():
    met = verdicts(
        reading=[reading("system contrast", 0.95), reading("shared prefix", 0.85), reading("nothing shared", 0.9)],
        decoding=[decoding(1, over=1.5), decoding(16, over=1.6), decoding(64, over=9.0)],
    )
    assert met == {
        "reading, system contrast: times the speed of the bare truncated pass": True,
        "reading, shared prefix: times the speed of the bare truncated pass": False,
        "reading, nothing shared: times the speed of the bare truncated pass": True,
        "decoding, batch 1: times bytes over bandwidth": True,
        "decoding, batch 16: times bytes over bandwidth": False,
    }


def test_what_was_left_out_or_failed_is_not_met():
    assert not any(verdicts().values())
    assert not any(verdicts(reading={"failed": "OutOfMemoryError"}, decoding={"failed": "RuntimeError"}).values())


def test_each_figure_has_a_line():
    [line] = lines_of("reading", [reading("system contrast", 0.8)])
    assert line == "reading 256 pairs, system contrast: 0.500 s (plain), bare, 64 0.400 s, 0.80"
    [line] = lines_of("decoding", [decoding(16, over=1.3)])
    assert line == "decoding batch 16, ms a step: unsteered 4.00; bytes / bandwidth 3.40; 98% of tokens alike"
    assert list(lines_of("building", {"seconds": 1.25, "builds": [0]})) == ["building: seconds 1.25, builds [0]"]
