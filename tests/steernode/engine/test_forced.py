"""Teacher forcing from shared work gives what a plain full pass per variant gives, and a run can be resumed at any layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steernode.engine.access.encoding import EncodedConversation
from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.schedules import Schedule
from steernode.engine.applying.steer import steered
from steernode.engine.measuring.forced import ForcedScores, ForcedText, Variant, _Shared, score_forced
from steernode.engine.measuring.resume import read_prompts, record_blocks, resume_after
from steernode.errors import EngineError
from tests.support.tiny_models import CONTEXT, count_hooks


def tokens(seed: int, count: int) -> tuple[int, ...]:
    return tuple(torch.randint(7, 263, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def unit(loaded: LoadedModel, seed: int = 0) -> torch.Tensor:
    vector = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm()


TEXTS = [
    ForcedText(tokens(1, 9), tokens(2, 5), (False,) * 4 + (True,) * 3 + (False,) * 2),
    ForcedText(tokens(1, 9), tokens(3, 3), (False,) * 4 + (True,) * 3 + (False,) * 2),
    ForcedText(tokens(4, 17), tokens(5, 1), (False,) * 17),
    ForcedText(tokens(6, 1), tokens(7, 6), (True,)),
    ForcedText(tokens(8, 2), tokens(9, 4), (False,) * 2),
]


@torch.inference_mode()
def read_plainly(loaded: LoadedModel, text: ForcedText, variant: Variant) -> torch.Tensor:
    """Log-probabilities (tokens, vocabulary) from the whole text in one pass: no cache, no padding, one text at a time."""
    ids = torch.tensor([[*text.prompt, *text.continuation]])
    with steered(loaded, variant, PromptLayout.of([EncodedConversation(text.prompt, text.assistant)])):
        return torch.log_softmax(loaded.model(input_ids=ids, use_cache=False).logits[0, len(text.prompt) - 1 : -1].double(), dim=-1)


def oracle(loaded: LoadedModel, texts: list[ForcedText], variants: list[Variant]) -> ForcedScores:
    likelihoods, divergences = np.zeros((len(variants), len(texts))), []
    for place, text in enumerate(texts):
        own, target = read_plainly(loaded, text, ()), torch.tensor(text.continuation)
        divergences.append(np.zeros((len(variants), len(target))))
        for index, variant in enumerate(variants):
            scored = read_plainly(loaded, text, variant)
            likelihoods[index, place] = float(scored.gather(1, target[:, None]).sum())
            divergences[-1][index] = (own.exp() * (own - scored)).sum(dim=-1).numpy()
    return ForcedScores(likelihoods, tuple(divergences))


def assert_same(ours: ForcedScores, expected: ForcedScores, tolerance: float = 2e-4) -> None:
    np.testing.assert_allclose(ours.log_likelihood, expected.log_likelihood, atol=tolerance, rtol=1e-5)
    for one, other in zip(ours.kl, expected.kl, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance, rtol=1e-4)


@pytest.mark.parametrize(
    ("texts", "variants", "code"),
    [
        ([], [()], "FORCED_EMPTY"),
        (TEXTS, [], "FORCED_EMPTY"),
        ([TEXTS[0], ForcedText((), (9,))], [()], "FORCED_EMPTY"),
        ([TEXTS[0], ForcedText((9,), ())], [()], "FORCED_EMPTY"),
        ([ForcedText(tokens(0, CONTEXT), (9,))], [()], "CONTEXT_LENGTH"),
    ],
)
def test_what_cannot_be_scored_is_refused(llama: LoadedModel, texts: list, variants: list, code: str) -> None:
    with pytest.raises(EngineError) as refused:
        score_forced(llama, texts, variants)
    assert refused.value.code == code


def test_assistant_scope_needs_to_know_who_wrote_what(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        score_forced(llama, [ForcedText((9, 9), (9,))], [[Component(unit(llama), 1, 2.0, scope="assistant")]])
    assert (refused.value.code, refused.value.item) == ("SCOPE_NEEDS_MASK", "text 0")


def test_a_steering_that_overflows_is_refused_and_not_scored(llama: LoadedModel) -> None:
    with pytest.raises(EngineError) as refused:
        score_forced(
            llama, TEXTS[:1], [[Component(unit(llama), 1, 1.0)], [Component(unit(llama), layer, 3e38) for layer in (1, 1, 1, 1, 1, 1)]]
        )
    assert (refused.value.code, refused.value.item) == ("NON_FINITE", "text 0")


def test_a_run_resumed_at_any_layer_gives_the_logits_of_the_whole_run(every_model: LoadedModel) -> None:
    ids = torch.tensor([tokens(11, 12), tokens(12, 12)])
    with torch.inference_mode():
        recording = record_blocks(every_model, range(every_model.n_layers))
        whole = recording.twin.model(input_ids=ids, use_cache=False).logits
        assert torch.equal(whole, every_model.model(input_ids=ids, use_cache=False).logits)
        for layer in range(every_model.n_layers):
            resumed = resume_after(every_model, layer, recording.returned(layer))
            # The same operations on the same shapes: not close but equal.
            assert torch.equal(resumed.model(input_ids=ids, use_cache=False).logits, whole)


def test_a_run_resumed_over_a_prompt_cache_gives_the_logits_of_the_whole_run(every_model: LoadedModel) -> None:
    prompts, suffix = [tokens(13, 8), tokens(14, 5)], torch.tensor([tokens(15, 6), tokens(16, 6)])
    rows = torch.tensor([0, 1, 0])
    with torch.inference_mode():
        wholes = [
            every_model.model(input_ids=torch.tensor([[*prompt[:-1], *continued.tolist()]]), use_cache=False).logits[0, -6:]
            for prompt, continued in zip(prompts, suffix, strict=True)
        ]
        shared = read_prompts(every_model, prompts)
        ask = {
            "position_ids": torch.tensor([len(prompt) - 1 for prompt in prompts])[rows, None] + torch.arange(6),
            "attention_mask": torch.cat([shared.real[rows], shared.real.new_ones(3, 6)], dim=1).long(),
            "use_cache": True,
        }
        recording = record_blocks(every_model, range(every_model.n_layers))
        recording.twin.model(input_ids=suffix[rows], past_key_values=shared.lend(rows), **ask)
        for layer in range(every_model.n_layers):
            resumed = resume_after(every_model, layer, recording.returned(layer))
            logits = resumed.model(input_ids=suffix[rows], past_key_values=shared.lend(rows), **ask).logits
            for row, source in enumerate(rows):
                torch.testing.assert_close(logits[row], wholes[source], atol=1e-5, rtol=1e-5)


def test_resuming_leaves_no_hook_and_no_stand_in_behind(any_model: LoadedModel) -> None:
    hooks, blocks = count_hooks(any_model), list(any_model.model.modules())
    seen: list[int] = []
    recording = record_blocks(any_model, [0])
    recording.twin.model.register_forward_hook(lambda *_: seen.append(1))
    recording.twin.decoder.register_forward_pre_hook(lambda *_: seen.append(2))
    any_model.model(input_ids=torch.tensor([tokens(1, 4)]))
    score_forced(any_model, TEXTS, [[Component(unit(any_model), 1, 2.0)]])
    assert seen == []
    assert count_hooks(any_model) == hooks
    assert all(one is other for one, other in zip(any_model.model.modules(), blocks, strict=True))


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"])
def test_every_layer_and_site_scores_as_a_plain_pass_does(every_model: LoadedModel, site: str) -> None:
    if site == "resid_mid" and every_model.architecture.is_parallel:
        pytest.skip("a parallel block has no such site")
    variants: list[Variant] = [(), *([Component(unit(every_model, layer), layer, 3.0, site)] for layer in range(every_model.n_layers))]
    assert_same(score_forced(every_model, TEXTS, variants), oracle(every_model, TEXTS, variants))


@pytest.mark.parametrize("scope", ["generated", "prompt", "all", "assistant"])
def test_every_scope_scores_as_a_plain_pass_does(any_model: LoadedModel, scope: str) -> None:
    variants: list[Variant] = [
        [Component(unit(any_model, 1), 1, 3.0, scope=scope)],
        [Component(unit(any_model, 2), 0, -2.0, scope=scope), Component(unit(any_model, 3), 2, 1.0, scope="generated")],
    ]
    assert_same(score_forced(any_model, TEXTS, variants), oracle(any_model, TEXTS, variants))


SCHEDULES = [
    Schedule("linear", (("tokens", 3),)),
    Schedule("exponential", (("half_life_tokens", 2),)),
    Schedule("window", (("first_token", 1), ("last_token", 2))),
]


@pytest.mark.parametrize("scope", ["generated", "all"])
def test_every_operator_and_schedule_scores_as_a_plain_pass_does(llama: LoadedModel, scope: str) -> None:
    one = unit(llama, 1)
    variants: list[Variant] = [
        [Component(one, 1, 1.0, operator="ablate", scope=scope)],
        [Component(one, 1, 1.0, operator="clamp", bound=0.1, scope=scope)],
        [Component(one, 2, 3.0, preserve_norm=True, scope=scope)],
        *([Component(one, 1, 4.0, schedule=schedule, scope=scope)] for schedule in SCHEDULES),
    ]
    assert_same(score_forced(llama, TEXTS, variants), oracle(llama, TEXTS, variants))


def test_sets_of_components_share_a_batch_without_mixing(llama: LoadedModel) -> None:
    one, other = unit(llama, 1), unit(llama, 2)
    variants: list[Variant] = [
        [Component(one, 1, 3.0), Component(other, 1, -1.0)],
        [Component(other, 1, 2.0), Component(one, 1, 0.0)],
        [Component(one, 1, 1.0), Component(one, 1, 1.0), Component(one, 3, 1.0, "resid_pre")],
        [],
        [Component(other, 3, 4.0)],
    ]
    scores = score_forced(llama, TEXTS, variants)
    assert_same(scores, oracle(llama, TEXTS, variants))
    assert all((kl[3] == 0).all() for kl in scores.kl)


def test_coefficient_zero_is_the_unsteered_model_exactly(any_model: LoadedModel) -> None:
    grid: list[Variant] = [[Component(unit(any_model), 1, alpha)] for alpha in (0.0, 1.0, -0.0)]
    scores = score_forced(any_model, TEXTS, [(), *grid])
    for variant in (1, 3):
        assert np.array_equal(scores.log_likelihood[variant], scores.log_likelihood[0])
        assert all((kl[variant] == 0).all() for kl in scores.kl)
    assert all((kl[2] > 0).all() for kl in scores.kl)


def test_scores_do_not_depend_on_the_size_of_a_pass(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    variants: list[Variant] = [[Component(unit(llama), layer, alpha)] for layer in range(4) for alpha in (0.5, 1.0, 2.0)]
    at_once = score_forced(llama, TEXTS, variants)
    monkeypatch.setattr("steernode.engine.measuring.forced.MAX_PASS_TOKENS", 30)
    assert_same(score_forced(llama, TEXTS, variants), at_once, 1e-5)


def test_progress_counts_texts_under_variants(llama: LoadedModel) -> None:
    seen: list[tuple[int, int]] = []
    score_forced(llama, TEXTS, [(), [Component(unit(llama), 1, 1.0)]], on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (10, 10)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_batch_that_does_not_fit_in_memory_is_halved_and_scores_the_same(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    variants: list[Variant] = [[Component(unit(llama), 1, alpha)] for alpha in (0.5, 1.0, 2.0, 4.0)]
    expected = score_forced(llama, TEXTS, variants)
    real, rows = _Shared._read, []

    def cramped(self: _Shared, loaded: LoadedModel, asked: torch.Tensor) -> torch.Tensor:
        rows.append(len(asked))
        if len(asked) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, loaded, asked)

    monkeypatch.setattr(_Shared, "_read", cramped)
    assert_same(score_forced(llama, TEXTS, variants), expected, 1e-5)
    assert max(rows) > 4


def test_two_cores_score_at_once_without_seeing_each_others_steering(llama: LoadedModel) -> None:
    variants: list[Variant] = [[Component(unit(llama, layer), layer, alpha)] for layer in range(4) for alpha in (1.0, 3.0)]
    alone = score_forced(llama, TEXTS, variants)
    torch.set_num_threads(2)
    try:
        together = [score_forced(llama, TEXTS, variants) for _ in range(5)]
    finally:
        torch.set_num_threads(1)
    for scores in together:
        assert_same(scores, alone, 1e-5)
