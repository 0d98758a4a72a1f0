"""A GPU that is in this machine and that torch does not see: which, why, and what to do about it.

Whether a card is there is asked of the driver, and where that does not answer, of the PCI bus. Why torch does not see
it has few causes, and each has one remedy: an environment variable hides it, this torch is built for CPUs, there is no
driver, the driver is older than the CUDA that torch is built for. Anything else is said in torch's own words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from visionbench.machine import accelerator, nvml
from visionbench.machine.environment import device_type
from visionbench.record.errors import BenchError
from visionbench.record.units import plural

PCI = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", ("0x0300", "0x0302")  # a vendor's number; classes: VGA and 3D controllers

HIDES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def cards(library: Any = None, pci: Path = PCI) -> tuple[str, ...]:
    """The names of NVIDIA's cards in this machine, whether torch sees them or not; or ()."""
    if asked := library or nvml.library():
        names: tuple[str, ...] = ()
        with suppress(asked.NVMLError), _handles(asked) as handles:
            names = tuple(str(asked.nvmlDeviceGetName(handle)) for handle in handles)
        if names:
            return names
    found = [folder for folder in pci.glob("*") if _read(folder / "vendor") == NVIDIA]
    return ("an NVIDIA GPU",) * sum(_read(folder / "class").startswith(DISPLAY) for folder in found)


def reason(library: Any = None) -> str:
    """Why torch sees no CUDA device here, with the remedy, as a clause."""
    for variable in HIDES:
        value = os.environ.get(variable)
        if value is not None and value.strip() in ("", "-1", "none", "NoDevFiles"):
            return f"{variable}={value!r} hides it: unset it"
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return (
            f"torch {torch.__version__} is built for CPUs: pip uninstall torch torchvision, and install a build for "
            "CUDA (pytorch.org, Get Started)"
        )
    asked = library or nvml.library()
    knows = nvml.driver_cuda(asked) if asked is not None else None
    if knows is None:
        return "no NVIDIA driver answers: install it, restart, and see that nvidia-smi lists the card"
    needs = numbers(torch.version.cuda)
    if knows[0] < needs[0]:
        ours = f"{knows[0]}.{knows[1]}"
        return (
            f"the driver knows CUDA {ours} and torch {torch.__version__} is built for {torch.version.cuda}: update the "
            f"driver, or install a torch that is built for CUDA {knows[0]} (pytorch.org, Previous Versions)"
        )
    for variable in HIDES:
        if value := os.environ.get(variable):
            return (
                f"{variable}={value!r} names no GPU of this machine: unset it, or name one that `nvidia-smi -L` lists"
            )
    if _is_cut_up(asked):
        return (
            "MIG is on and no slice of the card is there for this process: make one (`sudo nvidia-smi mig -cgi 0 -C`), "
            "or `sudo nvidia-smi -mig 0`"
        )
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"torch says: {str(error).strip().partition(chr(10))[0]}"
    return "torch says: nothing; restart the machine, and see that nvidia-smi lists the card"


def check(device: str) -> None:
    """Raise `BenchError`, with the reason and the remedy, for a device that is not measured on, or that is not here."""
    kind = device_type(device)
    if kind not in ("cpu", "cuda", *accelerator.OTHERS):
        raise BenchError(f"--device {device}: only cuda, xpu, mps and cpu are measured; name one of them.")
    if kind != "cpu" and not accelerator.is_there(device):
        why = missing() if kind == "cuda" else "use --device cpu, or another torch"
        raise BenchError(f"--device {device}: torch finds no such GPU here: {why}.")


def missing() -> str:
    """Why a CUDA device that was asked for is not there, with the remedy, as a clause."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"torch sees {plural(count, 'CUDA device')}: name one of them; see CUDA_VISIBLE_DEVICES"
    return f"{reason()}; or use --device cpu"


def numbers(version: str | None) -> tuple[int, ...]:
    """`13.0` -> (13, 0)."""
    return tuple(int(part) for part in (version or "0.0").split(".")[:2])


@contextmanager
def _handles(module: Any) -> Iterator[list[Any]]:
    """All cards of the machine, whether torch sees them or not. Raises the library's `NVMLError`."""
    module.nvmlInit()
    try:
        yield [module.nvmlDeviceGetHandleByIndex(index) for index in range(module.nvmlDeviceGetCount())]
    finally:
        module.nvmlShutdown()


def _is_cut_up(library: Any) -> bool:
    """Whether a card of this machine has MIG on; without a slice CUDA counts no device."""
    modes = []
    with suppress(library.NVMLError, AttributeError), _handles(library) as handles:
        for handle in handles:
            with suppress(library.NVMLError):  # a card of a kind that has no slices does not know the question
                modes.append(library.nvmlDeviceGetMigMode(handle)[0])
    return any(modes)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
