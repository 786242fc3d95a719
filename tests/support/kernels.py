"""The engine's tests as another processor computes: `make test-kernels`.

Processors differ in two things, and this changes both. Which kernels compute: of `CHOICES`, settings of the libraries below torch, the
first that changes a bit of a fixed computation is taken. On what the last bits of a product depend: as a plugin of pytest, this file
moves each number of a matrix product by a unit in the last place or by none, as its shape and the place in it have it. What is the same
computation stays the same bit for bit; what only means the same does not.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache, wraps
from zlib import crc32

import torch
from torch import Tensor

CHOICES = (
    # The kernels of processors that have no AVX-512, on an Intel that has.
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    # Those that any x86 processor has, which AMD's take as well.
    {"MKL_CBWR": "COMPATIBLE"},
    # torch's own, without vector instructions: where there is no MKL.
    {"ATEN_CPU_CAPABILITY": "default"},
)
PRODUCTS = (
    (torch.nn.functional, "linear"),
    (torch.nn.functional, "scaled_dot_product_attention"),
    (torch, "addmm"),
    (torch, "matmul"),
)


def compute() -> str:
    """The digest of a product and a gate. Quotients of integers are the same everywhere, so that only these two can differ."""
    generator = torch.Generator().manual_seed(0)
    states, weights = (torch.randint(-999, 1000, shape, generator=generator) / 997 for shape in ((24, 64), (64, 96)))
    return hashlib.sha256(torch.nn.functional.silu(states @ weights).numpy().tobytes()).hexdigest()


def compute_under(choice: dict[str, str]) -> str:
    """In a process of its own, because libraries choose their kernels once."""
    command = [sys.executable, "-c", "from tests.support.kernels import compute; print(compute())"]
    return subprocess.run(command, env=os.environ | choice, check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: list[str]) -> int:
    own = compute_under({})
    found = next((choice for choice in CHOICES if compute_under(choice) != own), None)
    tried = ", ".join(map(describe, CHOICES))
    if found is None:
        print(f"NO other kernels on this processor: {tried} change no bit of a fixed product.", flush=True)
        if os.environ.get("CI") == "true":
            return 1
    else:
        print(f"Other kernels: {describe(found)} changes bits of a fixed product; tried in order: {tried}.", flush=True)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.kernels", *arguments]
    return subprocess.run(command, env=os.environ | (found or {})).returncode


def describe(choice: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in choice.items())


def pytest_configure() -> None:
    for owner, name in PRODUCTS:
        setattr(owner, name, _rounded(getattr(owner, name)))


def _rounded(multiply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(multiply)
    def multiply_and_round(*arguments: object, **options: object) -> Tensor:
        product = multiply(*arguments, **options)
        return product * _units(product.shape) if product.dtype is torch.float32 else product

    return multiply_and_round


@cache
def _units(shape: torch.Size) -> Tensor:
    with torch.inference_mode(False):
        drawn = torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(crc32(repr(tuple(shape)).encode())))
        return 1 + torch.finfo(torch.float32).eps * drawn


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
