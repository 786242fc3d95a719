"""Loading a base model, and finding its decoder blocks. Nothing in a model folder is ever executed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steernode.engine.access.architectures import Architecture, find_architecture, find_module
from steernode.engine.access.work import NO_WORK, Work
from steernode.errors import ModelError
from steernode.files.basemodels import ModelFiles, inspect_model

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ONE_CORE_BYTES = 4 * 1024 * 1024
_PINNED_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A snapshot is fetched without pickles and without Python files, so that neither can be picked up by accident.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base model ready to be read and steered: weights, tokenizer, and the manifest of the files they came from.

    Layer 14 is element 14 of `blocks`; `architecture` says where the sites of a block are; `work` hears of and keeps what is done with it.
    """

    model: Any
    tokenizer: Any
    manifest: ModelFiles
    architecture: Architecture
    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    work: Work = NO_WORK

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        return self.manifest.d_model

    @property
    def final_norm(self) -> nn.Module | None:
        """What the stream goes through between the last block and the head; None for the few models that have no norm there."""
        path = self.architecture.final_norm
        return None if path is None else find_module(self.decoder, path)

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype

    @property
    def fits_one_core(self) -> bool:
        """Whether a core's own cache holds a block's weights: then a second core costs more in waiting than it computes."""
        parameters = self.blocks[0].parameters()
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters) <= _ONE_CORE_BYTES

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a reply: those of the generation config, else the tokenizer's own."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        if configured is None:
            configured = self.tokenizer.eos_token_id
        if configured is None:
            return frozenset()
        return frozenset([configured] if isinstance(configured, int) else configured)


def load_model(source: str | Path, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """Loads a model folder, or a hub id at a pinned revision, after its files were inspected and hashed.

    Raises: ModelError MODEL_REVISION_REQUIRED for a hub id without a 40-digit commit, MODEL_DTYPE, MODEL_LOAD, and every
    code of `inspect_model`.
    """
    if dtype not in DTYPES:
        raise ModelError("MODEL_DTYPE", f"dtype {dtype!r} is not known; known are {', '.join(DTYPES)}", dtype)
    folder = _find_folder(source, revision)
    manifest = inspect_model(folder)
    model, tokenizer = _load_pretrained(folder, DTYPES[dtype])
    return wrap_model(model.to(device), tokenizer, manifest)


def wrap_model(model: Any, tokenizer: Any, manifest: ModelFiles) -> LoadedModel:
    """Finds the decoder, its blocks and their sites, and puts the model in the only mode the engine uses: evaluation, no gradients.

    Raises: ModelError MODEL_ARCHITECTURE if the family is not registered, or keeps something elsewhere than its entry says.
    """
    architecture = find_architecture(getattr(model, "config", None))
    decoder = find_module(model, architecture.decoder)
    blocks = tuple(find_module(decoder, architecture.blocks).children())
    if len(blocks) != manifest.n_layers:
        raise ModelError(
            "MODEL_ARCHITECTURE",
            f"{manifest.architecture} has {len(blocks)} decoder blocks, its config says {manifest.n_layers}; the folder is inconsistent",
            manifest.architecture,
        )
    for block in blocks:
        for place in architecture.places:
            find_module(block, place.module)
    model.eval().requires_grad_(False)
    return LoadedModel(model, tokenizer, manifest, architecture, decoder, blocks)


def _find_folder(source: str | Path, revision: str | None) -> Path:
    path = Path(source)
    if path.exists() or not isinstance(source, str) or not _HUB_ID.fullmatch(source):
        return path
    if revision is None or not _PINNED_REVISION.fullmatch(revision):
        raise ModelError(
            "MODEL_REVISION_REQUIRED",
            f"{source!r} is no folder here, and as a hub id it needs the 40-digit commit it is pinned to, because a branch or tag can move",
            source,
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=_HUB_FILES))
    except (OSError, ValueError) as error:
        raise ModelError("MODEL_MISSING", f"{source} at {revision} could not be fetched from the hub: {error}", source) from error


def _load_pretrained(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    # Imported here because transformers takes seconds to import, and half of this room works without it.
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    # Who calls us shows progress in its own way.
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        loading: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            attn_implementation=find_architecture(config).attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError("MODEL_LOAD", f"{folder} was inspected but could not be loaded: {error}", str(folder)) from error
    model, report = loading
    # The library would go on with random weights in their place.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError("MODEL_LOAD", f"{folder} holds no weights for {missing[0]} ({len(missing)} such); is a shard missing?", missing[0])
    return model, tokenizer
