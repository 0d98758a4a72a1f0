"""Every flag that a measurement can carry: what it means to a reader, and whether it voids a launch's ratio.

One registry, read by what measures, what judges and what reports. A new flag is one entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A doubt about a number.

    `voids_ratio` says when a ratio of two sides is then one of clocks or of other programs, and not of code: "always",
    "wall" (only where the wall clock timed it: CPU time stands still while another program has the core) or "never".
    """

    meaning: str
    voids_ratio: Literal["always", "wall", "never"] = "never"


FLAGS: dict[str, Flag] = {
    "throttled": Flag(
        meaning="the device slowed its clock meanwhile, and those blocks were discarded", voids_ratio="always"
    ),
    "clocks_differ": Flag(
        meaning="the device's clock differed by more than 1 % between the two sides", voids_ratio="always"
    ),
    "clock_unsteady": Flag(meaning="the device's clock moved by more than 1 %"),  # in turns it meets both sides
    "noisy_env": Flag(meaning="something else was running on the machine meanwhile", voids_ratio="wall"),
    "busy_machine": Flag(meaning="other programs wanted the cores when it began"),
    "scattered": Flag(meaning="its blocks differ by more than a tenth among themselves"),
    "nan_output": Flag(meaning="the model's output held NaN or infinity"),
    "recompiled": Flag(meaning="something was compiled again while it was timed"),
    "warm_cache": Flag(meaning="the compiler found work of an earlier run on the disk"),
    "clocks_disagree": Flag(meaning="the device's clock and the wall clock differ by more than 2 %"),
    "power_capped": Flag(meaning="the device ran at its power limit"),
    "throttle_unknown": Flag(meaning="the driver does not say whether the device slowed itself down"),
    "other_gpu_processes": Flag(meaning="another process was on the GPU"),
    "mig": Flag(meaning="the GPU is a slice of a card (MIG)"),
    "ecc": Flag(meaning="error correction takes some of the memory's bandwidth"),
    "persistence_off": Flag(meaning="the driver unloads between processes"),
    "power_limit_lowered": Flag(meaning="the power limit is below the card's default"),
    "powersave_governor": Flag(meaning="the CPU's governor saves power"),
    "host_bound": Flag(meaning="the host, not the device, set the pace"),
    "products_missed": Flag(meaning="operators that multiply, or may, have no formula and are left out"),
    "no_steady_state": Flag(meaning="the blocks had not settled when the time was up"),
}


def meaning(name: str) -> str:
    """What a flag means, as a clause; an unknown flag is shown by its name."""
    return FLAGS[name].meaning if name in FLAGS else f"flagged {name.replace('_', ' ')}"


def voids_ratio(name: str, timer: str) -> bool:
    """Whether a ratio that `timer` ("cpu", "wall" or "device") took says nothing about code under this flag."""
    voids = FLAGS[name].voids_ratio if name in FLAGS else "never"
    return voids == "always" or (voids == "wall" and timer == "wall")
