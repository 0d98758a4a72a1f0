"""What machine this is, as far as it can be read without changing it. Unknown is None, never a guess.

What does not change while the process lives is asked once: the fork server asks before it forks, so a launch pays
nothing for it. That also makes the git commit the one of the code that is loaded, not of an edit made meanwhile.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import torch

from visionbench import ROOT
from visionbench.machine import accelerator, allocator, health, host, nvml
from visionbench.record import devices
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Health

GIT_SECONDS = 3.0

_ALLOCATOR = "another allocator reserves another amount of memory"
_WAITS = "the host waits for every kernel"
_CONVOLUTIONS = "convolutions are chosen otherwise"
_FEWER_BITS = "products are in fewer bits, whatever a record says"
_INSTRUCTIONS = "kernels use fewer instructions of this CPU"

VARIABLES: dict[str, str] = {
    "NVIDIA_TF32_OVERRIDE": "0 turns TF32 off behind torch's back, whatever a record says",
    "CUDA_LAUNCH_BLOCKING": _WAITS,
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "every tensor asks the driver for memory",
    "PYTORCH_ALLOC_CONF": _ALLOCATOR,
    "PYTORCH_CUDA_ALLOC_CONF": _ALLOCATOR,
    "CUBLAS_WORKSPACE_CONFIG": "cuBLAS chooses other kernels and another workspace",
    "CUBLASLT_WORKSPACE_SIZE": "cuBLASLt chooses other kernels and another workspace",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1 turns TF32 on, whatever a record says",
    "TORCH_BLAS_PREFER_CUBLASLT": "matrix products are another library's",
    "DISABLE_ADDMM_CUDA_LT": "matrix products are another library's",
    "PYTORCH_TUNABLEOP_ENABLED": "matrix products are chosen by trying, anew in each process",
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE": "cuBLAS and cuBLASLt share a workspace, or not",
    "TORCH_LINEAR_FLATTEN_3D": "linear layers call another kernel",
    "TORCH_CUDNN_V8_API_DISABLED": _CONVOLUTIONS,
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B": _CONVOLUTIONS,
    "TORCH_CUDNN_SDPA_DEPRIORITIZED": "attention is another kernel",
    "CUDA_FORCE_PTX_JIT": "kernels are compiled when they are first called",
    "PYTORCH_HIP_ALLOC_CONF": _ALLOCATOR,
    "PYTORCH_NO_HIP_MEMORY_CACHING": "every tensor asks the driver for memory",
    "HIP_LAUNCH_BLOCKING": _WAITS,
    "AMD_SERIALIZE_KERNEL": _WAITS,
    "HSA_OVERRIDE_GFX_VERSION": "kernels of another card run",
    "TORCH_BLAS_PREFER_HIPBLASLT": "matrix products are another library's",
    "TORCH_ROCM_FA_PREFER_CK": "attention is another kernel",
    "MIOPEN_FIND_MODE": _CONVOLUTIONS,
    "PYTORCH_MIOPEN_SUGGEST_NHWC": "convolutions take another memory format",
    "PYTORCH_MIOPEN_SUGGEST_NHWC_BATCHNORM": "batch norm takes another memory format",
    "PYTORCH_ENABLE_MPS_FALLBACK": "operators that the GPU lacks run on the CPU",
    "PYTORCH_MPS_HIGH_WATERMARK_RATIO": _ALLOCATOR,
    "PYTORCH_MPS_LOW_WATERMARK_RATIO": _ALLOCATOR,
    "PYTORCH_MPS_FAST_MATH": "products are rounded more",
    "PYTORCH_MPS_PREFER_METAL": "matrix products are another library's",
    "ONEDNN_DEFAULT_FPMATH_MODE": _FEWER_BITS,
}
"""What changes a GPU's numbers from outside, and how: variables of NVIDIA's, AMD's, Intel's and Apple's libraries and
of torch (its notes "CUDA environment variables", "CUDA semantics", "HIP semantics" and "MPS environment variables", and
the names in the libraries of torch 2.14).
"""

CPU_VARIABLES: dict[str, str] = {
    "ONEDNN_DEFAULT_FPMATH_MODE": _FEWER_BITS,
    "DNNL_DEFAULT_FPMATH_MODE": _FEWER_BITS,
    "ONEDNN_MAX_CPU_ISA": _INSTRUCTIONS,
    "DNNL_MAX_CPU_ISA": _INSTRUCTIONS,
    "ATEN_CPU_CAPABILITY": _INSTRUCTIONS,
    "MKL_ENABLE_INSTRUCTIONS": _INSTRUCTIONS,
    "MKL_CBWR": _INSTRUCTIONS,
}
"""What changes a CPU's numbers in the same way: of oneDNN (its older names, too), of torch and of MKL."""

_SWITCHES = {
    "CUDA_LAUNCH_BLOCKING", "PYTORCH_NO_CUDA_MEMORY_CACHING", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT", "DISABLE_ADDMM_CUDA_LT", "PYTORCH_TUNABLEOP_ENABLED", "TORCH_CUDNN_V8_API_DISABLED",
    "TORCH_CUDNN_USE_HEURISTIC_MODE_B", "TORCH_CUDNN_SDPA_DEPRIORITIZED", "CUDA_FORCE_PTX_JIT", "HIP_LAUNCH_BLOCKING",
    "AMD_SERIALIZE_KERNEL", "TORCH_BLAS_PREFER_HIPBLASLT", "PYTORCH_MIOPEN_SUGGEST_NHWC",
    "PYTORCH_ENABLE_MPS_FALLBACK", "PYTORCH_MPS_FAST_MATH", "PYTORCH_MPS_PREFER_METAL",
}  # fmt: skip
"""Of these "0" is what holds where they are not set."""


def find_device() -> str:
    """The default device of a measurement: the accelerator that torch sees, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else accelerator.other_here() or "cpu"


def describe(device: str, threads: int | None = None) -> Environment:
    """The environment of a measurement on `device`, or of a count on "meta", which touches no hardware.

    `threads` is the number that torch will use; None means what it uses now. A CUDA device that is not there yields an
    environment without its name: the failure to measure on it is a record too. Raises `BenchError` for a word that is
    no device.
    """
    kind = device_type(device)
    commit, dirty = _checkout()
    software = Environment(
        device_type=kind,
        torch=str(torch.__version__),
        timm=_version("timm"),
        python=platform.python_version(),
        platform=platform.platform(),
        git_commit=commit,
        git_dirty=dirty,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if kind == "meta":
        return software
    here = replace(
        software,
        cpu=_cpu_model(),
        cores=len(host.usable_cores()),
        threads=threads or torch.get_num_threads(),
        node=host.node(),
        job=host.job(),
        restarts=host.restarts(),
        exclusive_node=host.has_whole_node(),
    )
    if kind == "cuda":
        return _with_cuda(here, device)
    if kind in accelerator.OTHERS:
        return _with_another(here, device)
    return replace(here, device_name=_cpu_model(), malloc=allocator.state(), variables=_variables(device))


COMPILER = re.compile(r"TORCHINDUCTOR_|TORCH_COMPILE_OVERRIDE_|TORCHDYNAMO_PREPARE_FREEZING$")
"""Variables that change what `torch.compile` makes: torch 2.14 has some 170 of them (`torch/_inductor/config.py`)."""

_ASIDE = re.compile(
    r"_CACHE(S|_DIR|_DEFAULT|_WRITE)?$|LOG|DEBUG|TIMEOUT|WORKER|COMPILE_THREADS|_DIR$|UNIQUE_|METRIC_TABLES|SAVE_ARGS"
)
"""Of these, what says where and how the compiler works, and not what it makes."""


def variables_of(device: str) -> dict[str, str]:
    """What changes that device's numbers from outside, and how; of the compiler's variables those that are set."""
    compiler = [name for name in sorted(os.environ) if COMPILER.match(name) and not _ASIDE.search(name)]
    known = CPU_VARIABLES if device_type(device) == "cpu" else VARIABLES
    return known | dict.fromkeys(compiler, "torch.compile makes other kernels")


def variables_that_count(device: str) -> dict[str, str]:
    """Those that are set, with their values; "0" and "" of a switch that is off by default are not."""
    values = {name: os.environ.get(name, "").strip() for name in variables_of(device)}
    return {name: value for name, value in values.items() if value and not (name in _SWITCHES and value == "0")}


def _variables(device: str) -> str | None:
    """They as a record keeps them; None for none."""
    return ", ".join(f"{name}={value}" for name, value in variables_that_count(device).items()) or None


def device_type(device: str) -> str:
    """`cuda:1` -> `cuda`. Raises `BenchError` for a word that is no device of torch's."""
    try:
        return torch.device(device).type
    except RuntimeError as error:
        raise BenchError(f"there is no device '{device}': use cpu, cuda, or cuda:1.") from error


def _with_another(here: Environment, device: str) -> Environment:
    if not accelerator.is_there(device):
        return here
    name, memory = accelerator.name_and_memory(device)
    index = torch.device(device).index or 0
    return replace(here, device_name=name, device_memory=memory, device_index=index, variables=_variables(device))


def _with_cuda(here: Environment, device: str) -> Environment:
    if not accelerator.is_there(device):
        return replace(here, cuda=torch.version.cuda)
    properties = torch.cuda.get_device_properties(device)
    known = devices.identify(properties.name)
    driver, power_limit, state = driver_and_health(device)
    index = torch.device(device).index
    return replace(
        here,
        device_key=known.key if known else None,
        device_name=properties.name,
        device_memory=properties.total_memory,
        device_index=torch.cuda.current_device() if index is None else index,
        driver=f"ROCm {torch.version.hip}" if accelerator.is_amd() else driver,
        cuda=torch.version.cuda,
        cudnn=_cudnn(),
        power_limit=power_limit,
        gpu_uuid=accelerator.uuid(device) or None,
        health=state,
        variables=_variables(device),
    )


def driver_and_health(device: str) -> tuple[str | None, float | None, Health | None]:
    """The driver's version, the power limit in watts (a slice of a card has no separate one) and the card's health."""
    with nvml.opened(device) as gpu:
        if gpu is None:
            return None, None, None
        return gpu.driver, None if gpu.mig else nvml.power_limits(gpu)[0], health.read(gpu)


def _cudnn() -> str | None:
    """CuDNN's version; None where it refuses the card: a V100 under a cuDNN without its kernels is a row's failure."""
    try:
        return str(torch.backends.cudnn.version())
    except RuntimeError:
        return None


@cache
def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


@cache
def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


@cache
def _checkout() -> tuple[str | None, bool | None]:
    """Commit of the checkout that this file is part of, and whether tracked files differ from it."""
    answer = _git("rev-parse", "--show-toplevel", "HEAD")
    # Installed into an environment inside somebody's repository, the commit would be that repository's.
    if answer is None or Path(answer.split("\n")[0]).resolve() != ROOT:
        return None, None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return answer.split("\n")[1], None if changes is None else changes != ""


def _git(*words: str) -> str | None:
    # Inside a git hook the GIT_ variables point at the user's repository; optional locks disturb its other commands.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *words],
            check=False,
            env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
