"""Devices: what this machine has to run a model on, and what is said of it: names, memory, kernels, and when one is lost."""

from __future__ import annotations

import gc
import resource
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from steernode.errors import ModelError
from steernode.placement import CPU, DTYPE_BYTES, Device

# The first generation whose tensor cores take bfloat16; those before emulate it at a fraction of the speed, as torch itself says.
_BFLOAT16_SINCE = (8, 0)
# What CUDA's libraries say when memory runs out, where torch raises no error of its own for it.
_NO_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
# What a CPU needs one of to compute in a dtype as fast as in float32, as Linux names it: on x86 the first, on ARM the last.
_QUICK_BY = {"bfloat16": ("avx512_bf16", "amx_bf16", "bf16"), "float16": ("avx512_fp16", "amx_fp16", "asimdhp")}
_FLAGS = ("flags", "Features")
_CGROUP = Path("/sys/fs/cgroup")


def list_devices() -> tuple[Device, ...]:
    """The CPU, then every GPU that this process may see, in its numbering, without how much is free there: see `look_closer`."""
    return (_describe_cpu(), *(_describe_gpu(number) for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)))


def look_closer(device: Device) -> Device:
    """With what is free there now. To ask a GPU takes some hundred MB of it, so only those are asked that a process works on."""
    return device if device.name == CPU else replace(device, free_bytes=torch.cuda.mem_get_info(device.name)[0])


def _describe_cpu() -> Device:
    total, free = _read_cpu_memory()
    return Device(CPU, _name_cpu(), CPU, total, free)


def _describe_gpu(number: int) -> Device:
    properties = torch.cuda.get_device_properties(number)
    dtypes = frozenset(DTYPE_BYTES) - (frozenset() if (properties.major, properties.minor) >= _BFLOAT16_SINCE else {"bfloat16"})
    # A number depends on CUDA_VISIBLE_DEVICES; the card's own name does not.
    identity = str(getattr(properties, "uuid", "") or number)
    return Device(f"cuda:{number}", properties.name, identity, properties.total_memory, None, dtypes)


def _name_cpu() -> str:
    for line in _read_lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "CPU"


def _read_cpu_memory() -> tuple[int, int]:
    """Total and available bytes: of the machine, or of the control group if that is given less."""
    lines = (line.partition(":") for line in _read_lines(Path("/proc/meminfo")))
    facts = {name: int(rest.split()[0]) * 1024 for name, _, rest in lines}
    if "MemAvailable" not in facts:
        # Where nothing says how much there is, nothing is refused for it.
        return 2**63 - 1, 2**63 - 1
    limit, used = (_read_lines(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdigit():
        most = int(limit[0])
        return min(facts["MemTotal"], most), min(facts["MemAvailable"], max(0, most - int(used[0])))
    return facts["MemTotal"], facts["MemAvailable"]


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def require_accelerate(device: str) -> None:
    """Raises: ModelError PACKAGE_MISSING."""
    if find_spec("accelerate") is None:
        raise ModelError("PACKAGE_MISSING", f"loading onto {device} takes the package accelerate: pip install accelerate", "accelerate")


def describe_kernels(device: torch.device) -> str:
    """Which compiled code computes there: the same model gives other last digits by another."""
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, compute capability {capability}"
    return f"CPU {torch.backends.cpu.get_cpu_capability()}"


def name_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _name_cpu()


def describe_slowness(device: torch.device, dtype: str) -> str:
    """In a sentence, that the CPU computes in this dtype more slowly than in float32, and what to do; empty where it does not, or where
    nothing says what it has."""
    wanted = _QUICK_BY.get(dtype, ()) if device.type == "cpu" else ()
    flags = next((line.partition(":")[2].split() for line in _read_lines(Path("/proc/cpuinfo")) if line.startswith(_FLAGS)), [])
    if not wanted or not flags or not set(wanted).isdisjoint(flags):
        return ""
    return (
        f"{dtype} is slow on this CPU ({_name_cpu()}), which has no instructions for it ({' or '.join(wanted[:2])}); float32 is several "
        "times faster if it fits the memory: model_dtype float32 in a recipe, --dtype float32 for a node"
    )


def begin_peak(devices: list[torch.device]) -> None:
    """From here on `read_peak` counts. A CPU's peak cannot be begun anew: it is the process's, since it was started."""
    for device in devices:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)


def read_peak(devices: list[torch.device]) -> int:
    """The most bytes that were in use at a time: of all GPUs that hold the model together, or of this process."""
    if any(device.type == "cuda" for device in devices):
        return sum(torch.cuda.max_memory_allocated(device) for device in devices)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def free_memory() -> None:
    """What nobody refers to any more goes back to the machine, so that another process can have it."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an accelerator, its libraries, or the allocator of the CPU, which raises a plain RuntimeError, had no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def is_device_lost(error: BaseException | None) -> bool:
    """Whether a GPU failed under this process, here or in what this error came from. After that no other work of the process can use it."""
    while error is not None:
        is_cuda = isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error:" in str(error))
        if is_cuda and not is_out_of_memory(error):
            return True
        error = error.__cause__ or error.__context__
    return False
