"""Where rows are measured; and whether the processes that a row is to be trained by fit there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from visionbench.command import progress
from visionbench.command.requests import LARGEST, HowToRun
from visionbench.command.selection import Defaults
from visionbench.record.devices import DeviceSpec, identify, select
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment
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


def device_or_usual(named: str | None) -> str:
    """The device that was named; else the accelerator that torch sees, else the CPU.

    Where a GPU is passed over, stderr says so: a CPU's numbers are not taken for a GPU's.
    """
    if named is not None:
        return named
    from visionbench.machine import unseen
    from visionbench.machine.environment import find_device

    device = find_device()
    if device == "cpu" and (names := unseen.cards()):
        cards = ", ".join(dict.fromkeys(names))
        progress.complain(f"{cards} is here, and torch does not see it: {unseen.reason()}. The CPU is taken.")
    return device


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
        raise BenchError(
            "--parallel fsdp2 is counted and not timed: no rank holds the whole network, and scaling is measured "
            "against one that trains alone; `trace` gives its memory."
        )
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


def check_alike(words: str, environments: Sequence[Environment]) -> None:
    """Raise `BenchError` for devices over which a row's launches cannot be spread."""
    if any(environment.device_type != "cuda" for environment in environments):
        raise BenchError(f"--device {words}: only CUDA GPUs can be measured side by side; name one device.")
    if len({environment.device for environment in environments}) > 1:
        raise BenchError(
            f"--device {words}: these are different GPUs: their rows belong in different columns; name one."
        )


def insist(word: str, device: str) -> DeviceSpec:
    """The data sheet of the card at `device`. Raises `BenchError` where that is none of the cards of that word."""
    from visionbench.machine import unseen
    from visionbench.machine.environment import describe, find_device

    wanted = select(word)
    if not device.startswith("cuda") or find_device() != "cuda":
        why = f" There is a card: {unseen.reason()}." if unseen.cards() else ""
        raise BenchError(
            f"--gpu {word}: there is no CUDA GPU here (torch finds only the CPU).{why} "
            f"Run this on a machine with one, or leave --gpu away to measure this CPU."
        )
    name = describe(device).device_name or "unknown"
    card = identify(name)
    if card is None or card not in wanted:
        known = f"--gpu {card.key}" if card else "no --gpu (this GPU is not in the table of `list devices`)"
        raise BenchError(f"--gpu {word}: the GPU here is a {name}. Use {known}, or run this on a {word}.")
    return card
