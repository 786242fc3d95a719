"""Loading a base model, and finding its decoder blocks. Nothing in a model folder is ever executed."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from steernode.engine.access.architectures import find_architecture, find_module
from steernode.engine.access.devices import (
    describe_kernels,
    describe_slowness,
    is_device_lost,
    is_out_of_memory,
    list_devices,
    look_closer,
    name_device,
    require_accelerate,
)
from steernode.engine.access.proving import prove_sites
from steernode.engine.access.spreading import forget_dispatch, join_blocks, map_blocks
from steernode.engine.access.templates import Argument, check_arguments
from steernode.engine.access.work import NO_WORK, Work
from steernode.errors import ModelError, SteerError
from steernode.files.basemodels import ModelFiles, inspect_model, read_stamps, read_template_file
from steernode.files.blocks import Architecture
from steernode.files.quantization import DEQUANTIZED
from steernode.files.weights import list_loaded, measure_weights
from steernode.placement import AUTO, CPU, DTYPE_BYTES, Device, check_fit, choose_devices, choose_dtype, parse_devices
from steernode.strict import read_template_arguments
from steernode.words import CLOCK_ARGUMENT

logger = logging.getLogger("steernode.engine")
DTYPES = {name: getattr(torch, name) for name in DTYPE_BYTES}
_ONE_CORE_BYTES = 4 * 1024 * 1024
_PINNED_REVISION = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# A snapshot is fetched without pickles and without Python files, so that neither can be picked up by accident.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A base model ready to be read and steered: weights, tokenizer, and the manifest of the files they came from.

    Layer 14 is element 14 of `blocks`; `architecture` says where the sites of a block are. `template_arguments` are what its chat template
    is given beside the messages, for whatever it is asked; `work` hears of and keeps what is done with it. `name` is what the registry
    calls these files, for evidence to say; empty where nobody asked the registry.
    """

    model: Any
    tokenizer: Any
    manifest: ModelFiles
    architecture: Architecture
    decoder: nn.Module
    blocks: tuple[nn.Module, ...]
    template_arguments: Mapping[str, Argument] = field(default_factory=dict)
    work: Work = NO_WORK
    name: str = ""

    def asked_with(self, arguments: Mapping[str, Argument]) -> LoadedModel:
        """The same model, whose chat template is given these arguments.

        Raises: FieldError; EngineError TEMPLATE_ARGUMENT naming one that the template does not read, TEMPLATE_CLOCK if it writes
        today's date and no argument says which.
        """
        arguments = read_template_arguments(dict(arguments), "template_arguments")
        check_arguments(self.tokenizer, arguments)
        return replace(self, template_arguments=arguments)

    def asked_today(self) -> LoadedModel:
        """The same model, whose chat template sees the clock of now: for replies that nobody steers and nobody measured."""
        return replace(self, template_arguments={CLOCK_ARGUMENT: datetime.now().isoformat(timespec="seconds")})

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
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def devices(self) -> list[torch.device]:
        """Where its weights are, the first one first."""
        return list(dict.fromkeys(parameter.device for parameter in self.model.parameters()))

    @property
    def attention(self) -> str:
        """By which implementation it attends."""
        return str(getattr(self.model.config, "_attn_implementation", None) or "its own")

    @property
    def ran_on(self) -> dict[str, str]:
        """What its numbers depend on besides its files: the same ones elsewhere have other last digits."""
        return {
            "model_dtype": self.dtype_name,
            "device_name": name_device(self.device),
            "kernels": describe_kernels(self.device),
            "attention": self.attention,
        }

    @property
    def fits_one_core(self) -> bool:
        """Whether a core's own cache holds a block's weights: then a second core costs more in waiting than it computes."""
        parameters = self.blocks[0].parameters()
        return sum(parameter.numel() * parameter.element_size() for parameter in parameters) <= _ONE_CORE_BYTES

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The tokens that end a reply: all that generation_config.json, config.json or the tokenizer name. Each was trained to end one."""
        config: Any = getattr(self.model, "config", None)
        texts = config.get_text_config() if hasattr(config, "get_text_config") else config
        named = [getattr(source, "eos_token_id", None) for source in (self.model.generation_config, config, texts, self.tokenizer)]
        return frozenset(token for value in named for token in (value if isinstance(value, list | tuple) else [value]) if token is not None)


def load_model(source: str | Path, *, revision: str | None = None, dtype: str = AUTO, device: str = CPU) -> LoadedModel:
    """Loads a model folder, or a hub id at a pinned revision, after its files were inspected and hashed, and straight onto its device.

    `dtype` and `device` as `choose_dtype` and `parse_devices` read them; that they are there and large enough is looked at first.
    Raises: ModelError MODEL_REVISION_REQUIRED for a hub id without a 40-digit commit, MODEL_DTYPE, DTYPE_UNSUPPORTED, DEVICE_FORMAT,
    DEVICE_MISSING, MODEL_TOO_LARGE, PACKAGE_MISSING, MODEL_LOAD, FOLDER_CHANGED, and every code of `inspect_model`.
    """
    wanted = parse_devices(device)
    choose_dtype(dtype, "float32")
    folder = _find_folder(source, revision)
    manifest = inspect_model(folder)
    stamps = read_stamps(folder, manifest)
    present, dtype = list_devices(), choose_dtype(dtype, manifest.dtype)
    placed = tuple(map(look_closer, choose_devices(wanted, present)))
    looked_at = {device.name: device for device in placed}
    weights = measure_weights(folder, list_loaded(folder, (name for name, _, _ in manifest.files if name.endswith(".safetensors"))))
    check_fit(weights, dtype, placed, [looked_at.get(device.name, device) for device in present])
    model, tokenizer = _load_pretrained(folder, manifest, DTYPES[dtype], placed)
    _own_weights(model)
    if (inspect_model(folder), read_stamps(folder, manifest)) != (manifest, stamps):
        raise ModelError(
            "FOLDER_CHANGED", f"{folder} was written to while it was loaded; load it again when nobody writes there", str(folder)
        )
    loaded = wrap_model(model, tokenizer, manifest)
    if slowness := describe_slowness(loaded.device, loaded.dtype_name):
        logger.warning("%s: %s", manifest.architecture, slowness)
    return loaded


def _own_weights(model: Any) -> None:
    """A loader may leave weights on the CPU as the very pages of their file: whoever wrote to it later would change them under a
    fingerprint that they no longer have, and whoever cut it short would end the process."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.device.type == CPU:
            tensor.data = tensor.data.clone()


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
    join_blocks(blocks)
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


def _load_pretrained(folder: Path, manifest: ModelFiles, dtype: torch.dtype, placed: tuple[Device, ...]) -> tuple[Any, Any]:
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
    options: dict[str, Any] = {}
    if placed[0].name != CPU:
        # Without it the whole model would go through the CPU's memory first.
        require_accelerate(placed[0].name)
        options["device_map"] = {"": placed[0].name}
    try:
        with _only_hashed(folder, manifest) as hashed:
            config = transformers.AutoConfig.from_pretrained(hashed, local_files_only=True, trust_remote_code=False)
            _forget_default_end(config, json.loads((hashed / "config.json").read_bytes()))
            if len(placed) > 1:
                options["device_map"] = map_blocks(loader, config, find_architecture(config), dtype, placed)
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
                **options,
            )
    except SteerError:
        raise
    except Exception as error:
        if is_device_lost(error):
            raise
        if is_out_of_memory(error):
            names = ", ".join(device.name for device in placed)
            raise ModelError("MODEL_TOO_LARGE", f"{names} had no memory left while {folder} was loaded: {error}", names) from error
        # Whatever a loader makes of these files it would make of them again.
        raise ModelError("MODEL_LOAD", f"{folder} was inspected but could not be loaded: {error}", str(folder)) from error
    model, report = loading
    if len(placed) > 1:
        forget_dispatch(model)
    # The library would go on with random weights in their place.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError("MODEL_LOAD", f"{folder} holds no weights for {missing[0]} ({len(missing)} such); is a shard missing?", missing[0])
    model.config._name_or_path = model.name_or_path = tokenizer.name_or_path = str(folder)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = read_template_file(folder)
    return model, tokenizer


def _forget_default_end(config: Any, written: dict[str, Any]) -> None:
    """Classes have an end token for configs that name none, and in this vocabulary it may be any word."""
    for part, names in ((config, written), (config.get_text_config(), written.get("text_config") or written)):
        if "eos_token_id" not in names:
            part.eos_token_id = None
