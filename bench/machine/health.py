"""Whether a card is fit to measure, by what its driver counts: errors of its memory, its lanes, its other users."""

from __future__ import annotations

from typing import Any

import torch

from visionbench.machine import accelerator, nvml
from visionbench.record.record import Health
from visionbench.record.units import plural

UNCORRECTED, SINCE_LOADED = 1, 0
"""NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC."""


def read(gpu: nvml.Gpu) -> Health:
    """What the driver counts now. A slice of a card has the whole card's."""
    remapped = nvml.ask(gpu, "nvmlDeviceGetRemappedRows")
    return Health(
        ecc_uncorrected=_whole(nvml.ask(gpu, "nvmlDeviceGetTotalEccErrors", UNCORRECTED, SINCE_LOADED)),
        rows_remapped=None if remapped is None else int(remapped[0]) + int(remapped[1]),
        remap_pending=None if remapped is None else bool(remapped[2]),
        pcie_generation=_whole(nvml.ask(gpu, "nvmlDeviceGetCurrPcieLinkGeneration")),
        pcie_generation_max=_whole(nvml.ask(gpu, "nvmlDeviceGetMaxPcieLinkGeneration")),
        pcie_width=_whole(nvml.ask(gpu, "nvmlDeviceGetCurrPcieLinkWidth")),
        pcie_width_max=_whole(nvml.ask(gpu, "nvmlDeviceGetMaxPcieLinkWidth")),
        power_limit_default=nvml.power_limits(gpu)[1],
    )


def lacks_lanes(health: Health) -> bool:
    """Whether the card has fewer lanes than it could have: it sits loose, or in a small slot."""
    width, most = health.pcie_width, health.pcie_width_max
    return width is not None and most is not None and width < most


def unfit(device: str) -> tuple[str, ...]:
    """Why nothing may be measured on this card, in clauses; () where nothing forbids it."""
    with nvml.opened(device) as gpu:
        if gpu is None:
            return ()
        health, others = read(gpu), nvml.other_processes(gpu, device)
        mode = nvml.ask(gpu, "nvmlDeviceGetMigMode")
        count = health.ecc_uncorrected or 0
        held_down = [cause for cause, bit in nvml.REASONS if (nvml.reasons(gpu) or 0) & bit and cause != "power_cap"]
    reasons = {
        f"other processes are on its GPU ({', '.join(map(str, others))})": bool(others),
        f"its GPU's memory had {plural(count, 'uncorrectable error')}": bool(count),
        "a faulty row of its GPU's memory waits to be replaced (restart it)": bool(health.remap_pending),
        "its GPU is a slice of a card (MIG)": gpu.mig or bool(mode and mode[0]),
        f"its GPU is held down before it has work ({', '.join(held_down).replace('_', ' ')})": bool(held_down),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def no_kernels(device: str) -> tuple[str, ...]:
    """That this torch has no kernels for the card, as a clause; () where it has."""
    from visionbench.machine.support import has_kernels, missing_kernels

    if accelerator.is_amd() or not torch.cuda.is_available():
        return ()
    capability = torch.cuda.get_device_capability(device)
    if has_kernels(capability, torch.cuda.get_arch_list()):
        return ()
    return (missing_kernels(torch.cuda.get_device_name(device), capability).rstrip("."),)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
