"""Architectures: where each family of decoder models keeps what the engine reads and steers, as data, keyed by `config.model_type`.

Read from the modelling code of transformers 5. A family whose blocks depend on its config is a function of that config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from steernode.errors import ModelError
from steernode.files.basemodels import know_architecture, unknown_architecture


@dataclass(frozen=True)
class Place:
    """A tensor inside a block: what a module returns (alone or first of a tuple), or what it is given as its first argument.

    `module` is a dotted path from the block. `is_flat` says that the module sees (rows · columns, d_model).
    """

    module: str
    is_input: bool = False
    is_flat: bool = False


@dataclass(frozen=True)
class Architecture:
    """Where one model keeps its blocks, and a block its sites. The defaults are Llama's.

    `decoder` is a dotted path from the model; `blocks` and `final_norm` are from the decoder, and places from a block.
    `attn_out` and `mlp_out` are what the block adds to the residual stream: after the post norm of a sandwich, and before
    `residual_multiplier`, by which the block multiplies them as it adds them.
    `resid_mid` is the stream between the two sums, at a place where a change in place reaches the residual too; None in a
    block whose attention and MLP run in parallel, because there it is never computed.
    """

    decoder: str = "model"
    blocks: str = "layers"
    final_norm: str | None = "norm"
    attn_out: Place = Place("self_attn")
    resid_mid: Place | None = Place("post_attention_layernorm", is_input=True)
    mlp_out: Place = Place("mlp")
    residual_multiplier: float = 1.0
    attention: str = "sdpa"  # transformers' name for the fastest exact attention that the family supports

    @property
    def is_parallel(self) -> bool:
        return self.resid_mid is None

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for place in (self.attn_out, self.resid_mid, self.mlp_out) if place is not None)


Rule = Callable[[Any], Architecture]

_LLAMA = Architecture()
_SANDWICH = Architecture(
    attn_out=Place("post_attention_layernorm"),
    resid_mid=Place("pre_feedforward_layernorm", is_input=True),
    mlp_out=Place("post_feedforward_layernorm"),
)
_GPT2 = Architecture(decoder="transformer", blocks="h", final_norm="ln_f", attn_out=Place("attn"), resid_mid=Place("ln_2", is_input=True))
_GPT_NEOX = Architecture(decoder="gpt_neox", final_norm="final_layer_norm", attn_out=Place("attention"))
_FALCON = Architecture(decoder="transformer", blocks="h", final_norm="ln_f", attn_out=Place("self_attention"))


def _parallel_if(flag: Callable[[Any], bool], architecture: Architecture) -> Rule:
    return lambda config: replace(architecture, resid_mid=None) if flag(config) else architecture


def _opt(config: Any) -> Architecture:
    """OPT flattens the batch for its MLP. Its 350m size normalises after each sum: `resid_mid` is then the normalised stream,
    which is what the MLP reads and adds to, and its decoder ends without a norm."""
    norms_before = config.do_layer_norm_before
    return Architecture(
        decoder="model.decoder",
        final_norm="final_layer_norm" if norms_before and not config._remove_final_layer_norm else None,
        resid_mid=Place("final_layer_norm", is_input=True, is_flat=True) if norms_before else Place("self_attn_layer_norm"),
        mlp_out=Place("fc2", is_flat=True),
    )


# model_type -> (the class in the `architectures` of config.json, its blocks).
_FAMILIES: dict[str, tuple[str, Architecture | Rule]] = {
    "llama": ("LlamaForCausalLM", _LLAMA),
    "mistral": ("MistralForCausalLM", _LLAMA),
    "mixtral": ("MixtralForCausalLM", _LLAMA),
    "qwen2": ("Qwen2ForCausalLM", _LLAMA),
    "qwen3": ("Qwen3ForCausalLM", _LLAMA),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _LLAMA),
    "gemma": ("GemmaForCausalLM", _LLAMA),
    # Gemma 2 caps its attention logits, which scaled_dot_product_attention cannot do.
    "gemma2": ("Gemma2ForCausalLM", replace(_SANDWICH, attention="eager")),
    "gemma3_text": ("Gemma3ForCausalLM", _SANDWICH),
    "phi3": ("Phi3ForCausalLM", _LLAMA),
    # No norm before its MLP, which therefore reads the stream itself.
    "olmo2": ("Olmo2ForCausalLM", replace(_SANDWICH, resid_mid=Place("mlp", is_input=True))),
    "gpt2": ("GPT2LMHeadModel", _GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", _parallel_if(lambda config: config.use_parallel_residual, _GPT_NEOX)),
    "opt": ("OPTForCausalLM", _opt),
    "falcon": ("FalconForCausalLM", _parallel_if(lambda config: config.parallel_attn or config.new_decoder_architecture, _FALCON)),
    "stablelm": ("StableLmForCausalLM", _parallel_if(lambda config: config.use_parallel_residual, _LLAMA)),
    "granite": ("GraniteForCausalLM", lambda config: replace(_LLAMA, residual_multiplier=config.residual_multiplier)),
    "cohere2": ("Cohere2ForCausalLM", replace(_LLAMA, resid_mid=None)),
}


def register_architecture(model_type: str, class_name: str, architecture: Architecture | Rule) -> None:
    """Teaches this process another family: its `model_type`, its class in `architectures`, and where its sites are.

    Registering the same again changes nothing. Raises: ModelError ARCHITECTURE_TAKEN if the model type has another entry.
    """
    taken = _FAMILIES.setdefault(model_type, (class_name, architecture))
    if taken != (class_name, architecture):
        raise ModelError("ARCHITECTURE_TAKEN", f"model type {model_type!r} is registered already, for {taken[0]}", model_type)
    know_architecture(class_name)


def registered_architectures() -> dict[str, str]:
    """model_type -> class name, of every family this process knows."""
    return {model_type: class_name for model_type, (class_name, _) in _FAMILIES.items()}


def find_architecture(config: Any) -> Architecture:
    """The architecture of the model that this transformers config describes. Raises: ModelError MODEL_ARCHITECTURE."""
    model_type = getattr(config, "model_type", None)
    if model_type not in _FAMILIES:
        raise unknown_architecture(f"model type {model_type!r}", str(model_type))
    _, architecture = _FAMILIES[model_type]
    return architecture if isinstance(architecture, Architecture) else architecture(config)


def find_module(root: nn.Module, path: str) -> nn.Module:
    """Raises: ModelError MODEL_ARCHITECTURE if nothing is at the dotted path."""
    try:
        return root.get_submodule(path)
    except AttributeError as error:
        name = type(root).__name__
        raise ModelError(
            "MODEL_ARCHITECTURE", f"{name} has no module {path!r}, where its registered architecture says it has one", name
        ) from error
