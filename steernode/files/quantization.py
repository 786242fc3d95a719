"""Quantised weights: what a config says of them, which methods are read here and with which packages, and which are refused.

A loader that does not know a method loads the packed numbers as they are, or warns and goes on in float32. So nothing is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from steernode.errors import ModelError
from steernode.files.weights import StoredTensor

KEY = "quantization_config"
# Methods that are read, each with the packages that transformers needs for it, by the names they are installed under.
METHODS = {
    "fp8": ("accelerate",),
    "compressed-tensors": ("compressed-tensors", "accelerate"),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
}
# Those whose weights are unpacked as they are loaded. Their kernels are for some devices only, and would be fetched from elsewhere and
# run; and a model that unpacks itself in its own forward pass leaves out whoever calls its decoder. What they ask of activations, to be
# rounded too, is then not done: the model is the one that these weights mean.
DEQUANTIZED = ("fp8", "compressed-tensors")
# Methods that nobody has tried with this product, each with the package that another loader reads it by.
_UNTRIED = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "bitnet": "a kernel from elsewhere",
    "eetq": "a kernel from elsewhere",
    "fbgemm_fp8": "fbgemm-gpu-genai",
    "fouroversix": "fouroversix",
    "fp_quant": "fp-quant",
    "gemma": "a kernel from elsewhere",
    "higgs": "flute-kernel",
    "hqq": "hqq",
    "metal": "a kernel from elsewhere",
    "modelopt": "nvidia-modelopt",
    "mxfp4": "a kernel from elsewhere",
    "mxfp8": "a kernel from elsewhere",
    "nvfp4": "a kernel from elsewhere",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "sinq": "sinq",
    "spqr": "spqr-quant",
    "torchao": "torchao",
    "vptq": "vptq",
}
# What quantisers write beside a config, and this loader does not read.
_OTHER_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_WHOLE_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
# Of what no quantiser packs numbers into.
_WHOLE_INTEGERS = frozenset({"I64", "U64", "BOOL", "C64"})
# Masks and tables that older classes kept beside the weights, and that loaders leave alone.
_BUFFER = re.compile(r"(^|\.)((masked_)?bias|[a-z_]*mask|position_ids|token_type_ids)$")
_ADVICE = "bring the model dequantised, or quantised as " + ", ".join(METHODS)


def read_quantization(config: Mapping[str, Any], files: Iterable[str], tensors: Iterable[StoredTensor]) -> str:
    """What a model's weights are quantised as, in a few words that go into its fingerprint; empty if they are not.

    `files` are the names of the folder, `tensors` all that its weight files hold.
    Raises: ModelError MODEL_QUANTIZATION, MODEL_CONFIG_REJECTED.
    """
    for part in _nested(config):
        if part.get(KEY) is not None:
            raise _refused(f"config.json has a {KEY} inside another part, which no loader heeds; {_ADVICE}", KEY)
    stated = config.get(KEY)
    if stated is None:
        _refuse_packed(files, tensors)
        return ""
    if not isinstance(stated, dict):
        raise ModelError("MODEL_CONFIG_REJECTED", f"{KEY} of config.json must be an object", KEY)
    method = _read_method(stated)
    missing = [package for package in METHODS[method] if find_spec(package.replace("-", "_")) is None]
    if missing:
        raise _refused(
            f"the weights are quantised by {method}, which needs a package that is not here: pip install {' '.join(missing)}", method
        )
    return _READERS[method](stated)


def _read_method(stated: Mapping[str, Any]) -> str:
    method = stated.get("quant_method")
    if method in (None, "bitsandbytes_4bit", "bitsandbytes_8bit") and (stated.get("load_in_4bit") or stated.get("load_in_8bit")):
        # As it was written before there was a name for it.
        method = "bitsandbytes"
    if not isinstance(method, str) or not method:
        raise _refused(f"{KEY} of config.json names no quant_method; {_ADVICE}", KEY)
    if method in METHODS:
        return method
    if method in _UNTRIED:
        raise _refused(f"quant_method {method!r} needs {_UNTRIED[method]}, with which this version was never tried; {_ADVICE}", method)
    raise _refused(f"quant_method {method[:80]!r} is not known; {_ADVICE}", method[:80])


def _read_fp8(stated: Mapping[str, Any]) -> str:
    block = stated.get("weight_block_size")
    return f"fp8 {'×'.join(map(str, block))}, dequantised" if isinstance(block, list) else "fp8, dequantised"


def _read_compressed(stated: Mapping[str, Any]) -> str:
    return f"compressed-tensors {stated.get('format') or 'of no format'}, dequantised"


def _read_bitsandbytes(stated: Mapping[str, Any]) -> str:
    four, eight = stated.get("load_in_4bit") is True, stated.get("load_in_8bit") is True
    if four == eight:
        raise _refused(f"{KEY} of bitsandbytes must say either load_in_4bit or load_in_8bit", "bitsandbytes")
    if four:
        return f"bitsandbytes 4-bit {stated.get('bnb_4bit_quant_type', 'fp4')}"
    # Columns with a large number in any row of a batch are then multiplied apart, in all rows of it.
    if stated.get("llm_int8_threshold", 6.0) != 0:
        raise _refused(
            "with an llm_int8_threshold other than 0, bitsandbytes lets a prompt change what is computed for the others in its batch, so "
            "nothing measured on one holds for it elsewhere; set it to 0 in config.json",
            "llm_int8_threshold",
        )
    return "bitsandbytes 8-bit"


_READERS = {"fp8": _read_fp8, "compressed-tensors": _read_compressed, "bitsandbytes": _read_bitsandbytes}


def _refuse_packed(files: Iterable[str], tensors: Iterable[StoredTensor]) -> None:
    for name in sorted(set(files).intersection(_OTHER_FILES)):
        raise _refused(f"{name} says that the weights are quantised, config.json has no {KEY}; {_ADVICE}", name)
    for tensor in tensors:
        if tensor.dtype in _WHOLE_FLOATS or tensor.dtype in _WHOLE_INTEGERS or _BUFFER.search(tensor.name):
            continue
        raise _refused(
            f"{tensor.name[:100]} in {tensor.file} is stored as {tensor.dtype}, and config.json has no {KEY} that says what these numbers "
            f"mean; {_ADVICE}",
            tensor.name[:100],
        )


def _nested(value: Any) -> Iterable[Mapping[str, Any]]:
    for child in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        if isinstance(child, Mapping):
            yield child
        yield from _nested(child)


def _refused(sentence: str, item: str) -> ModelError:
    return ModelError("MODEL_QUANTIZATION", sentence, item)
