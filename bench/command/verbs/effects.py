"""The verb `effects`: what each switch alone does, and what each step of the road to ConvNeXt does."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionbench.command import ci, inputs, options, output, progress, values
from visionbench.command.processes import Place, device_or_usual
from visionbench.command.requests import TERMINAL, HowLong, HowToRun, Output, Selection, Turns
from visionbench.command.selection import Defaults, roadmap_steps, specs_to_switch
from visionbench.command.verbs.run import held_clocks, networks_now, seconds_expected, sweep_rows
from visionbench.command.verbs.trace import count_missing
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison, Side
from visionbench.comparison.switches import SWITCHES, every_configuration, switched
from visionbench.comparison.verdict import NOT_MEASURED, OK, Rule
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure
from visionbench.record.spec import MEMORY_FORMATS, PRECISIONS, SMOKE, STEADY, TASKS, Spec, Task
from visionbench.record.units import duration, plural

if TYPE_CHECKING:
    from visionbench.judging.duet import Row, Stage

LONGEST = 900.0
"""Seconds that a launch of the grid may take: compiling from an empty cache on a busy CPU takes minutes."""

DESCRIPTION = """\
Measure what channels_last, TF32, autocast, bf16 and torch.compile change in a model: each alone, against fp32,
contiguous, eager. Two processes take turns, so drift in the machine hardly affects the ratio.
With --roadmap: measure what each step from a ResNet to ConvNeXt changes, the network before it against the one after.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which switches of which models to compare, or the steps of a `roadmap`; `grid` also measures every combination.

    Of `how` the precision and the memory format are for a roadmap only.
    """

    selection: Selection
    how: HowToRun
    tasks: tuple[Task, ...]
    turns: Turns
    roadmap: Literal["t", "b"] | None = None
    switches: tuple[str, ...] = tuple(SWITCHES)
    grid: bool = False
    records: Path = inputs.RECORDS
    output: Output = TERMINAL


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("words", nargs="*", metavar="MODEL", help="a model, table or suite, as for run")
    parser.add_argument(
        "--roadmap",
        choices=("t", "b"),
        help="the steps of the ConvNeXt paper's Table 10 (t) or 11 (b), in place of models and settings",
    )
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "--switches",
        type=_switches,
        default=tuple(SWITCHES),
        metavar="A,B",
        help=f"of {', '.join(SWITCHES)} (default: all)",
    )
    what.add_argument(
        "--task", choices=(*TASKS, "both"), default="inference", dest="task_word", help="default: inference"
    )
    options.add_batch_size(what)
    options.add_image_size(what)
    options.add_inputs(what)
    options.add_attention(what)
    what.add_argument("--precision", choices=PRECISIONS, default="fp32", help="for --roadmap only (default: fp32)")
    what.add_argument(
        "--memory-format", choices=MEMORY_FORMATS, default="contiguous", help="for --roadmap only (default: contiguous)"
    )
    how = options.add_turns(parser, inputs.COMPARISONS, per="row", budget="start no pair after this long in all")
    how.add_argument(
        "--grid",
        action="store_true",
        help="also measure each combination of settings by itself: img/s, memory, compile time",
    )
    parser.add_argument(
        "--records",
        type=values.path,
        default=inputs.RECORDS,
        metavar="FILE",
        help=f"append records there: those of --grid, and the memory of training steps (default: {inputs.RECORDS})",
    )
    options.add_output(parser)
    parser.set_defaults(verb=lambda words: run(_request(parser, words)))


def _request(parser: ArgumentParser, words: Namespace) -> Request:
    if words.roadmap and (given := options.first_given(parser, words, ("switches", "grid"))):
        raise BenchError(f"{given} is for models that you name: leave it out with --roadmap.")
    if not words.roadmap and (given := options.first_given(parser, words, ("precision", "memory_format"))):
        raise BenchError(
            f"{given} is for --roadmap: without it every setting is compared with fp32 and contiguous; choose settings "
            f"with --switches ({', '.join(SWITCHES)})."
        )
    words.tasks = TASKS if words.task_word == "both" else (words.task_word,)
    return options.part(Request, words)


def _switches(text: str) -> tuple[str, ...]:
    """`channels_last,compile`: names of switches."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    wrong = [name for name in names if name not in SWITCHES]
    if wrong:
        raise ArgumentTypeError(f"there is no switch '{wrong[0]}': choose from {', '.join(SWITCHES)}")
    return names


def run(request: Request) -> int:
    """Compare in turns, keep what was measured, and print it as a table."""
    if request.roadmap and request.selection.words:
        raise BenchError("--roadmap chooses its models: name none.")
    output.check(request.output, request.turns.keep)
    device = device_or_usual(request.turns.device)
    store.check_writable(request.records)
    if request.roadmap:
        steps = roadmap_steps(request.roadmap, request.selection, request.how, request.tasks, device)
        rows = [_row(f"{a.model} -> {b}", (a.model, a), (b.model, b)) for a, b in steps]
        comparisons, lost = _compare(rows, device, request.turns)
    else:
        bases = specs_to_switch(request.selection, request.how, request.tasks, device)
        if request.grid:
            _announce_grid(bases, device, request)
        pairs = [(spec, name) for spec in bases for name in request.switches]
        rows = [_row(f"{spec}: {name}", ("plain", spec), (name, switched(spec, name))) for spec, name in pairs]
        comparisons, lost = _compare(rows, device, request.turns)
        _count_memory(comparisons, request.records)
        if request.grid and not lost:
            _measure_grid(bases, device, request)
    _print(comparisons, request)
    return OK if any(row.launches for row in comparisons) and not lost else NOT_MEASURED


def _row(name: str, *sides: tuple[str, Spec]) -> Row:
    from visionbench.judging.duet import Row

    baseline, candidate = (Side(label=label, spec=spec) for label, spec in sides)
    return Row(name=name, baseline=baseline, candidate=candidate)


def _compare(rows: Sequence[Row], device: str, turns: Turns) -> tuple[tuple[Comparison, ...], bool]:
    """Measure all rows in turns, and say whether the GPU was lost; what this machine cannot do is not tried."""
    from visionbench.judging import duet
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.machine.environment import describe
    from visionbench.machine.neighbours import marked

    stage = duet.stage(device, turns.threads, rounds=turns.rounds)
    plan = Plan(launches=turns.launches or LAUNCHES, budget=turns.budget, seed=drawn(turns.seed))
    failures = {row.name: failure for row in rows if (failure := _failure_here(row, device))}
    refused = tuple(_refused(row, failures[row.name], stage, plan.seed) for row in rows if row.name in failures)
    possible = [row for row in rows if row.name not in failures]
    _announce(possible, len(refused), plan.launches, device, turns)

    def keep(comparisons: Sequence[Comparison]) -> None:
        if turns.keep:
            made = [row for row in comparisons if row.launches or row.failure]  # none are where the card was lost
            comparison.merge(turns.keep, (*refused, *made))

    keep(())
    environment = describe(device, stage.threads)
    with marked([device], progress.say), held_clocks([device], locked=turns.lock_clocks):
        outcome = gate(possible, stage, environment, plan, Rule(looks=1), keep, ci.Launches()) if possible else None
    if outcome and outcome.lost:
        few = sum(len(row.launches) < plan.launches for row in outcome.comparisons)
        progress.complain(
            f"{device} {progress.STOPPED}; what was measured is kept, and launches of {plural(few, 'row')} are missing."
        )
    if outcome and outcome.cut_short:
        progress.say(f"The budget of {turns.budget:g} s ended before all launches were made.")
    by_name = {row.name: row for row in (*refused, *(outcome.comparisons if outcome else ()))}
    return tuple(by_name[row.name] for row in rows), bool(outcome and outcome.lost)


def _refused(row: Row, failure: Failure, stage: Stage, seed: int) -> Comparison:
    """The comparison of a row that this machine cannot run."""
    from visionbench.machine.environment import describe

    return Comparison(
        name=row.name,
        baseline=row.baseline,
        candidate=row.candidate,
        environment=describe(stage.device, stage.threads),
        timer=stage.timer,
        seed=seed,
        failure=failure,
        failed="candidate",
    )


def _announce(possible: Sequence[Row], refused: int, launches: int, device: str, turns: Turns) -> None:
    from visionbench.command.expected import turns_seconds

    impossible = f" ({refused} not possible here)" if refused else ""
    rows = f"{plural(len(possible), 'row')}{impossible}"
    progress.say(f"Comparing {rows} in turns on {device}, {plural(launches, 'launch', 'launches')}; kept: {turns.keep}")
    if possible and not device.startswith("cpu"):
        compiled = [row.candidate.spec.compile_mode is not None for row in possible]
        takes = duration(turns_seconds(compiled, launches))
        ends = f"--budget ends it after {duration(turns.budget)}" if turns.budget else ""
        progress.say(f"This will take about {takes}; {ends or '--launches 3 or --budget 10m make it shorter'}.")


def _failure_here(row: Row, device: str) -> Failure | None:
    """Why this machine cannot run the candidate, where that is known before it is built."""
    from visionbench.machine.support import UnsupportedError, check
    from visionbench.measuring.failures import failure

    try:
        check(row.candidate.spec, device)
    except UnsupportedError as error:
        return failure(error, "build")
    return None


def _count_memory(comparisons: Sequence[Comparison], path: Path) -> None:
    """Trace the training steps that were compared, as far as the records lack them: their memory, exactly."""
    sides = (side.spec for row in comparisons for side in (row.baseline, row.candidate))
    wanted = {spec for spec in sides if spec.task == "train" and spec.compile_mode is None}
    count_missing(sorted(wanted, key=str), store.read_if_there(path).records, path)


def _grid(bases: Sequence[Spec], device: str, request: Request) -> tuple[tuple[Spec, ...], Place]:
    """Every configuration of the chosen switches, and where and how it is measured by itself."""
    from visionbench.machine.environment import describe

    on_gpu = describe(device).device_type != "cpu"
    place = Place(
        devices=(device,),
        threads=request.turns.threads or (None if on_gpu else 1),
        protocol=replace(STEADY if on_gpu else SMOKE, max_seconds=LONGEST),
        defaults=Defaults(),
    )
    return tuple(spec for base in bases for spec in every_configuration(base, request.switches)), place


def _announce_grid(bases: Sequence[Spec], device: str, request: Request) -> None:
    """Say on a GPU what the grid takes, before the turns that come first."""
    specs, place = _grid(bases, device, request)
    if place.on_cpu:
        return
    seconds = seconds_expected(specs, place, request.records, HowLong(), {})
    compiled = sum(spec.compile_mode is not None for spec in specs)
    takes = "" if seconds is None else f", about {duration(sum(seconds.values()))}"
    rows = f"{plural(len(specs), 'configuration')} in {plural(place.protocol.launches, 'launch', 'launches')} each"
    progress.say(f"After the turns, --grid measures {rows}{takes}; {compiled} of them are compiled in each launch.")


def _measure_grid(bases: Sequence[Spec], device: str, request: Request) -> None:
    """Every configuration by itself, as `run` measures it; what is recorded is not repeated."""
    specs, place = _grid(bases, device, request)
    how_long = HowLong(lock_clocks=request.turns.lock_clocks)
    sweep_rows(specs, place, request.records, how_long, networks_now(bases, place))


def _print(comparisons: Sequence[Comparison], request: Request) -> None:
    """The tables of what was compared now, and of the grid."""
    from visionbench.reports import REPORTS

    records = inputs.read_kept(request.records)
    if request.roadmap:
        names = [{"t": "convnext_table10", "b": "convnext_table11"}[request.roadmap]]
    else:
        names = ["effects", "effects_grid"] if request.grid else ["effects"]
    if request.grid:
        models = {row.baseline.spec.model for row in comparisons}
        records = [record for record in records if record.spec.model in models]
    output.print_tables([REPORTS[name].layout(records, comparisons) for name in names], request.output)
