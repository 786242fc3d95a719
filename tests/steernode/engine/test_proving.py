"""A wrong architecture file is found out when a model is loaded, by the site and the layer that it is wrong about."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steernode.engine.access.models import DTYPES, LoadedModel, wrap_model
from steernode.engine.reading.directions import extract_directions
from steernode.errors import EngineError, ModelError
from tests.support.architectures import describe_otherwise
from tests.support.tiny_models import build_model, count_hooks, make_pairs


def load_again(loaded: LoadedModel) -> None:
    wrap_model(loaded.model, loaded.tokenizer, loaded.manifest)


WRONG = {
    "the MLP's place taken for attention's": ("llama", {"attn_out": {"output": "mlp"}}, "attn_out layer 0"),
    "attention's place taken for the MLP's": ("llama", {"mlp_out": {"output": "self_attn"}}, "mlp_out layer 0"),
    "the norm of what a block is given taken for that of the middle": (
        "llama",
        {"resid_mid": {"input": "input_layernorm"}},
        "resid_mid layer 0",
    ),
    "what the norm returns taken for the stream": ("llama", {"resid_mid": {"output": "post_attention_layernorm"}}, "resid_mid layer 0"),
    "attention before its post norm": ("gemma2", {"attn_out": {"output": "self_attn"}}, "attn_out layer 0"),
    "the MLP before its post norm": ("gemma3", {"mlp_out": {"output": "mlp"}}, "mlp_out layer 0"),
    "a multiplier left out": ("granite", {"residual_multiplier": None}, "resid_mid layer 0"),
    "a middle in a parallel block": ("cohere2", {"resid_mid": {"input": "mlp"}}, "resid_mid layer 0"),
    "a sequential block taken for a parallel one": (
        "gpt2",
        {"attn_out": {"output": "ln_1"}, "resid_mid": None},
        "attn_out and mlp_out layer 0",
    ),
    "norms after the sums left out": (
        "opt_post_norm",
        {"when": [{"if": {"do_layer_norm_before": False}, "final_norm": None, "resid_mid": {"output": "self_attn_layer_norm"}}]},
        "resid_mid layer 0",
    ),
    "one part of what a block adds": ("cohere2", {"attn_out": None}, "mlp_out layer 0"),
    "a place of another width": ("llama", {"mlp_out": {"output": "mlp.up_proj"}}, "mlp_out layer 0"),
    "a place that is never reached": ("gpt2", {"attn_out": {"output": "attn.attn_dropout"}}, "attn_out layer 0"),
    "a final norm that is not the last": ("llama", {"final_norm": "layers.0.input_layernorm"}, "resid_post layer 3"),
    "a tensor that is no stream": ("mixtral", {"mlp_out": {"output": "mlp.gate"}}, "mlp_out layer 0"),
    "a flat tensor of another width": ("mixtral", {"mlp_out": {"output": "mlp.gate", "flat": True}}, "mlp_out layer 0"),
    "an input by another name": ("llama", {"resid_mid": {"input": "self_attn"}}, "resid_mid layer 0"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_place_is_refused_by_site_and_layer(loaded_models: dict, fault: str) -> None:
    name, changes, item = WRONG[fault]
    loaded = loaded_models[name]
    hooks = count_hooks(loaded)
    describe_otherwise(loaded.model.config.model_type, **changes)
    with pytest.raises(ModelError) as refused:
        load_again(loaded)
    assert (refused.value.code, refused.value.item) == ("SITE_UNPROVED", item)
    assert count_hooks(loaded) == hooks


def test_a_place_that_only_one_layer_has_elsewhere_is_named_by_that_layer(loaded_models: dict) -> None:
    loaded = loaded_models["qwen2"]
    # Layer 1 is the only one of full attention.
    describe_otherwise("qwen2", when=[{"if": {"layer_types": "full_attention"}, "mlp_out": {"output": "mlp.down_proj"}}])
    load_again(loaded)
    describe_otherwise("qwen2", when=[{"if": {"layer_types": "full_attention"}, "mlp_out": {"output": "self_attn"}}])
    with pytest.raises(ModelError) as refused:
        load_again(loaded)
    assert (refused.value.code, refused.value.item) == ("SITE_UNPROVED", "mlp_out layer 1")


class ReadsACopy(nn.Module):
    """A norm that is given a copy of what the block goes on with."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        return self.inner(stream.clone())


def test_a_place_where_a_change_does_not_reach_the_stream_is_refused(llama: LoadedModel) -> None:
    """Reading there is right to the last bit, and steering there would do another thing than the formula says."""
    model = build_model("llama")
    for block in model.model.layers:
        block.post_attention_layernorm = ReadsACopy(block.post_attention_layernorm)
    describe_otherwise("llama", resid_mid={"input": "post_attention_layernorm.inner"})
    with pytest.raises(ModelError, match="does not reach the stream") as refused:
        wrap_model(model, llama.tokenizer, llama.manifest)
    assert (refused.value.code, refused.value.item) == ("SITE_UNPROVED", "resid_mid layer 0")


@pytest.mark.parametrize("dtype", sorted(DTYPES))
@pytest.mark.parametrize("name", ["llama", "granite", "falcon", "gemma3", "opt_post_norm"])
def test_the_rounding_of_a_dtype_is_no_fault(loaded_models: dict, name: str, dtype: str) -> None:
    loaded = loaded_models[name]
    model = build_model(name).to(DTYPES[dtype])
    wrap_model(model, loaded.tokenizer, loaded.manifest)
    if name == "gemma3":
        describe_otherwise("gemma3_text", attn_out={"output": "self_attn"})
        with pytest.raises(ModelError):
            wrap_model(model, loaded.tokenizer, loaded.manifest)


def test_a_state_that_overflows_its_dtype_is_left_to_whoever_reads_it(llama: LoadedModel) -> None:
    model = build_model("llama").to(torch.float16)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3] = 6e4
    loaded = wrap_model(model, llama.tokenizer, llama.manifest)
    with pytest.raises(EngineError) as refused:
        extract_directions(loaded, make_pairs(4))
    assert refused.value.code == "NON_FINITE"
