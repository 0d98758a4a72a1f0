"""The comparison: two sides of one row, measured in turns. What a gate judges and what a table of effects shows.

A *launch* is a pair of fresh processes, one per side, that live beside each other and take turns; a *round* is one turn
of each, in random order. Both turns of a round end within about a tenth of a second. Whatever the machine does affects
both sides, and hardly their ratio. Raw values only, chronological; ratios, intervals and verdicts are derived when
read, as everywhere in this house.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from visionbench.record.errors import choose
from visionbench.record.files import decode, locked, reading, text_of, typed, write_whole
from visionbench.record.flags import voids_ratio
from visionbench.record.plausible import check_environment
from visionbench.record.record import Environment, Failure, stored_environment
from visionbench.record.spec import Spec, stored
from visionbench.record.statistics import Estimate, estimate

COMPARISON_SCHEMA = 1
"""Version of a line. 1 (2026-11): first."""

Timer = Literal["cpu", "wall", "device"]
"""Whose clock: the process's CPU time, the wall's, or the accelerator's own (CUDA events)."""

TIMER_WORDS: dict[Timer, str] = {"cpu": "CPU time", "wall": "the wall clock", "device": "the device's clock"}
"""What each timer is called wherever a ratio is shown: "by CPU time"."""

First = Literal["baseline", "candidate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: what was run, and from which source.

    `label` is for people (`origin/main`, `working tree`, `channels_last`). `commit` is the revision's full hash, or
    None; `dirty`: it was measured with uncommitted changes.
    """

    label: str
    spec: Spec
    commit: str | None = None
    dirty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One turn of each side: seconds of one iteration by the comparison's timer, and by the wall.

    `first` had its turn first. By CPU time a turn's value is the minimum of its readings, because what disturbs CPU
    time only adds; by the other clocks it is their median. `*_mean` is the mean of the same readings, which sees what
    comes in some iterations only; None in files from before it was kept.
    """

    first: First
    baseline: float
    candidate: float
    baseline_wall: float
    candidate_wall: float
    baseline_mean: float | None = None
    candidate_mean: float | None = None


_times = attrgetter(*(field.name for field in fields(Round) if field.name != "first"))
"""All seconds of a round; `dataclasses.astuple` would copy each of them deeply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One pair of processes: its rounds in order, and what they ran on.

    `cores` are those that both sides were bound to, () where they were not. `flags` doubt the numbers (`throttled`,
    `clock_unsteady`, `noisy_env`, ...).
    """

    rounds: tuple[Round, ...]
    cores: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row, base against head or one way of running it against another.

    `name` is the row's, unique within one gate. `timer` is the clock that the ratio is of. `looks` is how many looks at
    the launches the error was split between. `failure` says why there are no launches, or no more of them; `failed` is
    the side that failed, None for both.
    """

    name: str
    baseline: Side
    candidate: Side
    environment: Environment
    timer: Timer
    seed: int
    looks: int = 2
    launches: tuple[Launch, ...] = ()
    failure: Failure | None = None
    failed: First | None = None
    schema: int = COMPARISON_SCHEMA

    def __post_init__(self) -> None:
        choose("timer", self.timer, get_args(Timer))

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of all launches, each once."""
        return tuple(dict.fromkeys(flag for launch in self.launches for flag in launch.flags))

    @property
    def key(self) -> tuple[Spec, Spec, str | None, str | None, str, str | None, str | None, str | None, Timer]:
        """Comparisons of one key ask the same of the same machine: the newer one replaces the older."""
        base, candidate, where = self.baseline, self.candidate, self.environment
        sides = (base.spec, candidate.spec, base.commit, candidate.commit)
        return (*sides, where.device, where.torch, where.node, where.malloc, self.timer)


def speed_up(comparison: Comparison) -> Estimate | None:
    """Baseline time / candidate time of an iteration, over launches: 2 is twice as fast. None without launches."""
    ratios = [math.exp(-value) for value in log_ratios(comparison)]
    return estimate(ratios) if ratios else None


MOST_VOID = 1 / 3
"""The share of a row's launches that a flag may void before nothing can be said of the row."""


def is_void(launch: Launch, timer: Timer) -> bool:
    """Whether a flag makes this launch's ratio one of clocks or of other programs, and not of code."""
    return any(voids_ratio(flag, timer) for flag in launch.flags)


def is_doubtful(comparison: Comparison) -> bool:
    """Whether so many launches are void that no claim about the row is safe."""
    void = sum(is_void(launch, comparison.timer) for launch in comparison.launches)
    return void > MOST_VOID * len(comparison.launches)


def counted(comparison: Comparison) -> tuple[Launch, ...]:
    """The launches that ratios are taken over: those that are not void; all of them where the row is doubtful.

    A flag voids a launch, whichever side it is about, so leaving launches out favours neither side.
    """
    if is_doubtful(comparison):
        return comparison.launches
    return tuple(launch for launch in comparison.launches if not is_void(launch, comparison.timer))


def log_ratios(comparison: Comparison) -> tuple[float, ...]:
    """One number per counted launch: the median over its rounds of log(candidate / baseline) of an iteration's time.

    Positive: the candidate is slower. Rounds are not replicates (a process's layout in memory biases all of its
    rounds alike), launches are.
    """
    return tuple(map(log_ratio, counted(comparison)))


def log_ratio(launch: Launch) -> float:
    """The median over the rounds of one launch of log(candidate / baseline)."""
    return median(math.log(turn.candidate / turn.baseline) for turn in launch.rounds)


def wall_log_ratios(comparison: Comparison) -> tuple[float, ...]:
    """As `log_ratios`, by the wall clock: shown beside a ratio of CPU times, which cannot see waiting."""
    rounds = [launch.rounds for launch in counted(comparison)]
    return tuple(median(math.log(turn.candidate_wall / turn.baseline_wall) for turn in turns) for turns in rounds)


def mean_log_ratios(comparison: Comparison) -> tuple[float, ...]:
    """As `log_ratios`, of the two sides' mean time over all readings; the ratio itself where no mean was kept."""
    return tuple(map(_mean_log_ratio, counted(comparison)))


def _mean_log_ratio(launch: Launch) -> float:
    means = [(turn.baseline_mean, turn.candidate_mean) for turn in launch.rounds]
    sides = [math.fsum(value for value in side if value) for side in zip(*means, strict=True)]
    return math.log(sides[1] / sides[0]) if all(map(all, means)) else log_ratio(launch)


def iteration_seconds(comparison: Comparison, side: First) -> float | None:
    """Seconds of one iteration of a side by the comparison's timer: the median over launches of rounds' medians."""
    if not comparison.launches:
        return None
    times = ([getattr(turn, side) for turn in launch.rounds] for launch in comparison.launches)
    return float(median(map(median, times)))


def to_json(comparison: Comparison) -> str:
    """One line of JSON, without the newline."""
    data = asdict(comparison)
    for side in (data["baseline"], data["candidate"]):
        side["spec"] = stored(side["spec"])
    data["environment"] = stored_environment(data["environment"])
    return json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


MOST_LOOKS = 100
"""Between more looks no error is split."""

SHORTEST, LONGEST = 1e-12, 1e9
"""Seconds of an iteration: what is outside of them was not measured, and its ratios are beyond a float."""


def from_json(line: str) -> Comparison:
    """The comparison of one line. Raises ValueError for anything else, with the reason."""
    data = decode(line)
    if not isinstance(data, dict) or data.get("schema") != COMPARISON_SCHEMA or "baseline" not in data:
        raise ValueError(f"no comparison of schema {COMPARISON_SCHEMA}")
    comparison = typed(data, Comparison, "comparison")
    check_environment(comparison.environment)
    if not 1 <= comparison.looks <= MOST_LOOKS:
        raise ValueError(f"a comparison has 1 to {MOST_LOOKS} looks, and not {comparison.looks}")
    for launch in comparison.launches:
        times = [seconds for turn in launch.rounds for seconds in _times(turn) if seconds is not None]
        if not times or min(times) <= 0:
            raise ValueError("a launch holds no rounds, or times that are not positive numbers")
        if min(times) < SHORTEST or max(times) > LONGEST:
            raise ValueError(f"an iteration takes between {SHORTEST:g} and {LONGEST:g} s")
    return comparison


def write(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write comparisons as JSON Lines, in one piece: a reader sees the old file or the new one.

    Raises `BenchError` if the file cannot be written.
    """
    write_whole(path, "".join(to_json(comparison) + "\n" for comparison in comparisons))


def set_aside(path: Path, comparisons: Iterable[Comparison]) -> Path | None:
    """Move a file that holds others than these comparisons; returns its new name, None where nothing would be lost.

    Raises `BenchError` for a file that is not ours.
    """
    keys = {comparison.key for comparison in comparisons}
    if not path.is_file() or not path.stat().st_size or all(older.key in keys for older in read(path)):
        return None
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return aside


def merge(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Put comparisons into a file: each replaces the one of its key, the others stay. In one piece, as `write`.

    One that was not tried (no launches, no failure) replaces nothing. Raises `BenchError` for a file that is not ours.
    """
    with locked(path):
        kept = {comparison.key: comparison for comparison in (read(path) if path.exists() else ())}
        for comparison in comparisons:
            if comparison.launches or comparison.failure:
                kept.pop(comparison.key, None)  # what is new stands last
                kept[comparison.key] = comparison
        write(path, kept.values())


_REMEDY = "name a file that `gate` or `effects` wrote"


def read(path: Path) -> tuple[Comparison, ...]:
    """The comparisons of a file. Raises `BenchError` for a file that is not there or holds something else."""
    comparisons = []
    with reading(path, "comparisons", _REMEDY):
        lines = text_of(path).split("\n")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                comparisons.append(from_json(line))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return tuple(comparisons)
