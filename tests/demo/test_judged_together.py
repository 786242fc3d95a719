"""Several components of the reference model judged together: what the evidence holds, and what cannot be judged."""

import copy
import json
from dataclasses import replace

import pytest
import torch

from demo.corpus.files import DATA_FOLDER
from demo.train_model import MODEL_FOLDER
from steernode.canonical import canonical_json, parse_strict
from steernode.engine.access.models import LoadedModel, load_model
from steernode.engine.judging import refusals
from steernode.engine.judging.candidate import Candidate
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.evidence import check_evidence
from steernode.engine.judging.together import evaluate_together
from steernode.engine.measuring import metrics
from steernode.engine.measuring.margins import margin_items, margin_texts
from steernode.engine.measuring.refusaljudge import COMPLIANCE, REFUSAL, UNSURE
from steernode.engine.measuring.rubric import RubricScorer
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from steernode.files.contrast import parse_pairs
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteFile, parse_rubric, parse_suite
from steernode.gates import composition_gates
from tests.support.candidates import make_candidate
from tests.support.judging import SaysOfAll
from tests.support.rounding import tolerance_of_scores

PAIRS = split_pairs(parse_pairs((DATA_FOLDER / "empathy.pairs.jsonl").read_bytes()).pairs)
DIGEST = "d" * 64
SUITES = {"behaviour": "tickets", "factual": "facts", "safety": "refusals"}


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(MODEL_FOLDER)


@pytest.fixture(scope="module")
def scorer() -> RubricScorer:
    rubric = parse_rubric((DATA_FOLDER / "empathy.rubric.jsonl").read_bytes())
    return RubricScorer.train(rubric.examples, rubric.axis)


def take(name: str, kind: str, count: int = 6, **expect: object) -> SuiteFile:
    """A few test items, those with this expectation alone where one is given."""
    rows = [json.loads(line) for line in (DATA_FOLDER / f"{name}.jsonl").read_text().splitlines()]
    chosen = [row for row in rows if row["split"] == "test" and expect.items() <= row["expect"].items()][:count]
    return parse_suite(b"".join(json.dumps(row).encode() + b"\n" for row in chosen), kind)


@pytest.fixture(scope="module")
def suites() -> dict[str, SuiteFile]:
    return {kind: take(name, kind) for kind, name in SUITES.items()}


@pytest.fixture(scope="module")
def warm(loaded: LoadedModel) -> LayerDirection:
    return extract_directions(loaded, PAIRS["extract"][:64], layers=[5])[0]


@pytest.fixture(scope="module")
def odd(warm: LayerDirection) -> LayerDirection:
    """Across the first one, at the next layer."""
    noise = torch.randn(warm.direction.shape, generator=torch.Generator().manual_seed(3))
    apart = noise - (noise @ warm.direction) * warm.direction
    return replace(warm, layer=6, direction=apart / apart.norm())


@pytest.fixture(scope="module")
def two(warm: LayerDirection, odd: LayerDirection) -> dict[str, Candidate]:
    return {
        "warm": make_candidate(warm, "0.2", digest="a" * 64, scope="assistant"),
        "odd": make_candidate(odd, "0.05", digest="b" * 64, schedule={"kind": "linear", "tokens": 20}),
    }


def judge(
    loaded: LoadedModel, candidates: dict[str, Candidate], suites: dict[str, SuiteFile], scorer: RubricScorer, **changes: object
) -> dict:
    asked: dict = {"components_digest": DIGEST, "axes": {"empathy": PAIRS["test"][:6]}, "max_new_tokens": 12, **changes}
    return dict(evaluate_together(loaded, candidates, suites, scorer, **asked).document)


@pytest.fixture(scope="module")
def evidence(loaded: LoadedModel, two: dict[str, Candidate], suites: dict[str, SuiteFile], scorer: RubricScorer) -> dict:
    return judge(loaded, two, suites, scorer)


def test_the_evidence_names_every_component_as_it_was_applied(evidence: dict) -> None:
    assert parse_strict(canonical_json(evidence)) == evidence
    assert evidence["candidate"] is None
    composition = evidence["composition"]
    assert composition["components_digest"] == DIGEST
    said = [(each["name"], each["vector_digest"], each["alpha"], each["scope"], each["schedule"]) for each in composition["components"]]
    assert said == [
        ("warm", "a" * 64, "0.2", "assistant", {"kind": "constant"}),
        ("odd", "b" * 64, "0.05", "generated", {"kind": "linear", "tokens": 20}),
    ]
    assert evidence["run"]["split"] == "test"


def test_parts_and_whole_stand_side_by_side(evidence: dict) -> None:
    composition = evidence["composition"]
    for side in (composition["gates"], composition["norm_shares"], composition["axes"]["empathy"]["effects"]):
        assert set(side) == {"warm", "odd", "joint"}
    [pair] = composition["pairs"]
    assert (pair["parts"], abs(float(pair["cosine"])) < 1e-3) == (["warm", "odd"], True)
    effects = {name: float(effect["value"]) for name, effect in composition["axes"]["empathy"]["effects"].items()}
    assert effects["warm"] > effects["odd"]


def test_the_gates_judge_the_whole(evidence: dict) -> None:
    judged = {gate["metric"]: gate for gate in evidence["gates"]}
    assert set(judged) == {"refusal_margin_kept", "refusal_lost", "harmful_compliance_gained", "kl_p95", "norm_share"}
    composition = evidence["composition"]
    assert judged["refusal_margin_kept"]["value"] == composition["refusals"]["joint"]["kept"]["value"]
    assert judged["norm_share"]["value"] == max(composition["norm_shares"]["joint"].values(), key=float)
    assert judged["kl_p95"]["value"] == evidence["metrics"]["kl_p95"]["steered"]["value"]
    assert evidence["verdict"] == ("pass" if {gate["verdict"] for gate in evidence["gates"]} == {"pass"} else "fail")


@pytest.mark.parametrize("name", ["candidate", "composition"])
def test_evidence_is_of_a_candidate_or_of_a_composition(evidence: dict, name: str) -> None:
    broken = copy.deepcopy(evidence)
    if name == "composition":
        del broken["composition"]
    else:
        broken["candidate"] = broken["composition"]["components"][0]
    with pytest.raises(EngineError) as refused:
        check_evidence(broken)
    assert refused.value.code == "EVIDENCE_INVALID"


def test_one_component_that_ablates_is_judged_as_it_acts(
    loaded: LoadedModel, warm: LayerDirection, suites: dict[str, SuiteFile], scorer: RubricScorer
) -> None:
    asked = composition_gates(["selection"], only_removes=True)
    candidate = make_candidate(warm, "1", digest="a" * 64, unit="absolute", operator="ablate")
    evidence = judge(loaded, {"warm": candidate}, suites, scorer, gates=asked)
    composition = evidence["composition"]
    assert [(each["operator"], each["alpha"]) for each in composition["components"]] == [("ablate", "1")]
    assert composition["pairs"] == []
    effects = composition["axes"]["empathy"]["effects"]
    # One and all are the same steering, scored in other rows of a batch. The interval is of resamples, which rounding may reorder.
    nothing = tolerance_of_scores(loaded, margin_texts(margin_items(loaded, PAIRS["test"][:6])), [candidate.component()])
    alone, joint = (float(effects[name]["value"]) for name in ("warm", "joint"))
    assert alone == pytest.approx(joint, rel=1e-5, abs=nothing)
    assert abs(joint) > 10 * nothing
    assert all(effects["warm"][name] == effects["joint"][name] for name in ("n", "clusters", "method"))
    [behaviour] = [gate for gate in evidence["gates"] if gate["metric"] == "behaviour"]
    assert (behaviour["kind"], behaviour["verdict"]) == ("max_difference", "pass" if float(behaviour["value"]) <= 0 else "fail")


def test_components_with_conditions_are_judged_where_they_act_and_as_they_are_served(
    loaded: LoadedModel, warm: LayerDirection, odd: LayerDirection, suites: dict[str, SuiteFile], scorer: RubricScorer
) -> None:
    tickets = suites["behaviour"]
    said = [replace(item, intent=("billing", "technical", "general")[place % 3]) for place, item in enumerate(tickets.items)]
    suites = {**suites, "behaviour": replace(tickets, items=tuple(said))}
    candidates = {
        "warm": make_candidate(warm, "0.2", digest="a" * 64, condition={"kind": "intent", "labels": ["billing"]}),
        "odd": make_candidate(odd, "0.05", digest="b" * 64, condition={"kind": "intent", "labels": ["technical"]}),
    }
    evidence = judge(loaded, candidates, suites, scorer, system_message="You work for Harbor.")
    assert evidence["acting"]["behaviour"] == {"items": 6, "acts_on": 4}
    assert evidence["items"]["behaviour"] == 4
    assert evidence["run"]["system_message"] == "You work for Harbor."
    assert [each["condition"]["labels"] for each in evidence["composition"]["components"]] == [["billing"], ["technical"]]
    for reply in evidence["replies"]:
        assert reply["messages"][0] == {"role": "system", "content": "You work for Harbor."}


def test_nothing_is_not_judged_together(loaded: LoadedModel, suites: dict[str, SuiteFile], scorer: RubricScorer) -> None:
    with pytest.raises(EngineError) as refused:
        judge(loaded, {}, suites, scorer)
    assert refused.value.code == "COMPOSITION_PARTS"


def test_without_a_refusal_to_lose_nothing_is_judged(
    loaded: LoadedModel, two: dict[str, Candidate], suites: dict[str, SuiteFile], scorer: RubricScorer
) -> None:
    harmless = {**suites, "safety": take("refusals", "safety", refuse=False)}
    with pytest.raises(EngineError, match="no harmful request") as refused:
        judge(loaded, two, harmless, scorer)
    assert refused.value.code == "GATE_UNMEASURED"


@pytest.mark.parametrize(
    ("label", "code"),
    [(COMPLIANCE, "SAFETY_BASELINE_EMPTY"), (UNSURE, "SAFETY_BASELINE_EMPTY"), (REFUSAL, "REFUSALS_MISSING")],
)
def test_a_model_without_refusals_that_are_sure_gets_evidence_that_is_undecidable(
    loaded: LoadedModel,
    two: dict[str, Candidate],
    suites: dict[str, SuiteFile],
    scorer: RubricScorer,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    code: str,
) -> None:
    for module in (refusals, metrics):
        monkeypatch.setattr(module, "shipped_judge", lambda: SaysOfAll(label))
    evidence = judge(loaded, two, suites, scorer)
    found = {gate["metric"]: (gate["verdict"], gate.get("code")) for gate in evidence["gates"]}
    assert found["refusal_margin_kept"] == found["refusal_lost"] == ("undecidable", code)
    assert evidence["verdict"] != "pass"
    assert evidence["composition"]["refusals"]["joint"]["kept"]["n"] == 0


def test_what_is_measured_of_several_is_not_asked_of_one(
    loaded: LoadedModel, two: dict[str, Candidate], suites: dict[str, SuiteFile], scorer: RubricScorer
) -> None:
    with pytest.raises(EngineError, match="several components") as refused:
        Evaluation(loaded, two["odd"], suites, scorer, "composition").finish()
    assert refused.value.code == "GATE_UNMEASURED"


def test_a_strength_is_not_converted_and_its_bound_is(warm: LayerDirection) -> None:
    component = make_candidate(warm, "0.5", digest="a" * 64, operator="clamp", bound="2").component()
    assert component.coefficient == 0.5
    assert component.bound == pytest.approx(2 * warm.norm, rel=1e-6)
