"""Machines that do not exist: launches whose true ratio is known, so that a rule's error rates can be counted.

On a real machine one waits an hour for thirty comparisons and never knows the truth. Here an iteration's time is a
product of factors, each a way in which real machines disturb benchmarks, and the logarithm of one iteration is

    own:     process (drawn once per process: layout in memory, hash seeds) + cold start, exponentially forgotten
             + AR(1) noise of iterations + rare spikes with a Pareto tail
    shared:  a drift (Ornstein-Uhlenbeck: heat, frequency) + a neighbour on the same host who comes and goes (two-state
             Markov process) and slows everything by a share drawn when he comes

What is shared runs on the wall's time through turns, launches and the gaps between them, with exact transitions
(drift: correlation exp(-t / tau); neighbour: memory exp(-t (1/busy + 1/idle))). That is what pairing must cancel; what
is a process's own it cannot, and only more launches average it out. `dedicated`, `shared` and `noisy` are a quiet host,
a cloud's virtual machine and an overloaded one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

Floats = npt.NDArray[np.float64]

ITERATION = 0.01
"""Seconds of one iteration, nominally."""

GAP = 3.0
"""Seconds between the last iteration of one launch and the first of the next: processes start and warm up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a machine disturbs. Shares are of an iteration's time, times are seconds.

    `process` is the standard deviation between processes; `jitter` that of iterations, which remember `memory` of the
    one before; `spikes` is how many iterations are hit; `drift` and `drift_time` are the standard deviation and the
    correlation time of the drift; a neighbour is away for `idle`, there for `busy`, and costs a share from `slowed`.
    """

    process: float
    jitter: float
    memory: float
    spikes: float
    drift: float
    drift_time: float = 60.0
    idle: float = math.inf
    busy: float = 1.0
    slowed: tuple[float, float] = (0.0, 0.0)
    cold: float = 0.05
    cold_iterations: float = 10.0


MACHINES = {
    "dedicated": Machine(process=0.003, jitter=0.006, memory=0.3, spikes=0.002, drift=0.003),
    "shared": Machine(
        process=0.007, jitter=0.015, memory=0.45, spikes=0.01, drift=0.02, idle=6.0, busy=1.0, slowed=(0.08, 0.4)
    ),
    "noisy": Machine(
        process=0.012, jitter=0.02, memory=0.6, spikes=0.02, drift=0.03, idle=2.0, busy=1.5, slowed=(0.15, 1.0)
    ),
}
"""Ten launches of a duet leave an interval of about +-0.3, 0.8 and 1.3 % of the ratio."""


def duet(
    machine: Machine,
    ratio: float,
    rng: np.random.Generator,
    *,
    trials: int,
    launches: int = 10,
    rounds: int = 10,
    iterations: int = 8,
) -> Floats:
    """Log ratios as a comparison would have measured them: one row per trial, one column per launch.

    Two processes live beside each other and take turns of `iterations`, in random order within each round; a turn is
    its median, a launch the median of its rounds' log ratios. The candidate's iterations take `ratio` times as long.
    """
    own = _processes(machine, (trials, launches, 2, rounds * iterations), rng)
    own = own.reshape(trials, launches, 2, rounds, iterations).swapaxes(2, 3)
    world = _world(machine, (trials, launches, rounds * 2 * iterations), rng)
    world = world.reshape(trials, launches, rounds, 2, iterations)
    swapped = rng.random((trials, launches, rounds, 1, 1)) < 0.5
    turns = np.median(own + np.where(swapped, world[:, :, :, ::-1], world), axis=-1)
    logs: Floats = np.median(turns[..., 1] - turns[..., 0], axis=-1) + math.log(ratio)
    return logs


def one_after_the_other(
    machine: Machine,
    ratio: float,
    rng: np.random.Generator,
    *,
    trials: int,
    processes: int = 10,
    iterations: int = 80,
) -> Floats:
    """Seconds of every iteration, as most benchmarks measure: all processes of the baseline, then the candidate's.

    Axes: trial, side (baseline first), process, iteration. By default a side is measured as long as by `duet`.
    """
    shape = (trials, 2 * processes, iterations)
    logs = _processes(machine, shape, rng) + _world(machine, shape, rng)
    seconds: Floats = ITERATION * np.exp(logs.reshape(trials, 2, processes, iterations))
    seconds[:, 1] *= ratio
    return seconds


def _processes(machine: Machine, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """What is each process's own; the last axis are its iterations."""
    innovations = rng.normal(0, machine.jitter * math.sqrt(1 - machine.memory**2), shape)
    noise: Floats = lfilter([1], [1, -machine.memory], innovations, axis=-1)
    hit = rng.random(shape) < machine.spikes
    noise[hit] += np.log1p(0.1 * rng.pareto(1.5, np.count_nonzero(hit)))
    noise += np.log1p(machine.cold * np.exp(-np.arange(shape[-1]) / machine.cold_iterations))
    noise += rng.normal(0, machine.process, (*shape[:-1], 1))
    return noise


def _world(machine: Machine, shape: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """What all processes of a trial share, along its time: axes are trial, launch, iteration."""
    trials, launches, steps = shape
    drift, neighbour = rng.normal(0, machine.drift, trials), np.zeros(trials)
    logs = np.empty((launches, steps, trials))
    for launch in range(launches):
        for step in range(steps):
            seconds = ITERATION if step else GAP
            drift = _drifted(machine, drift, seconds, rng)
            neighbour = _neighbour(machine, neighbour, seconds, rng)
            logs[launch, step] = drift + np.log1p(neighbour)
    return np.moveaxis(logs, -1, 0)


def _drifted(machine: Machine, drift: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    memory = math.exp(-seconds / machine.drift_time)
    return memory * drift + rng.normal(0, machine.drift * math.sqrt(1 - memory**2), len(drift))


def _neighbour(machine: Machine, slowed: Floats, seconds: float, rng: np.random.Generator) -> Floats:
    """The share that the neighbour costs some seconds later: 0 while he is away, one draw while he stays."""
    if math.isinf(machine.idle):
        return slowed
    there = machine.busy / (machine.busy + machine.idle)
    memory = math.exp(-seconds * (1 / machine.busy + 1 / machine.idle))
    present = slowed > 0
    now = rng.random(len(slowed)) < there + memory * (present - there)
    return np.where(now, np.where(present, slowed, rng.uniform(*machine.slowed, len(slowed))), 0.0)
