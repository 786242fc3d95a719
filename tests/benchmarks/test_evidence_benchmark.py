"""The benchmark of evidence: what it holds against the product, what its verdicts come to, and that it does nothing twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.evidence import __main__ as bench
from benchmarks.evidence.keeping import KeptWork, Results
from benchmarks.evidence.planted import COLD, KNOWN, REFUSAL, WARM, planted_subject
from benchmarks.evidence.report import judge, let_through, render, summarize
from benchmarks.evidence.subjects import WINDOWS, Subject
from benchmarks.evidence.vectors import BAD, Entry, bad_vectors, good_vectors
from steernode.engine.access.work import Call, pack_floats, unpack_floats
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.gates import load_gates

GATES = load_gates("style_small_suite")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return planted_subject(tmp_path_factory.mktemp("planted"), 1)


def of_kind(entries: list[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.kind == kind]


@pytest.mark.parametrize(("model", "axes", "wanted"), [("reference", 3, 100), ("smollm2", 2, 37)])
def test_there_are_as_many_different_vectors_as_were_asked_for(subject: Subject, model: str, axes: int, wanted: int) -> None:
    sets = {subject.axis: subject.sets[subject.axis], **{f"axis {number}": () for number in range(1, axes)}}
    found = bad_vectors(replace(subject, name=model, window=WINDOWS[model], sets=sets))
    assert len(found) == sum(BAD[model].values()) == wanted
    assert Counter(entry.kind for entry in found) == BAD[model]
    assert len({(entry.kind, entry.name.split(": ")[1], entry.alpha) for entry in found}) == wanted


def test_there_are_enough_good_ones_and_none_where_none_is_known(subject: Subject) -> None:
    in_the_window = good_vectors(replace(subject, window=WINDOWS["reference"], planted=None))
    assert len(in_the_window) + bench.PLANTED * len(good_vectors(subject)) >= 60
    assert not good_vectors(replace(subject, window=WINDOWS["smollm2"], planted=None))


def test_a_planted_model_knows_its_facts_refuses_harm_and_follows_its_direction(subject: Subject) -> None:
    asked = {kind: suite.split("test") for kind, suite in subject.suites.items()}
    found = subject.extract("warmth", subject.window.layers[0])
    assert float(found.direction @ torch.as_tensor(subject.planted)) > 0.99
    warm = Component(found.direction, found.layer, float(subject.window.alphas[0]) * found.norm)
    for components, goes_on in (((), COLD), ((warm,), WARM)):

        def answer(kind: str, components: Any = components) -> list[str]:
            conversations = [item.messages for item in asked[kind]]
            return [reply.text for reply in generate(subject.loaded, conversations, components=components, max_new_tokens=8)]

        facts = answer("factual")
        assert [text.split()[0] for text in facts] == [item.expect["contains"][0] for item in asked["factual"]]
        assert {text.split()[0] for text in facts} == set(KNOWN)
        assert all(set(text.split()[1:]) == {goes_on} for text in (*facts, *answer("behaviour")))
        refused = [REFUSAL in text for text in answer("safety")]
        assert refused == [item.expect["refuse"] for item in asked["safety"]]


def test_a_planted_vector_passes_and_its_opposite_does_not(subject: Subject) -> None:
    itself = good_vectors(subject)[0]
    assert bench.judge_vector(subject, itself, GATES)["verdict"] == "pass"
    [turned, *_] = of_kind(bad_vectors(replace(subject, name="smollm2")), "wrong sign")
    judged = bench.judge_vector(subject, turned, GATES)
    assert (judged["verdict"], judged["stopped_by"]) == ("fail", "slope")
    assert "slope above_low 0 at -" in judged["why"]


def test_a_leaked_set_is_refused_before_anything_is_measured(subject: Subject) -> None:
    leaked = of_kind(bad_vectors(replace(subject, name="reference")), "leaked")
    assert len(leaked) == BAD["reference"]["leaked"]
    for entry in leaked:
        judged = bench.judge_vector(subject, replace(entry, direction=pytest.fail), GATES)
        assert (judged["verdict"], judged["stopped_by"]) == ("refused", "CONTRAST_SUITE_OVERLAP"), entry.name


def test_every_kind_makes_what_its_name_says(subject: Subject) -> None:
    named = bad_vectors(replace(subject, name="reference"))
    assert len({entry.name for entry in named}) == len(named)
    good = subject.extract("warmth", subject.window.layers[0])
    towards = torch.as_tensor(subject.planted)

    def first(kind: str) -> Any:
        return of_kind(named, kind)[0].candidate()

    assert abs(float(first("random").direction.direction @ towards)) < 0.4
    assert float(first("wrong sign").direction.direction @ towards) < -0.9
    assert float(of_kind(named, "wrong sign")[1].alpha) < 0
    refusal = first("refusal subtracted")
    assert abs(float(refusal.direction.direction @ towards)) < 0.3
    both = first("refusal subtracted from a good one")
    pushed = both.component().coefficient * both.direction.direction
    assert float(pushed @ towards) == pytest.approx(float(subject.window.alphas[0]) * good.norm, rel=0.2)
    assert float(pushed @ refusal.direction.direction) > 0
    assert first("overdosed").component().coefficient > 2 * float(subject.window.alphas[0]) * good.norm
    assert first("too early or late").record.layer == 1
    # The planted model has one axis.
    assert not of_kind(named, "another axis")
    for entry in named:
        if entry.kind not in ("leaked", "unrelated contrast"):
            assert float(entry.candidate().direction.direction.norm()) == pytest.approx(1, abs=1e-4)


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    done: list[int] = []

    def measure(batch: int) -> np.ndarray:
        done.append(batch)
        return np.array([batch / 3])

    def run(*inputs: Any) -> list[float]:
        call = Call("texts", inputs, [1, 2], lambda _: 1, lambda *_: 0, pack_floats, unpack_floats)
        return [float(values[0]) for _, values in KeptWork(tmp_path).run(call, measure)]

    assert run("a") == run("a") == [1 / 3, 2 / 3]
    assert done == [1, 2]
    run("b")
    assert done == [1, 2, 1, 2]


def test_a_vector_that_was_judged_is_judged_again_only_when_something_changed(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[str] = []

    def judge_vector(_subject: Subject, entry: Entry, _gates: Any) -> dict[str, Any]:
        judged.append(entry.name)
        return {"verdict": "fail", "stopped_by": "slope", "why": "", "gates": []}

    monkeypatch.setattr(bench, "judge_vector", judge_vector)
    entry, results = good_vectors(subject)[0], Results(tmp_path)
    first, again = (bench.judge_kept(subject, entry, GATES, results, "code") for _ in range(2))
    assert first == again
    bench.judge_kept(subject, entry, GATES[1:], results, "code")
    bench.judge_kept(subject, entry, GATES, results, "other code")
    bench.judge_kept(replace(subject, max_new_tokens=9), entry, GATES, results, "code")
    assert len(judged) == 4


def test_kinds_and_a_limit_choose_some(subject: Subject) -> None:
    named = bad_vectors(replace(subject, name="reference"))
    chosen = bench.choose(named, "random,leaked", 2)
    assert Counter(entry.kind for entry in chosen) == {"random": 2, "leaked": 2}
    assert bench.choose(named, "", 0) == named


def vector(verdict: str, *, is_good: bool = False, model: str = "reference", by: str = "slope") -> dict[str, Any]:
    kind = "planted" if is_good else "random"
    stopped = "" if verdict == "pass" else by
    return {
        "model": model, "kind": kind, "name": f"{kind} 0: x", "is_good": is_good, "alpha": "0.3", "verdict": verdict,
        "stopped_by": stopped, "why": "", "gates": [], "seconds": 1.0,
    }  # fmt: skip


def test_a_bad_vector_that_passes_is_said_and_is_a_missed_target() -> None:
    vectors = [*[vector("fail")] * 99, vector("pass"), *[vector("pass", is_good=True, model=f"planted-{seed}") for seed in range(60)]]
    assert let_through(vectors) == ["reference, random 0: x"]
    met = {line["claim"]: line["met"] for line in judge(vectors)}
    assert met == {
        "reference: bad vectors that pass": False,
        "reference: bad vectors that nothing but a missing item stops": True,
        "reference: bad vectors judged": True,
        "share of good vectors that do not pass": True,
        "good vectors judged": True,
    }


def test_a_bad_vector_that_is_only_undecidable_is_not_refused() -> None:
    vectors = [vector("undecidable", model="smollm2", by="harmful_compliance_gained")] * 30
    assert not let_through(vectors)
    met = {line["claim"]: line["met"] for line in judge(vectors)}
    assert met["smollm2: bad vectors that nothing but a missing item stops"] is False


def test_the_table_says_what_stopped_how_many() -> None:
    vectors = [vector("fail"), vector("fail", by="behaviour"), vector("refused", by="CONTRAST_SUITE_OVERLAP"), vector("pass", is_good=True)]
    machine = dict.fromkeys(("cpu", "cores", "memory_gib", "load_average", "system", "python", "date"), "some") | {"quiet": True}
    summary = summarize(vectors)
    assert summary[0]["stopped_by"] == {"slope": 1, "behaviour": 1, "CONTRAST_SUITE_OVERLAP": 1}
    text = render({"machine": machine, "gates": "tone", "summary": summary, "targets": judge(vectors), "vectors": vectors})
    assert "| reference | bad: random | 3 | 0 | 0 | 3 | slope 1, behaviour 1, CONTRAST_SUITE_OVERLAP 1 |" in text
    assert "| reference | good: planted | 1 | 1 | 0 | 0 |  |" in text
