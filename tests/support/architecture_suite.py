"""The suite that every architecture goes through, on a tiny model: what is found out is a line of the table in docs/engine.md.

Each check is against transformers' own forward pass of one unpadded row, without a cache, with plain hooks on whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from steernode.engine.access.encoding import EncodedConversation, encode_prompts
from steernode.engine.access.models import LoadedModel
from steernode.engine.access.sites import hook_output, visit_site
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.steer import steered
from steernode.engine.measuring.forced import ForcedText, score_forced
from steernode.engine.measuring.resume import is_resumable
from steernode.engine.reading.directions import extract_directions
from steernode.engine.reading.selfcheck import check_packable
from steernode.words import SITES
from tests.support.tiny_models import ask, make_pairs

# One twice, which is read once: rows of a cache are copied then, whatever it holds.
PROMPTS = (ask("the bill is late"), ask("refund", "warm"), ask("thank you please help the card is declined"), ask("refund", "warm"))
FORCED = (20, 50, 30, 7)
TOKENS = 6


@dataclass(frozen=True)
class Row:
    """What the suite found of one model: at which layers each site is, and which ways of saving work it allows."""

    class_name: str
    model_type: str
    sites: tuple[str, ...]
    is_packed: bool
    is_resumed: bool

    def to_line(self) -> str:
        packed, resumed = ("yes" if value else "no" for value in (self.is_packed, self.is_resumed))
        return f"| `{self.class_name}` | `{self.model_type}` | {', '.join(self.sites) or 'none'} | {packed} | {resumed} |"


def examine(loaded: LoadedModel) -> Row:
    """Raises: AssertionError with what was not exact."""
    check_sums(loaded)
    check_reading(loaded)
    check_generation(loaded)
    check_likelihoods(loaded)
    return Row(
        loaded.manifest.architecture,
        loaded.manifest.model_type,
        tuple(describe_sites(loaded)),
        check_packable(loaded).is_packable,
        is_resumable(loaded),
    )


def describe_sites(loaded: LoadedModel) -> Iterator[str]:
    """The sites beside what enters and leaves a layer, each with its layers if not all have it."""
    for site in ("attn_out", "resid_mid", "mlp_out"):
        layers = [layer for layer in range(loaded.n_layers) if site in sites_of(loaded, layer)]
        if len(layers) == loaded.n_layers:
            yield f"`{site}`"
        elif layers:
            yield f"`{site}` of some layers"


def sites_of(loaded: LoadedModel, layer: int) -> list[str]:
    absent = loaded.architecture.layers[layer].absent
    return [site for site in SITES if site not in absent and (layer == 0 or site != "embedding")]


@torch.inference_mode()
def check_sums(loaded: LoadedModel) -> None:
    """What the sites of each layer hold adds up to what its block returns, and reading them changes no bit."""
    [encoded] = encode_prompts(loaded, PROMPTS[2:3])
    tokens = torch.tensor([encoded.token_ids])
    base = loaded.model(input_ids=tokens, use_cache=False).logits
    found: list[dict[str, Tensor]] = [{} for _ in range(loaded.n_layers)]
    handles = [
        visit_site(loaded, layer, site, lambda stream, seen=found[layer], site=site: seen.update({site: stream.clone()}))
        for layer in range(loaded.n_layers)
        for site in sites_of(loaded, layer)
    ]
    try:
        assert torch.equal(loaded.model(input_ids=tokens, use_cache=False).logits, base), "reading changed the logits"
    finally:
        for handle in handles:
            handle.remove()
    for below, above in pairwise(found):
        assert torch.equal(below["resid_post"], above["resid_pre"]), "a layer is not given what the one below returns"
    for layer, (seen, sites) in enumerate(zip(found, loaded.architecture.layers, strict=True)):
        assert all(stream.shape == (1, tokens.shape[1], loaded.d_model) for stream in seen.values()), layer
        if sites.mid_norm is not None:
            continue
        if "resid_mid" in seen:
            if "attn_out" in seen:
                assert_close(seen["resid_pre"] + seen["attn_out"], seen["resid_mid"], f"attention of layer {layer}")
            if "mlp_out" in seen:
                assert_close(seen["resid_mid"] + seen["mlp_out"], seen["resid_post"], f"MLP of layer {layer}")
        elif named := [seen[site] for site in ("attn_out", "mlp_out") if site in seen]:
            assert_close(seen["resid_pre"] + sum(named), seen["resid_post"], f"sum of layer {layer}")


def check_reading(loaded: LoadedModel) -> None:
    """Directions of padded or packed batches are those of whole rows, one at a time."""
    pairs = make_pairs(6)
    directions = extract_directions(loaded, pairs, layers=range(loaded.n_layers))
    assert directions[-1].layer == loaded.n_layers - 1
    states = [
        bare_states(loaded, encoded) for encoded in encode_prompts(loaded, [side for p in pairs for side in (p.positive, p.negative)])
    ]
    differences = torch.stack(states[0::2]).double() - torch.stack(states[1::2]).double()
    for direction in directions:
        wanted = differences[:, direction.layer].mean(dim=0)
        found = direction.direction.double() * direction.norm
        # Linear attention may have forgotten almost all that the sides differ in, down to what the rounding of the states leaves.
        allowed = max(1e-4 * float(wanted.norm()), 1e-6 * direction.mean_residual_norm)
        assert float((found - wanted).norm()) < allowed, f"the direction of layer {direction.layer}"


@torch.inference_mode()
def bare_states(loaded: LoadedModel, encoded: EncodedConversation) -> Tensor:
    """The stream after each block at the last token, (layers, d_model)."""
    streams: list[Tensor] = []
    handles = [hook_output(block, lambda stream: streams.append(stream[0, -1].clone())) for block in loaded.blocks]
    try:
        loaded.model(input_ids=torch.tensor([encoded.token_ids]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(streams)


def check_generation(loaded: LoadedModel) -> None:
    """Greedy replies over a cache and padding, plain and steered at each site, are those of a bare loop."""
    encoded = encode_prompts(loaded, PROMPTS)
    for components in ([], *([component] for component in components_of(loaded))):
        replies = generate(loaded, PROMPTS, components=components, max_new_tokens=TOKENS)
        for prompt, reply in zip(encoded, replies, strict=True):
            wanted = bare_reply(loaded, prompt, components, len(reply.scored_token_ids))
            assert reply.scored_token_ids == wanted, f"a reply steered at {[each.site for each in components]}"


def components_of(loaded: LoadedModel) -> list[Component]:
    """One at each site, at the first layer that has it; at what a block returns by a plain hook too, see `bare_reply`."""
    direction = torch.randn(loaded.d_model, generator=torch.Generator().manual_seed(1))
    places = {site: layer for layer in reversed(range(loaded.n_layers)) for site in sites_of(loaded, layer)}
    return [Component(direction / direction.norm(), layer, 3.0, site=site) for site, layer in places.items()]


@torch.inference_mode()
def bare_reply(loaded: LoadedModel, prompt: EncodedConversation, components: Sequence[Component], steps: int) -> tuple[int, ...]:
    tokens = list(prompt.token_ids)
    with bare_steering(loaded, prompt, components):
        for _ in range(steps):
            tokens.append(int(loaded.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tuple(tokens[len(prompt.token_ids) :])


@contextmanager
def bare_steering(loaded: LoadedModel, prompt: EncodedConversation, components: Sequence[Component]) -> Iterator[None]:
    """What a block returns is changed by a plain hook on it; the other sites, which only the engine knows, by the engine."""
    if not components or components[0].site != "resid_post":
        with steered(loaded, list(components), PromptLayout.of([prompt])):
            yield
        return
    [component] = components

    def add(stream: Tensor) -> None:
        stream[:, len(prompt.token_ids) - 1 :] += component.coefficient * component.direction

    handle = hook_output(loaded.blocks[component.layer], add)
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode()
def check_likelihoods(loaded: LoadedModel) -> None:
    """Forced tokens are as likely under shared prompts and resumed runs as in whole passes, plain and steered."""
    encoded = encode_prompts(loaded, PROMPTS)
    component = next(each for each in components_of(loaded) if each.site == "resid_post")
    scores = score_forced(loaded, [ForcedText(each.token_ids, FORCED) for each in encoded], [(), [component]])
    for variant, components in enumerate(((), (component,))):
        for row, prompt in enumerate(encoded):
            tokens = torch.tensor([[*prompt.token_ids, *FORCED[:-1]]])
            with bare_steering(loaded, prompt, components):
                logits = loaded.model(input_ids=tokens, use_cache=False).logits[0, len(prompt.token_ids) - 1 :]
            wanted = float(torch.log_softmax(logits.double(), dim=-1)[range(len(FORCED)), list(FORCED)].sum())
            assert abs(float(scores.log_likelihood[variant, row]) - wanted) <= 1e-4 * max(1.0, abs(wanted)), "a likelihood"


def assert_close(found: Tensor, wanted: Tensor, what: str) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5, msg=lambda text: f"{what}: {text}")
