"""The duet: two sides of every row, alive beside each other, taking turns. One function makes one launch.

Why turns, and why on one core: a machine's speed drifts by tens of percent within minutes and by some percent within
seconds, so the two sides must be compared within a tenth of a second, not one after the other; and two cores of a
virtual machine were seen 20 to 30 % apart for minutes, so both sides are bound to the same core, drawn anew for each
launch (they never work at the same time). Why CPU time, with one thread on a CPU: what a neighbour takes is not in it.
Its noise only adds, so a turn's value is the minimum of its readings; the other clocks' is the median.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median
from typing import Any

from visionbench.comparison.comparison import First, Launch, Round, Side, Timer
from visionbench.machine import host
from visionbench.measuring.process.side import SideError, SideProcess, Source
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure
from visionbench.record.spec import stored

ROW_SECONDS = 1.6
"""What all turns of a row take together in a launch, about; `FEWEST_ROUNDS` go first."""

FEWEST_ROUNDS, MOST_ROUNDS = 10, 40

TURN_SECONDS = 0.015
"""What a turn's readings take together, about: long against the clock's cost, short against a machine's drift.

On two busy virtual cores, 40 rounds of such turns scattered by 1.6 % between launches and 10 rounds of 50 ms by 2.1 to
3.4 %: whether a neighbour has the sibling of our core changes many times a second, and must meet both sides.
"""

MOST_READINGS = 4

DROPPED = {"gpu": 2, "cpu": 1}
"""Iterations at the beginning of a turn that are not timed: the caches hold what the other side left in them."""

CLOCKS_APART = 0.01
"""How far the two sides' median SM clocks may differ in a launch."""

CLOCKS_DIFFER = "clocks_differ"
"""Flag: they differed by more, so the ratio is partly the clock's."""

START_SECONDS = 300.0
"""How long both sides may take to import torch from a cold disk."""

SHORTEST = 1e-9
"""Seconds: no iteration is shorter, whatever a coarse clock says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a duet: its name, and what each side runs."""

    name: str
    baseline: Side
    candidate: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all launches of a duet share: the two sources, the device, the threads and the clock.

    `rounds` is the turns of each side per launch and row, None for as many as `ROW_SECONDS` allow. `row_seconds` is how
    long one order may take (building and compiling included) before the row counts as hung.
    """

    baseline: Source
    candidate: Source
    device: str
    threads: int | None
    timer: Timer
    rounds: int | None = None
    row_seconds: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A row that could not be measured: why, and on which side (None: on both)."""

    failure: Failure
    side: First | None


def stage(
    device: str,
    threads: int | None,
    *,
    sources: tuple[Source, Source] = (Source(), Source()),
    rounds: int | None = None,
) -> Stage:
    """The stage of a duet on that device; `threads` None: one on a CPU, whose time is then CPU time; elsewhere any.

    Raises `BenchError` for a device that is not here, a GPU that lets only one process use it at a time, and one that
    cannot be timed.
    """
    from visionbench.machine import unseen
    from visionbench.machine.doctor import check_that_it_waits

    unseen.check(device)
    check_that_it_waits(device)
    if device.startswith("cuda"):
        from visionbench.machine import nvml

        if mode := nvml.compute_mode(device):
            raise BenchError(
                f"{device} is in {mode} compute mode, and two sides need two processes on it: "
                "`sudo nvidia-smi -c DEFAULT` lets them share it."
            )
    used = threads or (1 if device.startswith("cpu") else None)
    timer, (baseline, candidate) = timer_of(device, used), sources
    return Stage(baseline=baseline, candidate=candidate, device=device, threads=used, timer=timer, rounds=rounds)


def timer_of(device: str, threads: int | None) -> Timer:
    """CPU time for one thread on a CPU; for more the wall, because CPU time cannot see waiting; events on a GPU."""
    if device.startswith("cuda"):
        return "device"
    return "cpu" if threads == 1 and device.startswith("cpu") else "wall"  # the events of others were never tried


def answers(device: str) -> bool:
    """Whether the driver answers about that GPU; a CPU is not asked."""
    from visionbench.measuring import sweep

    return sweep.answers(device)


def is_gone(played: Iterable[Launch | Broken], device: str, answered: bool) -> bool:
    """Whether a row broke because the GPU, which `answered` before, fell off the bus."""
    from visionbench.measuring import sweep

    return any(sweep.is_gone(row.failure, device, answered) for row in played if isinstance(row, Broken))


def launch(rows: Sequence[Row], stage: Stage, rng: random.Random) -> dict[str, Launch | Broken]:
    """One pair of fresh processes plays all rows, in an order drawn from `rng`; by row name, what came of it.

    A side that dies takes its row along; the remaining rows go on in a new pair. Processes never outlive the call.
    """
    left = list(rows)
    rng.shuffle(left)
    played: dict[str, Launch | Broken] = {}
    doubts = _surroundings(stage)
    while left:
        try:
            with _pair(stage, rng) as pair:
                _play_all(left, pair, stage, rng, played)
        except _RowError as error:  # before any row: all of them have the same trouble
            played |= {row.name: error.broken for row in left}
            break
    return {name: _doubted(row, doubts) if isinstance(row, Launch) else row for name, row in played.items()}


def _surroundings(stage: Stage) -> tuple[str, ...]:
    """What must be said of the device before a side is on it: variables that change numbers, another program on a GPU.

    Other programs of a CPU are noticed in each turn.
    """
    from visionbench.machine import environment, telemetry

    if stage.device.startswith("cpu"):
        return ("variables_set",) if environment.variables_that_count(stage.device) else ()
    return telemetry.surroundings(stage.device)


def _doubted(launch: Launch, doubts: tuple[str, ...]) -> Launch:
    return replace(launch, flags=tuple(dict.fromkeys((*launch.flags, *doubts))))


class _Here:
    """A side in this process, not in another: it does an order when it gets it."""

    def __init__(self, stage: Stage) -> None:
        from visionbench.measuring.process.side_process import LiveSide

        self._side, self._heard = LiveSide(stage.device, stage.threads, None, alone=False), dict[str, Any]()

    def order(self, **order: Any) -> None:
        """Do it now."""
        self._heard = self._side.answer(order)

    def answer(self, _stage: str, _seconds: float) -> dict[str, Any]:
        """What came of it."""
        if "failed" in self._heard:
            raise SideError(Failure(**self._heard["failed"]), died=False)
        return self._heard


def launch_here(row: Row, stage: Stage, seed: int) -> Launch:
    """Both sides of a row in turns in this process, whose flags and random state are as before afterwards.

    Raises `BenchError` for a side that fails.
    """
    from visionbench.measuring.process.side_process import undisturbed

    rng = random.Random(seed)  # noqa: S311  # orders, no secrets
    with undisturbed(stage.device):
        doubts = _surroundings(stage)
        pair: _Pair = {side: _Here(stage) for side in _drawn_order(rng)}
        try:
            return _doubted(_play(row, pair, stage, (), rng), doubts)
        except _RowError as error:
            failure = error.broken.failure
            what = {"baseline": "the first network", "candidate": "the second network"}.get(error.broken.side or "")
            raise BenchError(f"{what or 'both networks'} failed at {failure.stage}: {failure.message}.") from error


_Pair = Mapping[First, SideProcess | _Here]
"""The two sides, in the order in which they are started, prepared and warmed up: drawn, so that it favours neither."""


class _RowError(Exception):
    """A failure of one side of the current row, or of the pair before any row; `side` is None if both failed."""

    def __init__(self, side: First | None, error: SideError) -> None:
        super().__init__(str(error))
        self.broken = Broken(failure=error.failure, side=side)


@contextmanager
def _pair(stage: Stage, rng: random.Random) -> Iterator[_Pair]:
    """Both processes, started together: importing torch is what takes longest. Raises `_RowError`."""
    with ExitStack() as stack:
        pair: _Pair = {
            side: stack.enter_context(SideProcess(getattr(stage, side), stage.device, stage.threads, rng))
            for side in _drawn_order(rng)
        }
        _answers(pair, "start", START_SECONDS)
        yield pair


def _play_all(
    left: list[Row], pair: _Pair, stage: Stage, rng: random.Random, played: dict[str, Launch | Broken]
) -> None:
    """Play rows off `left` until none is left or a side has died."""
    cores = _cores(stage, rng)
    while left:
        row = left.pop()
        try:
            played[row.name] = _play(row, pair, stage, cores, rng)
        except _RowError as error:
            played[row.name] = error.broken
            # A side that is alive may still hold the row's memory or be in the middle of an answer: start afresh.
            return


def _cores(stage: Stage, rng: random.Random) -> tuple[int, ...]:
    """The core that both sides are bound to in this launch; as many as there are threads; () where that is unknown."""
    if not host.can_bind() or not stage.device.startswith("cpu"):
        return ()
    usable = host.usable_cores()
    return tuple(sorted(rng.sample(usable, min(stage.threads or len(usable), len(usable)))))


def _play(row: Row, pair: _Pair, stage: Stage, cores: tuple[int, ...], rng: random.Random) -> Launch:
    seed, everywhere = rng.randrange(2**31), host.usable_cores() if cores else ()
    alone = not stage.device.startswith("cpu")  # libraries choose by timing: nobody else may use the GPU meanwhile
    for side, process in pair.items():
        spec = getattr(row, side).spec
        process.order(do="prepare", spec=stored(asdict(spec)), seed=seed, cores=everywhere)
        if alone:
            _answer(pair, side, "build", stage)
    if not alone:
        _answers(pair, "build", stage.row_seconds)
    seconds = max(_ask(pair, side, "warm-up", stage, do="warm", cores=cores)["seconds"] for side in pair)
    turn = _turn(seconds, stage.device)
    wanted = stage.rounds or _rounds(turn, seconds)
    rounds = tuple(_round(pair, stage, turn, rng) for _ in range(wanted))
    ends = [_ask(pair, side, "time", stage, do="finish") for side in reversed(list(pair))]
    return Launch(rounds=rounds, cores=cores, flags=_flags(ends))


def _turn(seconds: float, device: str) -> dict[str, Any]:
    """How a turn is made up when an iteration takes that long; the same on both sides."""
    iterations = max(1, math.ceil(TURN_SECONDS / MOST_READINGS / max(seconds, SHORTEST)))
    readings = min(max(1, round(TURN_SECONDS / (iterations * max(seconds, SHORTEST)))), MOST_READINGS)
    dropped = DROPPED["cpu" if device.startswith("cpu") else "gpu"]
    return {"do": "turn", "drop": dropped, "readings": readings, "iterations": iterations}


def _rounds(turn: dict[str, Any], seconds: float) -> int:
    """How many rounds of such turns `ROW_SECONDS` allow."""
    a_round: float = 2 * (turn["drop"] + turn["readings"] * turn["iterations"]) * max(seconds, SHORTEST)
    return min(max(round(ROW_SECONDS / a_round), FEWEST_ROUNDS), MOST_ROUNDS)


def _drawn_order(rng: random.Random) -> tuple[First, First]:
    return ("baseline", "candidate") if rng.random() < 0.5 else ("candidate", "baseline")


def _round(pair: _Pair, stage: Stage, turn: dict[str, Any], rng: random.Random) -> Round:
    """One turn of each. Up to two iterations more go untimed: what comes in every third must not fall in step."""
    first, second = _drawn_order(rng)
    heard = {
        side: _ask(pair, side, "time", stage, **turn | {"drop": turn["drop"] + rng.randrange(3)})
        for side in (first, second)
    }
    return Round(
        first=first,
        baseline=_value(heard["baseline"], stage.timer),
        candidate=_value(heard["candidate"], stage.timer),
        baseline_wall=median(heard["baseline"]["wall"]),
        candidate_wall=median(heard["candidate"]["wall"]),
        baseline_mean=_mean(heard["baseline"], stage.timer),
        candidate_mean=_mean(heard["candidate"], stage.timer),
    )


def _mean(heard: dict[str, Any], timer: Timer) -> float:
    return max(fmean(heard[timer] or heard["wall"]), SHORTEST)


def _value(heard: dict[str, Any], timer: Timer) -> float:
    """One turn's value from its readings."""
    readings: list[float] = heard[timer] or heard["wall"]
    return max(min(readings) if timer == "cpu" else median(readings), SHORTEST)


def _flags(ends: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    flags = [flag for end in ends for flag in end["flags"]]
    clocks = [end["sm_clock"] for end in ends]
    if all(clocks) and abs(math.log(clocks[0] / clocks[1])) > CLOCKS_APART:
        flags.append(CLOCKS_DIFFER)
    return tuple(dict.fromkeys(flags))


def _ask(pair: _Pair, side: First, stage_name: str, stage: Stage, **order: Any) -> dict[str, Any]:
    pair[side].order(**order)
    return _answer(pair, side, stage_name, stage)


def _answer(pair: _Pair, side: First, stage_name: str, stage: Stage) -> dict[str, Any]:
    try:
        return pair[side].answer(stage_name, stage.row_seconds)
    except SideError as error:
        raise _RowError(side, error) from error


def _answers(pair: _Pair, stage_name: str, seconds: float) -> None:
    """Hear both sides out, so that a model that fails on both is not blamed on one."""
    deadline = time.monotonic() + seconds
    failed: list[tuple[First, SideError]] = []
    for side, process in pair.items():
        try:
            process.answer(stage_name, math.ceil(max(deadline - time.monotonic(), 1.0)))
        except SideError as error:
            failed.append((side, error))
    if failed:
        side, first = failed[0]
        raise _RowError(side if len(failed) == 1 else None, first) from first
