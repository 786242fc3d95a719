"""The mean difference of `steernode.engine` against the one of the `steering-vectors` library, layer by layer.

    python -m benchmarks.parity_steering_vectors [--pairs 100] [--model demo/model] [--contrast demo/data/empathy.pairs.jsonl]

The library needs transformers 4, so it runs in a virtual environment of its own under var/bench/, made on the first run.
Both sides get the same prompts as text and read their last token in float32. Exit 1 unless the cosine is at least 0.9999 at
every layer but the last. Writes var/bench/parity.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import BENCH, copy_for_transformers_4, make_peer_venv

MIN_COSINE = 0.9999


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--model", type=Path, default=Path("demo/model"))
    parser.add_argument("--contrast", type=Path, default=Path("demo/data/empathy.pairs.jsonl"))
    # What the peer's interpreter is started with: the folder that holds its input and takes its output.
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer is not None:
        return train_with_steering_vectors(arguments.peer)
    return compare(arguments.model, arguments.contrast, arguments.pairs)


def compare(model: Path, contrast: Path, count: int) -> int:
    import numpy as np

    from steernode.engine.access.encoding import encode_prompt
    from steernode.engine.access.models import load_model
    from steernode.engine.reading.directions import extract_directions
    from steernode.files.contrast import parse_pairs

    loaded = load_model(model)
    contrast_set = parse_pairs(contrast.read_bytes())
    pairs = contrast_set.pairs[:count]
    ours = extract_directions(loaded, pairs, layers=range(loaded.n_layers))
    sides = [[encode_prompt(loaded, side).token_ids for side in (pair.positive, pair.negative)] for pair in pairs]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_for_transformers_4(model, folder / "model")
        prompts = [[{"text": loaded.tokenizer.decode(ids), "token_ids": ids} for ids in side] for side in sides]
        (folder / "prompts.json").write_text(json.dumps(prompts))
        subprocess.run([make_peer_venv(), "-m", "benchmarks.parity_steering_vectors", "--peer", str(folder)], check=True)
        versions = json.loads((folder / "versions.json").read_text())
        with np.load(folder / "vectors.npz") as theirs:
            rows = [
                compare_layer(direction.layer, direction.direction.numpy() * direction.norm, theirs[str(direction.layer)])
                for direction in ours
            ]
    # The last layer is reported and not judged: libraries disagree on whether it is read before or after the final norm.
    agrees = all(row["cosine"] >= MIN_COSINE for row in rows[:-1])
    print(f"{'layer':>5}  {'cosine':>12}  {'norm, ours':>12}  {'norm, theirs':>12}")
    for row in rows:
        print(f"{row['layer']:>5}  {row['cosine']:>12.9f}  {row['norm']:>12.5f}  {row['peer_norm']:>12.5f}")
    print(f"{'agree' if agrees else 'DISAGREE'}: cosine >= {MIN_COSINE} at every layer but the last, {len(pairs)} pairs, {versions}")
    report = {
        "model_fingerprint": loaded.fingerprint,
        "contrast_set_digest": contrast_set.digest,
        "pairs": len(pairs),
        "peer": versions,
        "layers": rows,
        "min_cosine": MIN_COSINE,
        "agrees": agrees,
    }
    BENCH.mkdir(parents=True, exist_ok=True)
    (BENCH / "parity.json").write_text(json.dumps(report, indent=2) + "\n")
    return 0 if agrees else 1


def compare_layer(layer, ours, theirs) -> dict:
    import numpy as np

    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    norm, peer_norm = np.linalg.norm(ours), np.linalg.norm(theirs)
    return {"layer": layer, "cosine": float(ours @ theirs / (norm * peer_norm)), "norm": float(norm), "peer_norm": float(peer_norm)}


def train_with_steering_vectors(folder: Path) -> int:
    """Runs in the peer's environment, which knows nothing of steernode."""
    from importlib.metadata import version

    import numpy as np
    import torch
    from steering_vectors import train_steering_vector
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder / "model", local_files_only=True, dtype=torch.float32, use_safetensors=True)
    model.eval()
    pairs = json.loads((folder / "prompts.json").read_text())
    for side in (side for pair in pairs for side in pair):
        if tokenizer(side["text"])["input_ids"] != side["token_ids"]:
            raise SystemExit(f"the two tokenizers disagree on {side['text']!r}, so the comparison would mean nothing")
    samples = [(positive["text"], negative["text"]) for positive, negative in pairs]
    trained = train_steering_vector(model, tokenizer, samples, read_token_index=-1, batch_size=1)
    np.savez(folder / "vectors.npz", **{str(layer): vector.float().numpy() for layer, vector in trained.layer_activations.items()})
    versions = {name: version(name) for name in ("steering-vectors", "transformers", "torch")}
    (folder / "versions.json").write_text(json.dumps(versions))
    return 0


if __name__ == "__main__":
    sys.exit(main())
