"""Every family of decoder models is loaded, generates and is refused in the same way; one that nobody described says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steernode.engine.access.architectures import find_architecture
from steernode.engine.access.encoding import encode_prompt
from steernode.engine.access.models import LoadedModel, load_model, wrap_model
from steernode.engine.access.sites import visit_site
from steernode.engine.applying.components import Component
from steernode.engine.applying.generate import generate
from steernode.engine.applying.positions import PromptLayout
from steernode.engine.applying.steer import steered
from steernode.errors import ModelError
from steernode.files.architectures import known_families
from steernode.files.basemodels import inspect_model
from steernode.words import SITES
from tests.support.architectures import describe_otherwise
from tests.support.tiny_models import ask, build_model

PROMPTS = (ask("the bill is late"), ask("refund"))


def test_a_folder_of_an_unknown_architecture_says_how_to_teach_it(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["MambaForCausalLM"], "model_type": "mamba"}))
    with pytest.raises(ModelError, match=r"(?s)'MambaForCausalLM'.*STEERHUB_ARCHITECTURES") as refused:
        load_model(folder)
    assert refused.value.code == "MODEL_ARCHITECTURE"


@pytest.mark.parametrize("model", [nn.Linear(2, 2), None])
def test_a_model_of_an_unknown_type_says_how_to_teach_it(llama: LoadedModel, model: Any) -> None:
    with pytest.raises(ModelError, match=r"(?s)not known.*STEERHUB_ARCHITECTURES") as refused:
        wrap_model(model, None, llama.manifest)
    assert refused.value.code == "MODEL_ARCHITECTURE"


@pytest.mark.parametrize(
    "wrong",
    [{"decoder": "gpt"}, {"blocks": "h"}, {"attn_out": {"output": "attn"}}, {"mlp_out": {"output": "mlp.down"}}],
)
def test_a_file_that_points_nowhere_is_refused_by_path(llama: LoadedModel, wrong: dict) -> None:
    describe_otherwise("llama", **wrong)
    with pytest.raises(ModelError, match=r"has no module '(gpt|h|attn|mlp\.down)'") as refused:
        wrap_model(llama.model, None, llama.manifest)
    assert refused.value.code == "MODEL_ARCHITECTURE"


def test_every_family_loads_from_its_folder_as_it_was_saved(every_model: LoadedModel, model_folders: dict[str, Path]) -> None:
    assert every_model.manifest.architecture == known_families()[every_model.model.config.model_type].class_name
    assert every_model.manifest == inspect_model(Path(every_model.model.config._name_or_path))
    assert every_model.n_layers == every_model.manifest.n_layers
    assert every_model.d_model == 32
    assert every_model.architecture == find_architecture(every_model.model.config)
    assert not any(parameter.requires_grad for parameter in every_model.model.parameters())
    [name] = [name for name, folder in model_folders.items() if str(folder) == every_model.model.config._name_or_path]
    built, loaded = build_model(name).state_dict(), every_model.model.state_dict()
    assert all(torch.equal(built[key], loaded[key]) for key in built)


def test_the_last_block_and_the_final_norm_give_the_logits(every_model: LoadedModel) -> None:
    token_ids = torch.tensor([[3, 50, 60, 70], [9, 8, 7, 30]])
    streams: list[torch.Tensor] = []
    handle = visit_site(every_model, every_model.n_layers - 1, "resid_post", lambda stream: streams.append(stream.clone()))
    with torch.inference_mode():
        ended = every_model.decoder(input_ids=token_ids, use_cache=False).last_hidden_state
        handle.remove()
        stream = streams[0] if every_model.final_norm is None else every_model.final_norm(streams[0])
        if every_model.final_norm is None:
            stream = every_model.decoder.project_out(stream)
    assert torch.equal(stream, ended)


def test_cached_and_padded_generation_equals_a_bare_loop_while_steering(every_model: LoadedModel) -> None:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    for site in SITES:
        if site == "resid_mid" and every_model.architecture.is_parallel:
            continue
        component = Component(direction / direction.norm(), 0 if site == "embedding" else 1, 3.0, site=site)
        replies = generate(every_model, PROMPTS, components=[component], max_new_tokens=6)
        for prompt, reply in zip(PROMPTS, replies, strict=True):
            wanted = bare_loop(every_model, prompt, component, len(reply.scored_token_ids))
            assert reply.scored_token_ids == wanted, site


def bare_loop(loaded: LoadedModel, prompt: tuple, component: Component, steps: int) -> tuple[int, ...]:
    """The most likely tokens, each from a whole pass over an unpadded row without a cache."""
    encoded = encode_prompt(loaded, prompt)
    tokens = list(encoded.token_ids)
    with torch.inference_mode(), steered(loaded, [component], PromptLayout.of([encoded])):
        for _ in range(steps):
            tokens.append(int(loaded.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tuple(tokens[len(encoded.token_ids) :])


def test_generation_past_a_sliding_window_equals_the_library_s_own(every_model: LoadedModel) -> None:
    prompt = ask("thank you please help the card is declined")
    token_ids = torch.tensor([encode_prompt(every_model, prompt).token_ids])
    theirs = every_model.model.generate(
        token_ids, attention_mask=torch.ones_like(token_ids), max_new_tokens=12, do_sample=False, pad_token_id=2
    )
    [ours] = generate(every_model, [prompt], max_new_tokens=12)
    assert list(ours.scored_token_ids) == theirs[0, token_ids.shape[1] :].tolist()


class TupleBlock(nn.Module):
    """A block as before transformers 5: a tuple goes in and comes out, the stream first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states: Any, **others: Any) -> tuple[torch.Tensor, None]:
        return self.inner(hidden_states[0] if isinstance(hidden_states, tuple) else hidden_states, **others), None


class FirstOfTuple(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.inner = norm

    def forward(self, stream: tuple[torch.Tensor, None]) -> torch.Tensor:
        return self.inner(stream[0])


def test_a_learned_family_whose_blocks_return_tuples_is_steered_like_its_plain_twin(llama: LoadedModel) -> None:
    model = build_model("llama")
    model.model.layers = nn.ModuleList([TupleBlock(block) for block in model.model.layers])
    model.model.norm = FirstOfTuple(model.model.norm)
    describe_otherwise(
        "llama",
        attn_out={"output": "inner.self_attn"},
        resid_mid={"input": "inner.post_attention_layernorm"},
        mlp_out={"output": "inner.mlp"},
    )
    twin = wrap_model(model, llama.tokenizer, llama.manifest)
    for site in SITES:
        component = Component(torch.full((32,), 32**-0.5), 0, 5.0, site=site)
        expected, found = (generate(loaded, PROMPTS, components=[component], max_new_tokens=6) for loaded in (llama, twin))
        assert [reply.token_ids for reply in found] == [reply.token_ids for reply in expected]
