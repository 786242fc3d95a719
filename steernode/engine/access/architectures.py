"""Where a loaded model keeps its blocks and sites: the file of its family, resolved for its config, and modules found by path."""

from __future__ import annotations

from typing import Any

from torch import nn

from steernode.errors import ModelError
from steernode.files.architectures import find_family
from steernode.files.blocks import Architecture


def find_architecture(config: Any) -> Architecture:
    """The architecture of the model that this transformers config describes. Raises: ModelError MODEL_ARCHITECTURE, ARCHITECTURE_FILE."""
    return find_family(getattr(config, "model_type", None)).resolve(config)


def find_module(root: nn.Module, path: str) -> nn.Module:
    """Raises: ModelError MODEL_ARCHITECTURE if nothing is at the dotted path."""
    try:
        found = root.get_submodule(path)
    except AttributeError:
        found = None
    # A block may have the name of a part that it was built without.
    if not isinstance(found, nn.Module):
        name = type(root).__name__
        raise ModelError("MODEL_ARCHITECTURE", f"{name} has no module {path!r}, where its architecture file says it has one", name)
    return found
