"""What a batch system says of the job that this process is part of: Slurm's variables, or `VISIONBENCH_NODE`."""

from __future__ import annotations

import os

NODE, JOB = "VISIONBENCH_NODE", "VISIONBENCH_JOB"
"""They name the node and the job: in a batch system that is not Slurm, or where the node's name is to be hidden."""


def node() -> str | None:
    """The node's name; None outside of a batch system."""
    return os.environ.get(NODE) or os.environ.get("SLURMD_NODENAME") or None


def number() -> str | None:
    """The job's number, or its name."""
    return os.environ.get("SLURM_JOB_ID") or os.environ.get(JOB) or None


def restarts() -> int | None:
    """How often the job had begun before this time; Slurm says nothing the first time."""
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if os.environ.get("SLURM_JOB_ID") and count.isdecimal() else None


def is_alone() -> bool | None:
    """Whether the job was given all cores of its node."""
    cores = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(cores) >= (os.cpu_count() or 1) if number() and cores.isdecimal() else None
