"""Sampling: drawn from what the model says, by noise that is each row's own, so that a seed says a reply whoever shares the batch."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import TopPLogitsWarper

from steernode.engine.access.models import LoadedModel
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.applying.sampling import Sampler
from steernode.errors import EngineError, FieldError
from steernode.records.decoding import GREEDY, LEAST_TEMPERATURE, Decoding, Sampling, read_decoding
from tests.support.tiny_models import ask

PROMPTS = [ask(text) for text in ("the bill is late", "refund", "sorry we help you now", "card", "five days", "refund now please")]
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def draw(count: int, temperature: str, top_p: str = "1", logits: Tensor = LOGITS) -> Counter[int]:
    sampler = Sampler([Sampling(Decimal(temperature), Decimal(top_p), seed) for seed in range(count)], torch.device("cpu"))
    return Counter(sampler.choose(logits.expand(count, -1), 0).tolist())


def ways(count: int, **changes: Any) -> list[Sampling]:
    return [Sampling(**{"temperature": Decimal("1.5"), "seed": seed, **changes}) for seed in range(count)]


def unit(loaded: LoadedModel, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(seed)), dim=0)


@pytest.mark.parametrize("temperature", ["0.5", "1", "2"])
@pytest.mark.parametrize("step", [0, 1, 700])
def test_tokens_come_as_often_as_the_softmax_says(temperature: str, step: int) -> None:
    count = 20_000
    sampler = Sampler([Sampling(Decimal(temperature), seed=seed) for seed in range(count)], torch.device("cpu"))
    seen = torch.bincount(sampler.choose(LOGITS.expand(count, -1), step), minlength=len(LOGITS)).double()
    expected = count * torch.softmax(LOGITS.double() / float(temperature), dim=-1)
    # What comes too rarely to be tested on its own is counted with the next.
    rare = expected < 10
    seen, expected = (torch.cat([each[~rare][:-1], each[~rare][-1:] + each[rare].sum()]) for each in (seen, expected))
    assert stats.chisquare(seen.numpy(), (expected * seen.sum() / expected.sum()).numpy()).pvalue > 1e-4


def test_neighbouring_seeds_steps_and_tokens_draw_independently() -> None:
    flat = torch.zeros(8)
    sampler = Sampler([Sampling(Decimal(1), seed=seed) for seed in range(4000)], torch.device("cpu"))
    steps = torch.stack([sampler.choose(flat.expand(4000, -1), step) for step in range(2)]).numpy()
    for one, other in ((steps[0], steps[1]), (steps[0][:-1], steps[0][1:])):
        table = torch.zeros(8, 8)
        for row, column in zip(one, other, strict=True):
            table[row, column] += 1
        assert stats.chi2_contingency(table.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("top_p", ["0.01", "0.5", "0.9", "0.95", "1"])
@pytest.mark.parametrize("temperature", ["0.7", "1"])
def test_only_the_nucleus_is_drawn_from_and_it_is_the_librarys(top_p: str, temperature: str) -> None:
    kept = TopPLogitsWarper(float(top_p))(None, LOGITS[None] / float(temperature))[0].isfinite() if top_p != "1" else LOGITS > -99
    assert set(draw(20_000, temperature, top_p)) == set(kept.nonzero()[:, 0].tolist())


@pytest.mark.parametrize("top_p", ["0.3", "0.6", "0.9"])
def test_a_nucleus_is_drawn_from_by_its_own_share_of_the_mass(top_p: str) -> None:
    """Against numbers worked out one by one: the tokens by falling probability, as long as those before them hold less than top_p."""
    count, temperature = 20_000, 1.3
    shares = np.exp(np.array([float(logit) / temperature for logit in LOGITS]))
    shares /= shares.sum()
    kept, mass = [], 0.0
    for token in sorted(range(len(shares)), key=lambda token: -shares[token]):
        if mass >= float(top_p):
            break
        kept.append(token)
        mass += shares[token]
    seen = draw(count, str(temperature), top_p)
    assert set(seen) == set(kept)
    expected = np.array([count * shares[token] / mass for token in kept])
    assert len(kept) == 1 or stats.chisquare([seen[token] for token in kept], expected).pvalue > 1e-4


@pytest.mark.parametrize("top_p", ["1e-30", "1e-46", "5e-324", "1e-400"])
def test_of_a_share_too_small_to_tell_from_none_the_likeliest_is_left(top_p: str) -> None:
    assert set(draw(50, "1", top_p)) == {int(LOGITS.argmax())}


def test_the_colder_the_nearer_to_greedy_and_at_the_least_temperature_it_is_greedy(any_model: LoadedModel) -> None:
    """Where the two likeliest tokens are no nearer than the noise can reach at that temperature."""
    logits = torch.randn(500, 64, generator=torch.Generator().manual_seed(3))
    first, second = logits.topk(2).values.T
    shares = []
    for temperature in ("1", "0.3", "0.05", "0.01"):
        sampler = Sampler([Sampling(Decimal(temperature), seed=seed) for seed in range(500)], torch.device("cpu"))
        agrees = sampler.choose(logits, 0) == logits.argmax(dim=-1)
        shares.append(float(agrees.float().mean()))
    assert shares == sorted(shares)
    assert bool(agrees[first - second > 0.2].all())
    # A model that is a hundred times as sure leaves nothing to draw.
    head = any_model.model.get_output_embeddings().weight.data
    kept = head.clone()
    head.mul_(100)
    try:
        greedy = generate(any_model, PROMPTS, max_new_tokens=6)
        cold = generate(any_model, PROMPTS, max_new_tokens=6, sampling=ways(6, temperature=LEAST_TEMPERATURE))
    finally:
        head.copy_(kept)
    assert [reply.token_ids for reply in cold] == [reply.token_ids for reply in greedy]


def test_one_seed_says_one_reply_and_another_another(any_model: LoadedModel) -> None:
    first, again, other = (
        [reply.token_ids for reply in generate(any_model, PROMPTS, max_new_tokens=10, sampling=ways(6, seed=seed))] for seed in (1, 1, 2)
    )
    assert first == again
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_a_row_draws_the_same_whoever_shares_its_batch(any_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = [*ways(4), GREEDY, Sampling(Decimal("0.7"), Decimal("0.8"), -5)]
    alone = [generate(any_model, [prompt], max_new_tokens=12, sampling=[how])[0] for prompt, how in zip(PROMPTS, sampling, strict=True)]
    # Rows leave at different steps.
    ends = frozenset(reply.token_ids[step] for reply, step in zip(alone, (0, 2, 5), strict=False))
    monkeypatch.setattr(type(any_model), "end_token_ids", ends)
    alone = [generate(any_model, [prompt], max_new_tokens=12, sampling=[how])[0] for prompt, how in zip(PROMPTS, sampling, strict=True)]
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        together = generate(
            any_model, [PROMPTS[row] for row in order], max_new_tokens=12, max_batch_rows=4, sampling=[sampling[row] for row in order]
        )
        assert [reply.scored_token_ids for reply in together] == [alone[row].scored_token_ids for row in order]
    assert len({len(reply.token_ids) for reply in alone}) > 1
    assert generate(any_model, [PROMPTS[4]], max_new_tokens=12)[0].scored_token_ids == alone[4].scored_token_ids


def test_no_steering_is_the_model_itself_under_sampling_too(any_model: LoadedModel) -> None:
    component = Component(unit(any_model), 1, 6.0)
    plain = generate(any_model, PROMPTS, max_new_tokens=8, sampling=ways(6))
    zero = generate(
        any_model, PROMPTS, max_new_tokens=8, sampling=ways(6), components=[component], row_coefficients=torch.zeros(len(PROMPTS), 1)
    )
    steered = generate(any_model, PROMPTS, max_new_tokens=8, sampling=ways(6), components=[component])
    assert [reply.token_ids for reply in zero] == [reply.token_ids for reply in plain]
    assert [reply.token_ids for reply in steered] != [reply.token_ids for reply in plain]


def test_a_reply_that_is_stopped_goes_on_with_its_own_noise(llama: LoadedModel) -> None:
    """At a strength that changes no token, the reply that was computed anew is the one that was not."""
    asked = iter(["", "", "", "killed"])
    component = Component(unit(llama), 1, 1e-6)
    [plain] = generate(llama, [PROMPTS[0]], max_new_tokens=9, sampling=ways(1))
    [stopped] = generate(
        llama, [PROMPTS[0]], max_new_tokens=9, sampling=ways(1), components=[component], stop_reason=lambda: next(asked, "killed")
    )
    assert stopped.stopped is not None
    assert stopped.stopped.from_token == 3
    assert stopped.token_ids == plain.token_ids


@pytest.mark.parametrize(
    ("sampling", "code"),
    [
        ([Sampling(Decimal(-1))] * 6, "SAMPLING"),
        ([Sampling(Decimal("0.001"))] * 6, "SAMPLING"),
        ([Sampling(Decimal(3))] * 6, "SAMPLING"),
        ([Sampling(Decimal(1), Decimal(0))] * 6, "SAMPLING"),
        ([Sampling(Decimal(1), Decimal("1.5"))] * 6, "SAMPLING"),
        (ways(5), "LAYOUT_MISMATCH"),
    ],
)
def test_what_cannot_be_drawn_is_refused(llama: LoadedModel, sampling: list[Sampling], code: str) -> None:
    with pytest.raises(EngineError) as refused:
        generate(llama, PROMPTS, max_new_tokens=2, sampling=sampling)
    assert refused.value.code == code


def test_a_decoding_is_read_strictly_and_written_as_it_was_read() -> None:
    written = {"temperature": "0.7", "top_p": "0.95", "seeds": [0, 1, 2]}
    decoding = read_decoding(written, "decoding")
    assert decoding == Decoding(Decimal("0.7"), Decimal("0.95"), (0, 1, 2))
    assert decoding.to_document() == written
    assert read_decoding("greedy", "decoding").to_document() == "greedy"
    draws = decoding.sample("ticket-1")
    assert len({each.seed for each in draws} | {each.seed for each in decoding.sample("ticket-2")}) == 6
    assert draws == decoding.sample("ticket-1")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("hot", "decoding"),
        ({}, "decoding.seeds"),
        ({"temperature": 0.7, "seeds": [1]}, "decoding.temperature"),
        ({"temperature": "0", "seeds": [1]}, "decoding.temperature"),
        ({"temperature": "9", "seeds": [1]}, "decoding.temperature"),
        ({"temperature": "1", "top_p": "0", "seeds": [1]}, "decoding.top_p"),
        ({"temperature": "1", "seeds": []}, "decoding.seeds"),
        ({"temperature": "1", "seeds": [1, 1]}, "decoding.seeds"),
        ({"temperature": "1", "seeds": list(range(17))}, "decoding.seeds"),
        ({"temperature": "1", "seeds": [-1]}, "decoding.seeds[0]"),
        ({"temperature": "1", "seeds": [2**53]}, "decoding.seeds[0]"),
        ({"temperature": "1", "seeds": [1], "k": 3}, "decoding.k"),
    ],
)
def test_what_is_no_decoding_is_refused_by_name(value: Any, named: str) -> None:
    with pytest.raises(FieldError) as refused:
        read_decoding(value, "decoding")
    assert refused.value.item == named
