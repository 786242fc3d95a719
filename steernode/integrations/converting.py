"""Converting: a model folder made of a GGUF file, its weights dequantised. The same file gives the same bytes.

Transformers reads the file; what it would pass over in silence is looked for here. It keeps the whole dequantised model in memory,
because it permutes, merges and splits tensors for some classes: 4 bytes a weight in float32, 2 in the others.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import torch

from steernode import __version__
from steernode.engine.access.models import DTYPES
from steernode.errors import ModelError, SteerError
from steernode.files.architectures import known_families, unknown_architecture
from steernode.files.basemodels import ModelFiles, inspect_model
from steernode.files.forms import Form, write_form
from steernode.files.ggufs import GgufFile, hash_gguf, read_gguf
from steernode.files.weights import list_weights, read_tensors

# (stage, done, total): what a person who waits sees.
Stage = Callable[[str, int, int], None]
_PACKAGES = ("gguf", "transformers")
# What a GGUF file may say of its architecture that transformers does not read from it, by the name of the same thing in a config: if they
# say the same, nothing is lost.
_SAID_BY_CONFIG = {
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.freq_base": "rope_theta",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
# What says how a file was written, not what is computed with it.
_NEUTRAL = frozenset({"tensor_data_layout", "attention.causal", "rope.scaling.finetuned"})


def convert_gguf(file: Path, folder: Path, *, dtype: str = "float32", on_stage: Stage = lambda _stage, _done, _total: None) -> ModelFiles:
    """Makes `folder`, which must not be there, with the weights of a GGUF file in `dtype`. Nothing is left of it if it fails.

    Raises: ModelError FOLDER_EXISTS, MODEL_DTYPE, PACKAGE_MISSING, MODEL_LOAD, and the codes of `read_gguf` and `inspect_model`.
    """
    if dtype not in DTYPES:
        raise ModelError("MODEL_DTYPE", f"dtype {dtype!r} is not known; known are {', '.join(DTYPES)}", dtype)
    if folder.exists():
        raise ModelError("FOLDER_EXISTS", f"{folder} is there already; name a new folder", str(folder))
    on_stage("reading the header", 0, 1)
    source = read_gguf(file)
    sha256, size = hash_gguf(file, lambda done, total: on_stage("hashing", done, total))
    with _made_whole(folder) as half:
        try:
            _write_model(source, half, DTYPES[dtype], on_stage)
        except (SteerError, MemoryError):
            raise
        except ImportError as error:
            raise ModelError(
                "PACKAGE_MISSING", f"transformers reads GGUF files with packages that are not here: {error}", "gguf"
            ) from error
        except Exception as error:  # Whatever the loader makes of this file it would make of it again.
            raise ModelError("MODEL_LOAD", f"{file.name} could not be read by transformers: {error}", file.name) from error
        packages = {name: version(name) for name in _PACKAGES}
        form = Form("dequantised", "gguf", file.name, sha256, size, source.tensor_types, dtype, "steernode", __version__, packages)
        write_form(half, form)
        on_stage("checking what was written", 0, 1)
        _check_nothing_lost(source, half)
        return inspect_model(half)


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder beside the one that is wanted, which takes its name once everything is in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}."))
    except OSError as error:
        raise ModelError("FOLDER_UNWRITABLE", f"cannot write beside {folder}: {error.strerror or error}", str(folder)) from error
    try:
        yield half
        half.chmod(0o755)
        for path in half.iterdir():
            path.chmod(0o644)
        os.rename(half, folder)
    except OSError as error:
        raise ModelError("FOLDER_UNWRITABLE", f"cannot write {folder}: {error.strerror or error}", str(folder)) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write_model(source: GgufFile, half: Path, dtype: torch.dtype, on_stage: Stage) -> None:
    # Imported here because transformers takes seconds to import.
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    # Alone in a folder: what lies beside the file is not of it.
    with TemporaryDirectory(prefix="steernode-") as name:
        (Path(name) / source.path.name).symlink_to(source.path.resolve())
        where: Any = {"pretrained_model_name_or_path": name, "gguf_file": source.path.name, "local_files_only": True}
        on_stage("reading the config", 0, 1)
        config = _read_config(transformers, source, where)
        family = known_families().get(config.model_type)
        if family is None:
            raise unknown_architecture(f"the model type {config.model_type!r} of {source.path.name}", config.model_type)
        _refuse_unread(source, config)
        on_stage("reading the tokenizer", 0, 1)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        with _counted(len(source.tensors), on_stage):
            model, report = getattr(transformers, family.class_name).from_pretrained(
                **where,
                config=config,
                dtype=dtype,
                quantization_config=transformers.GgufConfig(dequantize=True),
                output_loading_info=True,
            )
    missing = sorted(report["missing_keys"])
    if missing:
        problem = f"{source.path.name} holds no weights for {missing[0]} ({len(missing)} such)"
        raise ModelError("MODEL_LOAD", problem, missing[0])
    for tensor_name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError("MODEL_FORMAT", f"{tensor_name} holds what is no number once it is dequantised", tensor_name)
    # They are dequantised, and a config that says otherwise could not be saved.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    on_stage("writing", 0, 1)
    model.save_pretrained(half)
    tokenizer.save_pretrained(half)


@contextmanager
def _counted(tensors: int, on_stage: Stage) -> Iterator[None]:
    """Its own progress bar, which it shows whoever calls it, gives way to ours."""
    from transformers import modeling_gguf_pytorch_utils

    reading: Any = modeling_gguf_pytorch_utils

    def count(items: Iterable[Any], **_options: Any) -> Iterator[Any]:
        for done, item in enumerate(items):
            on_stage("dequantising", done, tensors)
            yield item

    on_stage("dequantising", 0, tensors)
    shown, reading.tqdm = reading.tqdm, count
    try:
        yield
    finally:
        reading.tqdm = shown


def _read_config(transformers: Any, source: GgufFile, where: Any) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(**where, trust_remote_code=False)
    except (ValueError, KeyError) as error:
        raise ModelError(
            "MODEL_ARCHITECTURE",
            f"{source.path.name} is of the architecture {source.architecture!r}, of which transformers {transformers.__version__} makes no "
            f"config: {error}",
            source.architecture,
        ) from error


def _refuse_unread(source: GgufFile, config: Any) -> None:
    """What the file says of its architecture must be read, or be what the config says without it."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
    from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

    settings: Any = GGUF_CONFIG_MAPPING

    if source.architecture in GGUF_CONFIG_ARCHS:
        # Read by a function that names every key.
        return
    read = {key for key, name in settings.get(config.model_type, {}).items() if name is not None}
    read |= {key for key, name in settings.get(source.architecture, {}).items() if name is not None}
    for key, value in sorted(source.settings.items()):
        if key in read or key in _NEUTRAL or _says_the_same(config, key, value):
            continue
        raise ModelError(
            "MODEL_FORMAT",
            f"{source.path.name} says {source.architecture}.{key} = {str(value)[:60]}, which transformers does not read from a GGUF file, "
            "so the converted model would be another; take its weights as they were published",
            key,
        )


def _says_the_same(config: Any, key: str, value: Any) -> bool:
    rope = getattr(config, "rope_parameters", None) or {}
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if key == "rope.scaling.type":
        return bool(value == "none")
    if key == "rope.dimension_count":
        return bool(value == int(head_dim * rope.get("partial_rotary_factor", 1)))
    name = _SAID_BY_CONFIG.get(key)
    found = head_dim if name == "head_dim" else getattr(config, str(name), rope.get(name))
    return name is not None and bool(value == found)


def _check_nothing_lost(source: GgufFile, half: Path) -> None:
    """Tensors that transformers has no name for are passed over. None is, if as many numbers came out as were in the file."""
    written = 0
    for tensor in read_tensors(half, list_weights(half)):
        elements = 1
        for length in tensor.shape:
            elements *= length
        written += elements
    if written != source.elements:
        strange = [name for name in source.tensors if not name.startswith(("blk.", "token_embd.", "output"))]
        such = f", such as {strange[0]}" if strange else ""
        raise ModelError(
            "MODEL_FORMAT",
            f"{source.path.name} holds {source.elements} weights and {written} came out of it: transformers passes over some{such}, so "
            "the converted model would be another; take its weights as they were published",
            strange[0] if strange else source.path.name,
        )
