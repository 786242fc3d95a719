"""The prompt baseline: the same items under what the positive side is told, and steering measured beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from steernode.engine.access.encoding import EncodedConversation, encode_prompt
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.systems import put_under
from steernode.engine.judging.evaluate import Evaluation
from steernode.engine.judging.prompting import ask_prompted, compare_shift, compare_with_prompt, positive_systems
from steernode.engine.measuring.gates import judge_evidence
from steernode.engine.measuring.items import EvalItems
from steernode.engine.measuring.metrics import ReplyScores, measure_first_token_shift
from steernode.engine.reading.directions import LayerDirection, extract_directions
from steernode.errors import EngineError
from steernode.files.contrast import ContrastPair
from steernode.files.conversations import Message
from steernode.files.splits import split_pairs
from steernode.files.suites import SuiteItem
from tests.support.candidates import make_candidate
from tests.support.planted_models import WARM_SYSTEM, CountWarmTokens, Planted, plant, write_pairs, write_suites
from tests.support.tiny_models import ask

PAIRS = split_pairs(write_pairs())


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"), 2)


@pytest.fixture(scope="module")
def direction(planted: Planted) -> LayerDirection:
    return extract_directions(planted.loaded, PAIRS["extract"], layers=[planted.layer])[0]


def pair(name: str, positive: tuple[Message, ...], negative: tuple[Message, ...]) -> ContrastPair:
    return ContrastPair(name, positive, negative, "en-US", "", "0" * 64)


def test_the_prompt_is_what_the_positive_sides_alone_are_told_the_most_frequent_first() -> None:
    pairs = [pair(str(number), ask("Hi", told), ask("Hi", "Be cold.")) for number, told in enumerate(["Be kind.", "Be warm.", "Be warm."])]
    assert positive_systems(pairs) == ("Be warm.", "Be kind.")
    # Sides that differ in what they ask or answer have no prompt in common.
    assert positive_systems([pair("x", ask("Hi", "Answer."), ask("Hello", "Answer."))]) == ()
    assert positive_systems([pair("x", ask("Kindly?"), ask("Coldly?"))]) == ()


def test_a_system_message_follows_the_conversation_s_own_and_stands_in_the_question_where_there_is_none(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, told = ask("Hi"), ask("Hi", "Be brief.")
    [under, both, same] = put_under(llama, [plain, told, plain], ["Be kind.", "Be kind.", ""])
    assert under == ask("Hi", "Be kind.")
    assert both == ask("Hi", "Be brief.\n\nBe kind.")
    assert same == plain

    def refuse(_loaded: LoadedModel, messages: tuple[Message, ...]) -> None:
        if messages[0].role == "system":
            raise EngineError("CHAT_TEMPLATE", "no system", "system")

    monkeypatch.setattr("steernode.engine.access.systems.encode_prompt", refuse)
    assert put_under(llama, [plain], ["Be kind."]) == [ask("Be kind.\n\nHi")]


def test_a_system_message_that_the_chat_template_drops_without_a_word_stands_in_the_question(
    llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(loaded: LoadedModel, messages: tuple[Message, ...]) -> EncodedConversation:
        return encode_prompt(loaded, tuple(message for message in messages if message.role != "system"))

    monkeypatch.setattr("steernode.engine.access.systems.encode_prompt", drop)
    assert put_under(llama, [ask("Hi")], ["Be kind."]) == [ask("Be kind.\n\nHi")]


def test_the_wordings_are_asked_in_turn(llama: LoadedModel) -> None:
    asked = ask_prompted(llama, [ask(str(number)) for number in range(5)], ["a", "b"])
    assert [conversation[0].content for conversation in asked] == ["a", "b", "a", "b", "a"]


def test_the_shift_of_the_first_token_is_the_divergence_of_both_prompts(llama: LoadedModel) -> None:
    plain = [ask("Hi"), ask("A longer question than that"), ask("Hi")]
    other = [ask("Hi", "Be kind."), ask("A longer question than that", "Be very kind indeed."), ask("Hi")]
    found = measure_first_token_shift(llama, plain, other)

    def log_probabilities(messages: tuple[Message, ...]) -> torch.Tensor:
        ids = torch.tensor([encode_prompt(llama, messages).token_ids])
        return llama.model(input_ids=ids).logits[0, -1].double().log_softmax(dim=0)

    with torch.inference_mode():
        wanted = [
            float(((a - b) * a.exp()).sum()) for a, b in zip(map(log_probabilities, plain), map(log_probabilities, other), strict=True)
        ]
    assert found == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert (found[:2] > 0).all()


def scores(behaviour: list[float], nats: float = 10.0) -> ReplyScores:
    n = len(behaviour)
    none, one = np.zeros(0), np.ones(1)
    return ReplyScores(
        behaviour=np.array(behaviour), facts=one, refusing=one, harmful=np.ones(1, bool), capability=none,
        nats=np.full(n, nats), tokens=np.full(n, 10.0), repetition=np.zeros(n), reply_tokens=np.full(n, 10.0),
    )  # fmt: skip


def compare(own: list[float], steered: list[float], prompted: list[float]) -> dict:
    items = EvalItems(tuple(SuiteItem(f"t{number}", "test", ask("?"), {}, "en-US", "", "0" * 64) for number in range(len(own))), (), ())
    of_replies = compare_with_prompt(items, scores(own), scores(steered, nats=11.0), scores(prompted, nats=12.0))
    return of_replies | compare_shift(np.array([0.1, 0.4]), np.array([0.4, 0.6]))


def test_a_gain_is_told_as_a_share_of_the_prompt_s_whatever_the_scale_of_the_rubric() -> None:
    own, steered, prompted = [1.0, 2.0, 1.5, 1.0] * 2, [2.0, 3.0, 2.0, 2.5] * 2, [3.0, 4.0, 3.0, 3.5] * 2
    found = compare(own, steered, prompted)
    assert float(found["behaviour_share"]["steered"]["value"]) == pytest.approx(4.0 / 8.0)
    assert "undecidable" not in found["behaviour_share"]
    # Of so few tickets no interval says that the prompt gains at all.
    assert compare(own[:4], steered[:4], prompted[:4])["behaviour_share"]["undecidable"]["code"] == "ITEMS_FEW"
    doubled = compare(*([2 * value for value in values] for values in (own, steered, prompted)))
    assert doubled["behaviour_share"] == found["behaviour_share"]
    assert float(found["perplexity_over_prompt"]["steered"]["value"]) == pytest.approx(np.exp(1.1 - 1.2), rel=1e-5)
    assert float(found["perplexity_over_prompt"]["baseline"]["value"]) == pytest.approx(np.exp(1.0 - 1.2), rel=1e-5)
    assert float(found["kl_over_prompt"]["steered"]["value"]) == pytest.approx(0.5)


def test_a_share_of_what_the_prompt_does_not_gain_is_undecidable() -> None:
    found = compare([1.0, 2.0, 3.0, 2.0], [2.0, 3.0, 4.0, 3.0], [1.5, 1.5, 3.5, 1.5])
    assert found["behaviour_share"]["undecidable"]["code"] == "PROMPT_NO_GAIN"


@pytest.mark.parametrize("kind", ["max", "max_high"])
def test_a_share_of_what_the_prompt_does_not_move_is_undecidable(kind: str) -> None:
    gate = {"metric": "kl_over_prompt", "kind": kind, "threshold": "0.5"}
    for shift in (0.0, 1e-12):
        for steered in (3.0, 0.0):
            found = compare_shift(np.full(40, steered), np.full(40, shift))
            [judged] = judge_evidence([gate], found)
            assert (judged["verdict"], judged["code"]) == ("undecidable", "PROMPT_NO_SHIFT")
    assert compare_shift(np.full(40, 3.0), np.zeros(40))["kl_over_prompt"]["steered"]["value"] == "100"
    assert judge_evidence([gate], compare_shift(np.full(40, 0.1), np.full(40, 0.4)))[0]["verdict"] == "pass"


def test_the_evidence_says_what_the_prompt_alone_does(planted: Planted, direction: LayerDirection) -> None:
    gates = [
        {"metric": "behaviour_share", "kind": "min_low", "threshold": "0.5"},
        {"metric": "perplexity_over_prompt", "kind": "max", "threshold": "100"},
    ]
    candidate, suites = make_candidate(direction, "0.5"), write_suites(20)
    evidence = Evaluation(planted.loaded, candidate, suites, CountWarmTokens(), gates, pairs=PAIRS, max_new_tokens=5).finish().document
    assert evidence["run"]["prompt"] == [WARM_SYSTEM]
    behaviour = evidence["metrics"]["behaviour"]
    # The planted model is as warm as it can be under the system message's token.
    assert float(behaviour["prompt"]["value"]) > float(behaviour["baseline"]["value"]) + 2
    assert {"prompt"} <= evidence["replies"][0].keys()
    assert all(gate["verdict"] == "pass" for gate in evidence["gates"])


def test_without_a_prompt_no_gate_is_about_it(planted: Planted, direction: LayerDirection) -> None:
    sides = {name: [replace(each, positive=each.positive[1:], negative=ask("n", "-")[1:]) for each in part] for name, part in PAIRS.items()}
    gate = {"metric": "kl_over_prompt", "kind": "max", "threshold": "1"}
    with pytest.raises(EngineError, match="nothing that could be a prompt") as refused:
        Evaluation(planted.loaded, make_candidate(direction, "0.5"), write_suites(), CountWarmTokens(), [gate], pairs=sides).finish()
    assert refused.value.code == "GATE_UNMEASURED"
