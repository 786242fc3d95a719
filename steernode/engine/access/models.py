"""Loading a base model, and finding its decoder blocks. Nothing in a model folder is ever executed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from steernode.engine.access.architectures import find_architecture, find_module
from steernode.engine.access.proving import prove_sites
from steernode.errors import ModelError, SteerError
from steernode.files.basemodels import ModelFiles, inspect_model, read_template_file
from steernode.files.blocks import Architecture
from steernode.files.quantization import DEQUANTIZED

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ONE_CORE_BYTES = 4 * 1024 * 1024
_PINNED_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A snapshot is fetched without pickles and without Python files, so that neither can be picked up by accident.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base model ready to be read and steered: weights, tokenizer, and the manifest of the files they came from.

    Layer 14 is element 14 of `blocks`; `architecture` says where the sites of a block are.
    """

    model: Any
    tokenizer: Any
    manifest: ModelFiles
    architecture: Architecture
    decoder: nn.Module
    blocks: tuple[nn.Module, ...]

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def architecture_digest(self) -> str:
        """Of what says where this model keeps its sites."""
        return self.manifest.architecture_digest

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
    model, tokenizer = _load_pretrained(folder, manifest, DTYPES[dtype])
    return wrap_model(model.to(device), tokenizer, manifest)


def wrap_model(model: Any, tokenizer: Any, manifest: ModelFiles) -> LoadedModel:
    """Finds the decoder, its blocks and their sites, and puts the model in the only mode the engine uses: evaluation, no gradients.

    What its architecture file says is proved on the model itself.

    Raises: ModelError MODEL_ARCHITECTURE if the family is not known, or has nothing where its file says; SITE_UNPROVED.
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
    for block, sites in zip(blocks, architecture.layers, strict=True):
        for module in sites.modules:
            find_module(block, module)
    model.eval().requires_grad_(False)
    loaded = LoadedModel(model, tokenizer, manifest, architecture, decoder, blocks)
    prove_sites(loaded)
    return loaded


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


@contextmanager
def _only_hashed(folder: Path, manifest: ModelFiles) -> Iterator[Path]:
    """The folder as its fingerprint has it: whatever else lies in it, no loader finds it."""
    with TemporaryDirectory(prefix="steernode-") as name:
        for file, _, _ in manifest.files:
            (Path(name) / file).symlink_to((folder / file).resolve())
        yield Path(name)


def _load_pretrained(folder: Path, manifest: ModelFiles, dtype: torch.dtype) -> tuple[Any, Any]:
    # Imported here because transformers takes seconds to import, and half of this room works without it.
    import transformers
    from transformers.utils import logging

    # Who calls us shows progress in its own way.
    logging.disable_progress_bar()
    loader = getattr(transformers, manifest.architecture, None)
    if not isinstance(loader, type) or not issubclass(loader, transformers.PreTrainedModel):
        raise ModelError(
            "MODEL_ARCHITECTURE",
            f"transformers {transformers.__version__} has no model class {manifest.architecture}; install a version that has",
            manifest.architecture,
        )
    try:
        with _only_hashed(folder, manifest) as hashed:
            config = transformers.AutoConfig.from_pretrained(hashed, local_files_only=True, trust_remote_code=False)
            if manifest.quantization.startswith(DEQUANTIZED):
                config.quantization_config["dequantize"] = True
            tokenizer = transformers.AutoTokenizer.from_pretrained(hashed, local_files_only=True, trust_remote_code=False)
            loading: Any = loader.from_pretrained(
                hashed,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                attn_implementation=find_architecture(config).attention,
                output_loading_info=True,
            )
    except (SteerError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # Whatever a loader makes of these files it would make of them again.
        raise ModelError("MODEL_LOAD", f"{folder} was inspected but could not be loaded: {error}", str(folder)) from error
    model, report = loading
    # The library would go on with random weights in their place.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError("MODEL_LOAD", f"{folder} holds no weights for {missing[0]} ({len(missing)} such); is a shard missing?", missing[0])
    model.config._name_or_path = model.name_or_path = tokenizer.name_or_path = str(folder)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = read_template_file(folder)
    return model, tokenizer
