"""Base models that are forms of each other: folders that differ, and the comparison that is registered with them."""

from pathlib import Path
from typing import Any

from steernode.comparison import SCHEMA
from steernode.files.basemodels import inspect_model
from tests.support.files import write_model_folder


def write_other_folder(model_root: Path, name: str, *, template: str = "", **config: Any) -> Path:
    """A folder of its own fingerprint, and of the tokenizer and template that all have."""
    folder = write_model_folder(model_root / name, rope_theta=float(1 + sum(name.encode())), **config)
    if template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def compare(base: Any, folder: Path, *, verdict: str, worst: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA, "base": base.fingerprint, "derived": inspect_model(folder).fingerprint, "verdict": verdict,
        "tensors": 2, "by_verdict": {verdict: 2}, "worst": worst, "mean": worst, "worst_tensor": "a.weight", "wrong": "",
    }  # fmt: skip


def add_form(
    base: Any, name: str, model_root: Path, actor: Any, *, verdict: str, worst: str, template: str = "", source: str = "", **config: Any
) -> Any:
    """Registered as a form of the other under this name, from a folder of its name or another."""
    from registry.services.base_models import register_base_model

    folder = write_other_folder(model_root, source or name, template=template, **config)
    comparison = compare(base, folder, verdict=verdict, worst=worst)
    return register_base_model(name, source=folder.name, actor=actor, derived_from=base, comparison=comparison)
