"""Every flag that a measurement can carry: what it means to a reader, and whether it voids a launch's ratio.

One registry, read by what measures, what judges and what reports. A new flag is one entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionbench.record.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A doubt about a number.

    `voids_ratio` says when a ratio of two sides is then one of clocks or of other programs, and not of code: "always",
    "wall" (only where the wall clock timed it: CPU time stands still while another program has the core) or "never".
    `voids_time`: the time is not that of the device at this work, so no calibration is fitted to it; a power limit is
    the steady state of a big model, and voids nothing.
    """

    meaning: str
    voids_ratio: Literal["always", "wall", "never"] = "never"
    voids_time: bool = False


FLAGS: dict[str, Flag] = {
    "throttled": Flag(
        meaning="the device slowed its clock meanwhile, and those blocks were discarded",
        voids_ratio="always",
        voids_time=True,
    ),
    "clocks_differ": Flag(
        meaning="the device's clock differed by more than 1 % between the two sides", voids_ratio="always"
    ),
    "clock_unsteady": Flag(meaning="the device's clock moved by more than 1 %"),  # in turns it meets both sides
    "noisy_env": Flag(
        meaning="something else was running on the machine meanwhile", voids_ratio="wall", voids_time=True
    ),
    "busy_between_turns": Flag(
        meaning="threads of the model went on while the other side had its turn", voids_ratio="always"
    ),
    "busy_between_steps": Flag(
        meaning="threads or processes that the model started went on computing while no step was asked for",
        voids_time=True,
    ),
    "busy_machine": Flag(meaning="other programs wanted the cores when it began"),
    "in_process": Flag(meaning="measured in the caller's own process, not in a fresh one"),
    "scattered": Flag(meaning="the time of a step varied by more than 10 % within a launch", voids_time=True),
    "nan_output": Flag(meaning="the model's output held NaN or infinity", voids_time=True),
    "recompiled": Flag(meaning="something was compiled again while it was timed", voids_time=True),
    "warm_cache": Flag(meaning="the compiler found work of an earlier run on the disk"),
    "clocks_disagree": Flag(meaning="the device's clock and the wall clock differ by more than 2 %", voids_time=True),
    "power_capped": Flag(meaning="the device ran at its power limit"),
    "throttle_unknown": Flag(meaning="the driver does not say whether the device slowed itself down"),
    "other_gpu_processes": Flag(meaning="another process was on the GPU", voids_time=True),
    "variables_set": Flag(
        meaning="environment variables that change a device's speed or numbers were set (doctor names them)",
        voids_time=True,
    ),
    "mig": Flag(meaning="the GPU is a slice of a card (MIG)", voids_time=True),
    "ecc": Flag(meaning="error correction takes some of the memory's bandwidth"),
    "pcie_degraded": Flag(meaning="the card has fewer lanes to the host than it could have"),
    "rows_remapped": Flag(meaning="rows of the card's memory were faulty and are replaced"),
    "persistence_off": Flag(meaning="persistence mode is off, so the driver may start anew with a process"),
    "power_limit_lowered": Flag(meaning="the power limit is below the card's default", voids_time=True),
    "powersave_governor": Flag(meaning="the CPU's governor saves power"),
    "host_bound": Flag(meaning="the host, not the device, set the pace", voids_time=True),
    "stalled": Flag(
        meaning="the host was fast enough, but it stood still now and then, and the device waited", voids_time=True
    ),
    "no_grad": Flag(meaning="it does not run in inference mode, and ran under no_grad"),
    "products_missed": Flag(meaning="operators that multiply, or may, have no formula and are left out"),
    "replicas_differ": Flag(meaning="after synchronised steps the ranks' weights were not equal", voids_time=True),
    "cores_shared": Flag(meaning="the processes have more threads than there are cores", voids_time=True),
    "no_steady_state": Flag(meaning="the blocks had not settled when the time was up", voids_time=True),
}


def meaning(name: str) -> str:
    """What a flag means, as a clause; an unknown flag is shown by its name."""
    return FLAGS[name].meaning if name in FLAGS else f"flagged {name.replace('_', ' ')}"


def voids_ratio(name: str, timer: str) -> bool:
    """Whether a ratio that `timer` ("cpu", "wall" or "device") took says nothing about code under this flag."""
    voids = FLAGS[name].voids_ratio if name in FLAGS else "never"
    return voids == "always" or (voids == "wall" and timer == "wall")


def time_doubts(record: Record) -> tuple[str, ...]:
    """The flags on a record for which its time says little of the device."""
    flags = dict.fromkeys(flag for measured in record.measurements for flag in measured.flags)
    return tuple(flag for flag in flags if flag in FLAGS and FLAGS[flag].voids_time)
