"""Devices: a model is loaded in the dtype that is meant, where there is room; what does not fit or is not there is said before loading."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from steernode.engine.access import devices, models
from steernode.engine.access.batches import halve_on_oom
from steernode.engine.access.models import load_model
from steernode.errors import EngineError, ModelError
from steernode.files.weights import measure_weights


@pytest.fixture
def bf16_folder(model_folders: dict[str, Path], tmp_path: Path) -> Path:
    """The tiny llama as most models come: weights and config in bfloat16."""
    folder = shutil.copytree(model_folders["llama"], tmp_path / "bf16")
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    return folder


def test_a_model_stays_in_bfloat16_unless_another_dtype_is_asked_for(bf16_folder: Path) -> None:
    own, wide = load_model(bf16_folder), load_model(bf16_folder, dtype="float32")
    assert {parameter.dtype for parameter in own.model.parameters()} == {torch.bfloat16}
    assert (own.dtype_name, wide.dtype_name) == ("bfloat16", "float32")
    assert own.fingerprint == wide.fingerprint
    assert own.devices == [torch.device("cpu")]
    assert own.attention in ("sdpa", "eager")


def test_half_precision_files_are_run_in_float32_where_nothing_is_said(model_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(model_folders["llama"], tmp_path / "fp16")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert load_model(folder).dtype_name == "float32"


def test_the_size_of_a_model_is_read_from_its_headers(bf16_folder: Path) -> None:
    weights = measure_weights(bf16_folder, ["model.safetensors"])
    numbers = sum(tensor.numel() for tensor in load_file(bf16_folder / "model.safetensors").values())
    assert (weights.numbers, weights.other_bytes) == (numbers, 0)


def test_a_device_that_is_not_there_is_refused_before_loading(bf16_folder: Path) -> None:
    with pytest.raises(ModelError, match="there is no cuda:7 here") as refused:
        load_model(bf16_folder, device="cuda:7")
    assert refused.value.code == "DEVICE_MISSING"


def test_a_model_too_large_is_refused_before_loading(bf16_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = devices.list_devices()
    monkeypatch.setattr(models, "list_devices", lambda: tuple(replace(device, free_bytes=1000) for device in here))
    monkeypatch.setattr(models, "_load_pretrained", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match="in float32") as refused:
        load_model(bf16_folder)
    assert refused.value.code == "MODEL_TOO_LARGE"


@pytest.mark.parametrize(
    ("error", "code"),
    [(torch.OutOfMemoryError("CUDA out of memory"), "MODEL_TOO_LARGE"), (RuntimeError("a shape is wrong"), "MODEL_LOAD")],
)
def test_memory_that_ends_while_loading_has_a_code(bf16_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str) -> None:
    import transformers

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", fail)
    with pytest.raises(ModelError) as refused:
        load_model(bf16_folder)
    assert refused.value.code == code


def test_a_gpu_that_is_lost_while_loading_is_no_fault_of_the_model(bf16_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def fail(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", fail)
    with pytest.raises(torch.AcceleratorError):
        load_model(bf16_folder)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_whatever_library_of_a_gpu_has_no_memory_the_batch_is_halved(text: str) -> None:
    def work(rows: list[int]) -> int:
        if len(rows) > 1:
            raise RuntimeError(text)
        return rows[0]

    assert halve_on_oom([1, 2, 3], work) == [([1], 1), ([2], 2), ([3], 3)]
    assert not devices.is_device_lost(RuntimeError(text))


def test_a_lost_gpu_is_told_from_what_else_may_fail() -> None:
    lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert devices.is_device_lost(lost)
    wrapped = EngineError("NON_FINITE", "a value is not finite")
    wrapped.__cause__ = lost
    assert devices.is_device_lost(wrapped)
    for other in (RuntimeError("a shape is wrong"), torch.OutOfMemoryError("CUDA out of memory"), ValueError("CUDA error: no"), None):
        assert not devices.is_device_lost(other)


def test_the_cpu_is_a_device_with_a_name_and_memory() -> None:
    cpu = devices.list_devices()[0]
    assert cpu.name == "cpu"
    assert 0 < cpu.free_bytes <= cpu.total_bytes
    assert devices.name_device(torch.device("cpu")) == cpu.title
    assert devices.describe_kernels(torch.device("cpu")).startswith("CPU ")
    assert devices.read_peak([torch.device("cpu")]) > 1024**2


def test_a_gpu_without_what_loads_onto_it_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install accelerate") as refused:
        devices.require_accelerate("cuda:0")
    assert (refused.value.code, refused.value.item) == ("PACKAGE_MISSING", "accelerate")


@pytest.mark.parametrize(
    ("flags", "dtype", "is_slow"),
    [
        ("flags\t: fpu avx2", "bfloat16", True),
        ("flags\t: fpu avx2", "float16", True),
        ("flags\t: fpu avx2", "float32", False),
        ("flags\t: fpu avx512f avx512_bf16", "bfloat16", False),
        ("flags\t: fpu avx512f avx512_bf16", "float16", True),
        ("flags\t: fpu amx_tile amx_bf16", "bfloat16", False),
        ("Features\t: fp asimd asimdhp bf16", "bfloat16", False),
        ("Features\t: fp asimd", "bfloat16", True),
        # Nothing says what it has.
        ("processor\t: 0", "bfloat16", False),
    ],
)
def test_a_dtype_that_the_cpu_has_no_instructions_for_is_said_to_be_slow(monkeypatch, flags: str, dtype: str, is_slow: bool) -> None:
    monkeypatch.setattr(devices, "_read_lines", lambda _path: ["model name\t: A CPU", flags])
    said = devices.describe_slowness(torch.device("cpu"), dtype)
    assert bool(said) is is_slow
    assert not said or (dtype in said and "A CPU" in said and "float32 is several times faster" in said)
    assert devices.describe_slowness(torch.device("cuda:0"), dtype) == ""


def test_who_loads_a_model_in_a_slow_dtype_reads_it_in_the_log(bf16_folder: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(models, "describe_slowness", lambda _device, dtype: f"{dtype} is slow" if dtype == "bfloat16" else "")
    load_model(bf16_folder)
    load_model(bf16_folder, dtype="float32")
    assert [record.message.partition(": ")[2] for record in caplog.records if "slow" in record.message] == ["bfloat16 is slow"]
