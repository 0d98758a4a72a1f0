"""Where rows are measured; and whether the processes that a row is to be trained by fit there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from visionbench.command.requests import LARGEST, HowToRun
from visionbench.command.selection import Defaults
from visionbench.record.errors import BenchError
from visionbench.record.spec import Protocol, Spec, check_parallel
from visionbench.record.units import plural

MOST_ON_A_CPU = 16
"""Processes on a CPU, unless it has more cores: beyond, a typing error would fork until memory ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The devices to measure on, the protocol, and what a spec is there unless the user says otherwise.

    Several `devices` are alike, and rows are spread over them. `threads` are the CPU's, None for torch's choice.
    """

    devices: tuple[str, ...]
    threads: int | None
    protocol: Protocol
    defaults: Defaults

    @property
    def on_cpu(self) -> bool:
        """Whether this is the CPU, where only a handful of rows is measured unasked."""
        return self.devices == ("cpu",)


def placed(place: Place, how: HowToRun) -> Place:
    """The place for rows of so many processes; as it is where that is not asked for.

    On a CPU each process gets a part of the cores, unless the threads were named. Raises `BenchError`, with the
    remedy, for processes that have no task, no GPU each, or no way of training that can be measured.
    """
    number = checked(how)
    if number is None:
        return place
    [device, *others] = place.devices
    if others:
        raise BenchError(
            "--processes takes the GPUs from the one that --device names on: name that one alone, and choose others by "
            "CUDA_VISIBLE_DEVICES."
        )
    kind, _, first = device.partition(":")
    if kind == "cpu":
        return replace(place, threads=place.threads or _threads(number))
    _check_gpus(kind, int(first or 0), number)
    return place


def checked(how: HowToRun) -> int | None:
    """The number of processes, if that is asked for. Raises `BenchError` where the rest of the request forbids it."""
    if how.processes is None and how.parallel is None:
        return None
    parallel = how.parallel or ("ddp" if how.processes else None)
    spec = Spec(model="any", task=how.task, processes=how.processes, parallel=parallel, compile_mode=how.compile_mode)
    check_parallel(spec)
    if parallel == "fsdp2":
        raise BenchError("--parallel fsdp2 is counted and not measured so far: `trace` gives its memory, ddp is timed.")
    if how.batch_size == LARGEST:
        raise BenchError("the largest batch is searched for with one process: name --batch-size beside --processes.")
    return spec.processes


def _threads(number: int) -> int:
    """Threads of each of so many processes on this CPU."""
    from visionbench.machine import host

    cores = len(host.usable_cores())
    if number > max(cores, MOST_ON_A_CPU):
        most = max(cores, MOST_ON_A_CPU)
        raise BenchError(f"{number} processes on {plural(cores, 'core')} would measure nothing: {most} at most.")
    return max(1, cores // number)


def _check_gpus(kind: str, first: int, number: int) -> None:
    """Raise `BenchError` unless there is a GPU for each process, counted from the first."""
    from visionbench.machine import accelerator
    from visionbench.measuring.ranks import backend_of

    backend_of(kind)
    here = accelerator.count(kind) - first
    if number > here:
        behind = f" from {kind}:{first} on" if first else ""
        raise BenchError(
            f"{number} processes need {plural(number, 'GPU')}, and torch sees {here} here{behind}: use "
            f"--processes {max(here, 1)}, or --device cpu to try it without."
        )
