"""Documents from the store are read for what they hold; nothing in them can break a page or bend a chart."""

from decimal import Decimal

import pytest

from registry.blobs import put_blob
from registry.console.charts import draw_panels, read_tested
from registry.console.documents import METRICS, OTHER_METRICS, describe_engine, read_document, title_metrics
from registry.templatetags.console import percent, share
from steernode.gates import KINDS, passes
from steernode.gates import METRICS as GATE_METRICS
from steernode.records.evidence import read_estimate, read_evidence, read_gates
from steernode.records.sweep import read_cells, read_curve
from tests.support import story


@pytest.mark.parametrize("data", [b"", b"[1]", b"not json", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}'])
def test_a_blob_that_is_no_document_is_a_sentence(data):
    document = read_document(put_blob(data))
    assert not document.data
    assert document.problem


@pytest.mark.parametrize(
    "odd", [None, 7, "text", [], {}, {"replies": 3, "metrics": [1], "curve": {"a": 1}, "gates": "x"}, {"replies": [{}, 4]}]
)
def test_documents_of_another_shape_give_nothing_and_raise_nothing(odd):
    document = odd if isinstance(odd, dict) else {"replies": odd, "metrics": odd, "curve": odd}
    evidence = read_evidence(document)
    assert all(not reply.asked for reply in evidence.replies)
    assert title_metrics(evidence.metrics) == []
    assert draw_panels(evidence.curve, read_tested(evidence.metrics, Decimal("0.5")), evidence.gates, Decimal("0.5")) == []
    assert read_gates(odd) == ()


@pytest.mark.parametrize("value", [None, True, 1.5, "NaN", "Infinity", "x", {"value": "NaN"}, {}, []])
def test_what_is_no_finite_number_is_no_estimate(value):
    assert read_estimate(value) is None


def test_every_metric_that_a_gate_may_name_has_words_of_its_own_and_is_listed():
    measured = {name: {"steered": "1"} for name in [*GATE_METRICS, "of_a_later_version"]}
    titled = dict(title_metrics(read_evidence({"metrics": measured}).metrics))
    assert len(titled) == len(measured)
    assert "Of a later version" in titled
    assert all(name in METRICS or name in OTHER_METRICS for name in GATE_METRICS)


def draw(**changes):
    tested = {"behaviour": {Decimal(0): read_estimate("1.4"), Decimal("0.5"): read_estimate(story.make_estimate("4.2", "4.07", "4.32"))}}
    curve, gates = read_curve(story.make_sweep()["curve"]), read_gates(story.GATES)
    arguments = {"curve": curve, "tested": tested, "gates": gates, "proposed": Decimal("0.5"), **changes}
    return {panel.metric: panel for panel in draw_panels(**arguments)}


def test_each_metric_has_its_panel_and_the_proposed_alpha_its_line():
    panels = draw()
    assert list(panels) == ["behaviour", "facts", "refusals", "perplexity_ratio"]
    behaviour = panels["behaviour"]
    at_half = next(point for point in behaviour.points if "α 0.5" in point.label)
    assert behaviour.proposed_x == at_half.x
    assert len({panel.proposed_x for panel in panels.values()}) == 1


def test_a_higher_value_is_drawn_higher_and_a_gate_on_the_metrics_own_scale():
    behaviour = draw()["behaviour"]
    heights = [float(point.y) for point in behaviour.points]
    assert heights[0] > heights[4]
    # Half a point above what the test split said without steering.
    assert behaviour.gate.label == "gate 1.9"
    assert float(behaviour.gate.y) < heights[0]


def test_the_side_of_a_gate_that_fails_is_shaded():
    panels = draw()
    facts, ratio = panels["facts"], panels["perplexity_ratio"]
    assert facts.gate.fail_y == facts.gate.y
    assert float(ratio.gate.fail_y) + float(ratio.gate.fail_height) == pytest.approx(float(ratio.gate.y))


@pytest.mark.parametrize("kind", KINDS)
def test_the_shaded_side_is_the_one_that_the_kind_of_gate_refuses(kind):
    gate = {"metric": "behaviour", "kind": kind, "threshold": "1", "value": "1", "verdict": "fail"}
    drawn = draw(gates=read_gates([gate]))["behaviour"].gate
    is_above_shaded = float(drawn.fail_y) < float(drawn.y)
    assert is_above_shaded is not passes(gate, Decimal(9))
    assert is_above_shaded is passes(gate, Decimal(-9))
    # 1.4 is what the model has unsteered.
    number, side = "2.4" if "difference" in kind else "1", KINDS[kind].side
    end = {"low": ", for the lower bound", "high": ", for the upper bound"}.get(side, "")
    assert drawn.label == f"gate {number}{end}"


def test_everything_drawn_stays_inside_the_frame():
    wild = [{"alpha": alpha, "behaviour": value} for alpha, value in (("-3", "0"), ("0", "5"), ("12.5", "99999"))]
    panel = draw(curve=read_cells(wild), proposed=Decimal("12.5"))["behaviour"]
    for point in [*panel.points, *panel.tested]:
        assert panel.left <= float(point.x) <= panel.right
        assert panel.top <= float(point.y) <= panel.bottom


def test_a_single_value_is_drawn_without_dividing_by_zero():
    flat = [{"alpha": "0", "facts": "1"}]
    panel = draw_panels(read_cells(flat), {}, [], Decimal(0))[0]
    assert (panel.metric, len(panel.points)) == ("facts", 1)


def test_who_decides_sees_what_the_numbers_were_measured_on():
    engine = {
        "device_name": "NVIDIA H200",
        "dtype": "bfloat16",
        "kernels": "CUDA 13.0",
        "attention": "sdpa",
        "torch": "2.13.0",
        "numpy": "2",
    }
    assert describe_engine(read_evidence({"engine": engine}).engine) == "NVIDIA H200, bfloat16, CUDA 13.0, attention sdpa, torch 2.13.0"
    assert describe_engine(read_evidence({"engine": {"dtype": "float32"}}).engine) == "float32"
    assert describe_engine(read_evidence({"engine": "x"}).engine) == ""


@pytest.mark.parametrize(("value", "said"), [("0.5", "50 %"), ("0.9", "90 %"), ("0.0833", "8.33 %"), ("0", "0 %"), (None, "—")])
def test_a_share_is_written_without_zeros_at_its_end(value, said):
    assert percent(value) == said


def test_a_share_in_a_sentence_has_its_interval_in_brackets():
    assert share(read_estimate(story.make_estimate("0.5", "0.366", "0.634"))) == "50 % (36.6 % to 63.4 %)"
    assert share(read_estimate("0.5")) == "50 %"
    assert share(None) == "an unknown share"
