"""Blocks: where one model keeps its decoder, its blocks and the sites of each, as its family's file says for its config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steernode.errors import ModelError

# Transformers' names of exact attention that is found in its own code; a kernel of anybody else's would be fetched and run.
ATTENTIONS = ("sdpa", "eager")
PLACES = ("attn_out", "resid_mid", "mlp_out")
NORMS = ("mid_norm", "post_norm")
# What is said of a model, not of a block.
WHOLE = ("final_norm", "attention", "residual_multiplier")


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor inside a block: what a module returns (alone or first of a tuple), or what it is given as its first argument.

    `module` is a dotted path from the block. `is_flat` says that the module may see (rows · columns, d_model).
    """

    module: str
    is_input: bool = False
    is_flat: bool = False


@dataclass(frozen=True, slots=True)
class BlockSites:
    """Where one block keeps its sites; None where it has none, or nobody can say where.

    `attn_out` and `mlp_out` are what the block adds to the residual stream: after the post norm of a sandwich, and before
    `residual_multiplier`, by which the block multiplies them as it adds them. `resid_mid` is the stream between the two sums, at a
    place where a change in place reaches the residual too. `mid_norm` and `post_norm` are paths of norms that the stream itself goes
    through after a sum: `resid_mid` and `resid_post` are then what they return.
    """

    attn_out: Place | None = Place("self_attn")
    resid_mid: Place | None = Place("post_attention_layernorm", is_input=True)
    mlp_out: Place | None = Place("mlp")
    mid_norm: str | None = None
    post_norm: str | None = None
    residual_multiplier: float = 1.0

    @property
    def is_parallel(self) -> bool:
        """Whether attention and MLP read the same stream, so that nothing lies between them."""
        return self.resid_mid is None and self.attn_out is not None and self.mlp_out is not None

    @property
    def absent(self) -> frozenset[str]:
        return frozenset(name for name in PLACES if getattr(self, name) is None)

    @property
    def modules(self) -> tuple[str, ...]:
        places = (self.attn_out, self.resid_mid, self.mlp_out)
        norms = (self.mid_norm, self.post_norm)
        return (*(place.module for place in places if place is not None), *(norm for norm in norms if norm is not None))


@dataclass(frozen=True, slots=True)
class Architecture:
    """Where one model keeps its blocks, and each of them its sites.

    `decoder` is a dotted path from the model; `blocks` and `final_norm` are from the decoder. `attention` is transformers' name for the
    fastest exact attention that the family supports.
    """

    decoder: str
    blocks: str
    final_norm: str | None
    attention: str
    layers: tuple[BlockSites, ...]

    @property
    def is_parallel(self) -> bool:
        return all(sites.is_parallel for sites in self.layers)


@dataclass(frozen=True, slots=True)
class Family:
    """What a file says of one `model_type`. `class_name` is the one in the `architectures` of config.json, `text_part` the key of the
    config of the text model in that of a wrapper. `sizes` are the class's own, for what a config leaves out.

    `digest` is the sha256 of `document`, canonical: of where things are, not of how the file says so, nor of what else is in it.
    """

    model_type: str
    class_name: str
    text_part: str | None
    sizes: Mapping[str, int] = field(hash=False)
    document: Mapping[str, Any] = field(hash=False)
    digest: str

    def text_config(self, config: Any) -> Any:
        """The part of a transformers config that describes the decoder."""
        return config if self.text_part is None else _config_value(config, self.text_part, self)

    def resolve(self, config: Any) -> Architecture:
        """The architecture of the model that this transformers config describes. Raises: ModelError ARCHITECTURE_FILE."""
        text = self.text_config(config)
        n_layers = _config_value(text, "num_hidden_layers", self)
        whole = {key: self.document.get(key) for key in WHOLE}
        layers = [{key: self.document.get(key) for key in (*PLACES, *NORMS)} for _ in range(n_layers)]
        for case in self.document.get("when", ()):
            changes = {key: value for key, value in case.items() if key != "if"}
            where = [all(_holds(text, key, wanted, layer, self) for key, wanted in case["if"].items()) for layer in range(n_layers)]
            if set(changes) & set(WHOLE) and len(set(where)) > 1:
                raise _wrong(self, f"{sorted(set(changes) & set(WHOLE))[0]} is of the whole model and cannot differ by layer")
            if all(where):
                whole |= {key: value for key, value in changes.items() if key in WHOLE}
            for layer, holds in zip(layers, where, strict=True):
                layer.update({key: value for key, value in changes.items() if holds and key not in WHOLE})
        multiplier = _multiplier(whole["residual_multiplier"], text, self)
        return Architecture(
            decoder=self.document["decoder"],
            blocks=self.document["blocks"],
            final_norm=whole["final_norm"],
            attention=whole["attention"] or ATTENTIONS[0],
            layers=tuple(_block_sites(layer, number, multiplier, self) for number, layer in enumerate(layers)),
        )


def _block_sites(layer: dict[str, Any], number: int, multiplier: float, family: Family) -> BlockSites:
    places = {key: None if layer[key] is None else _place(layer[key]) for key in PLACES}
    sites = BlockSites(**places, mid_norm=layer["mid_norm"], post_norm=layer["post_norm"], residual_multiplier=multiplier)
    if sites.resid_mid is not None and sites.attn_out is None and sites.mlp_out is None:
        raise _wrong(family, f"resid_mid of layer {number} could not be proved without attn_out or mlp_out; leave it out")
    if sites.mid_norm is not None and sites.resid_mid is None:
        raise _wrong(family, f"layer {number} has a mid_norm and no resid_mid that comes out of it")
    return sites


def _place(value: Mapping[str, Any]) -> Place:
    is_input = "input" in value
    return Place(value["input" if is_input else "output"], is_input, value.get("flat", False))


def _multiplier(value: Mapping[str, str] | None, text: Any, family: Family) -> float:
    if value is None:
        return 1.0
    multiplier = float(_config_value(text, value["config"], family))
    if "over_root_of" in value:
        multiplier /= math.sqrt(float(_config_value(text, value["over_root_of"], family)))
    if not math.isfinite(multiplier) or multiplier == 0:
        raise _wrong(family, f"the config's {value['config']} gives a residual multiplier of {multiplier}")
    return multiplier


def _holds(text: Any, key: str, wanted: Any, layer: int, family: Family) -> bool:
    value = _config_value(text, key, family)
    if isinstance(value, list | tuple):
        if layer >= len(value):
            raise _wrong(family, f"the config's {key} has {len(value)} entries, too few for its layers")
        value = value[layer]
    return type(value) is type(wanted) and bool(value == wanted)


def _config_value(config: Any, key: str, family: Family) -> Any:
    try:
        return getattr(config, key)
    except AttributeError as error:
        raise _wrong(family, f"the config has no {key}, which the file asks for") from error


def _wrong(family: Family, problem: str) -> ModelError:
    return ModelError("ARCHITECTURE_FILE", f"the architecture file of {family.class_name} does not fit: {problem}", family.class_name)
