"""The libraries we compare with, in a virtual environment of their own: they need transformers 4, we need 5."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

BENCH = Path("var/bench")
PEER_VENV = BENCH / "venv-peers"
# repeng 0.4.0 names `np.float_`, which NumPy 2 no longer has.
PEER_PACKAGES = ("torch==2.13.0", "steering-vectors==0.12.2", "repeng==0.4.0", "transformers>=4.56,<5", "numpy<2", "safetensors")


def make_peer_venv() -> Path:
    """The interpreter of the peers' environment. A marker written last tells a finished one from an interrupted one."""
    python, marker = PEER_VENV / "bin" / "python", PEER_VENV / "installed.txt"
    wanted = "\n".join(PEER_PACKAGES)
    if not marker.is_file() or marker.read_text() != wanted:
        print(f"making {PEER_VENV} for {', '.join(PEER_PACKAGES)}", flush=True)
        venv.create(PEER_VENV, with_pip=True, clear=True)
        subprocess.run([python, "-P", "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        marker.write_text(wanted)
    return python


def copy_for_transformers_4(model: Path, folder: Path) -> None:
    """transformers 4 looks for `rope_theta` where transformers 5 writes `rope_parameters`; everything else it reads as it is.

    Weights are linked rather than copied where the file system allows it.
    """
    shutil.copytree(model, folder, copy_function=_link_or_copy)
    config = json.loads((model / "config.json").read_text())
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        if rope.get("rope_type", "default") != "default":
            raise SystemExit(f"rope type {rope['rope_type']!r} has no plain form in transformers 4; use a model with the default rope")
        config["rope_theta"] = rope["rope_theta"]
    # The link goes first: writing through it would change the original.
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
