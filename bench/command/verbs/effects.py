"""The verb `effects`: what each switch alone does, and what each step of the road to ConvNeXt does."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import ci, output, progress
from visionbench.command import options as arguments
from visionbench.command.options import Commands
from visionbench.command.output import COMPARISONS, RECORDS
from visionbench.comparison import comparison
from visionbench.comparison.comparison import Comparison, Side
from visionbench.comparison.switches import SWITCHES, every_configuration, switched
from visionbench.comparison.verdict import NOT_MEASURED, OK, Rule
from visionbench.record import store
from visionbench.record.errors import BenchError
from visionbench.record.record import Failure, Record
from visionbench.record.spec import ATTENTIONS, MEMORY_FORMATS, PRECISIONS, SMOKE, STEADY, TASKS, Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.judging.duet import Row

LONGEST = 900.0
"""Seconds that a launch of the grid may take: compiling from an empty cache on a busy CPU takes minutes."""

DESCRIPTION = """\
What channels_last, TF32, autocast, bf16 and torch.compile do to a model, each alone against fp32, contiguous, eager:
two processes live beside each other and take turns, so the ratio has an interval that the machine's moods do not touch.
With --roadmap: what each step from a ResNet to ConvNeXt does to speed, the network before it against the one after.
"""


def add(commands: Commands) -> None:
    """What a user may ask."""
    parser = commands.add_parser(
        "effects", help="what each switch alone does to speed and memory", description=DESCRIPTION
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="as for run")
    parser.add_argument("--roadmap", choices=("t", "b"), help="the steps of Table 10 (t) or Table 11 (b) instead")
    what = parser.add_argument_group("what is run")
    what.add_argument("--switches", type=_switches, default=tuple(SWITCHES), metavar="A,B", help="default: all of them")
    what.add_argument("--task", choices=(*TASKS, "both"), default="inference", help="default: inference")
    what.add_argument("--batch-size", type=arguments.positive, metavar="N", help="images a step (default: 1; GPU: 64)")
    what.add_argument("--image-size", type=arguments.positive, metavar="PIXELS", help="default: the models own")
    what.add_argument("--attention", choices=ATTENTIONS, default="fused", help="default: fused")
    what.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of a roadmap (default: fp32)")
    what.add_argument("--memory-format", choices=MEMORY_FORMATS, default="contiguous", help="of a roadmap")
    how = parser.add_argument_group("how to measure")
    how.add_argument("--device", metavar="DEVICE", help="cuda, cuda:1 or cpu (default: the GPU if there is one)")
    how.add_argument("--threads", type=arguments.positive, metavar="N", help="CPU threads (default: 1, by CPU time)")
    how.add_argument("--launches", type=arguments.positive, metavar="N", help="process pairs per row (default: 10)")
    how.add_argument("--rounds", type=arguments.positive, metavar="N", help="turns of each side (default: 10 to 40)")
    how.add_argument("--budget", type=arguments.seconds, metavar="TIME", help="stop measuring turns after this: 10m")
    how.add_argument("--seed", type=int, metavar="N", help="of orders and cores (default: drawn)")
    how.add_argument("--grid", action="store_true", help="also every configuration by itself: img/s, memory, compiling")
    parser.add_argument(
        "--keep", type=Path, default=COMPARISONS, metavar="FILE", help=f"comparisons go there (default: {COMPARISONS})"
    )
    parser.add_argument(
        "--records", type=Path, default=RECORDS, metavar="FILE", help=f"records go there (default: {RECORDS})"
    )
    arguments.add_output(parser)
    parser.set_defaults(verb=run)


def _switches(text: str) -> tuple[str, ...]:
    """`channels_last,compile`: names of switches."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    wrong = [name for name in names if name not in SWITCHES]
    if wrong:
        raise argparse.ArgumentTypeError(f"there is no switch '{wrong[0]}': choose from {', '.join(SWITCHES)}")
    return names


def run(options: Namespace) -> int:
    """Compare in turns, keep what was found, and print it as a table."""
    from visionbench.command.selection import plain, steps
    from visionbench.machine.environment import find_device

    if options.roadmap and (options.models or options.grid):
        raise BenchError("--roadmap has models of its own: leave the models and --grid away.")
    device = options.device or find_device()
    store.check_writable(options.records)
    if options.roadmap:
        pairs = steps(options, device)
        made = _compared([_step(before, after) for before, after in pairs], device, options)
    else:
        bases = plain(options, device)
        made = _compared([_row(spec, name) for spec in bases for name in options.switches], device, options)
        _count_memory(made, options)
        if options.grid:
            _measure_grid(bases, device, options)
    _print(made, options)
    return OK if any(one.launches for one in made) else NOT_MEASURED


def _row(spec: Spec, name: str) -> Row:
    from visionbench.judging.duet import Row

    sides = (Side(label="plain", spec=spec), Side(label=name, spec=switched(spec, name)))
    return Row(name=f"{spec}: {name}", baseline=sides[0], candidate=sides[1])


def _step(before: Spec, after: Spec) -> Row:
    from visionbench.judging.duet import Row

    sides = (Side(label=before.model, spec=before), Side(label=after.model, spec=after))
    return Row(name=f"{before.model} -> {after}", baseline=sides[0], candidate=sides[1])


def _compared(rows: Sequence[Row], device: str, options: Namespace) -> tuple[Comparison, ...]:
    """Measure all rows in turns; what this machine cannot do is not tried, and says so."""
    from visionbench.judging import duet
    from visionbench.judging.gate import LAUNCHES, Plan, drawn, gate
    from visionbench.machine.environment import describe

    stage = duet.stage(device, options.threads, rounds=options.rounds)
    environment = describe(device, stage.threads)
    plan = Plan(launches=options.launches or LAUNCHES, budget=options.budget, seed=drawn(options.seed))
    refused = {row.name: failure for row in rows if (failure := _refused(row, device))}
    impossible = tuple(
        Comparison(
            name=row.name,
            baseline=row.baseline,
            candidate=row.candidate,
            environment=environment,
            timer=stage.timer,
            seed=plan.seed,
            failure=refused[row.name],
            failed="candidate",
        )
        for row in rows
        if row.name in refused
    )
    possible = [row for row in rows if row.name not in refused]
    _announce(possible, impossible, plan.launches, device, options)

    def keep(made: Sequence[Comparison]) -> None:
        comparison.merge(options.keep, (*impossible, *made))

    keep(())
    found = gate(possible, stage, environment, plan, Rule(looks=1), keep, ci.Launches()) if possible else None
    if found and found.cut_short:
        progress.say(f"The budget of {options.budget:g} s ended before all launches were made.")
    by_name = {one.name: one for one in (*impossible, *(found.comparisons if found else ()))}
    return tuple(by_name[row.name] for row in rows)


def _announce(
    possible: Sequence[Row], impossible: Sequence[Comparison], launches: int, device: str, options: Namespace
) -> None:
    refused = f" ({len(impossible)} not possible here)" if impossible else ""
    rows = f"{plural(len(possible), 'row')}{refused}"
    progress.say(
        f"Comparing {rows} in turns on {device}, {plural(launches, 'launch', 'launches')}; kept: {options.keep}"
    )


def _refused(row: Row, device: str) -> Failure | None:
    """Why this machine cannot run the candidate, where that is known before it is built."""
    from visionbench.machine.support import UnsupportedError, check
    from visionbench.measuring.failures import failure

    try:
        check(row.candidate.spec, device)
    except UnsupportedError as error:
        return failure(error, "build")
    return None


def _count_memory(made: Sequence[Comparison], options: Namespace) -> None:
    """Trace the training steps that were compared, as far as the records lack them: their memory, exactly."""
    sides = (side.spec for one in made for side in (one.baseline, one.candidate))
    wanted = {spec for spec in sides if spec.task == "train" and spec.compile_mode is None}
    if wanted:
        _trace(wanted, options)


def _trace(wanted: set[Spec], options: Namespace) -> None:
    from visionbench.machine.environment import describe
    from visionbench.tracing import trace

    environment = describe("meta")
    known = {record.spec for record in store.read_if_there(options.records).records if record.source == "computed"}
    for spec in sorted(wanted - known, key=str):
        try:
            store.append(options.records, trace(spec, environment))
        except BenchError as error:
            progress.say(f"{spec}: {error}")


def _measure_grid(bases: Sequence[Spec], device: str, options: Namespace) -> None:
    """Every configuration of the chosen switches by itself, as `run` measures it; what is recorded is not repeated."""
    from visionbench.command.selection import Place
    from visionbench.command.verbs.measuring import measure
    from visionbench.machine.environment import describe

    specs = tuple(spec for base in bases for spec in every_configuration(base, options.switches))
    on_gpu = describe(device).device_type != "cpu"
    here = Place(
        devices=(device,),
        protocol=replace(STEADY if on_gpu else SMOKE, max_seconds=LONGEST),
        precision="fp32",
        memory_format="contiguous",
        batch_size=bases[0].batch_size,
    )
    threads = options.threads or (None if on_gpu else 1)
    how = {"threads": threads, "max_time": None, "row_time": None, "retry_failures": False, "lock_clocks": False}
    measure(specs, here, Namespace(**(vars(options) | how)))


def _print(made: Sequence[Comparison], options: Namespace) -> None:
    """The tables of what was compared now, and of the grid."""
    from visionbench.reports import REPORTS

    records: list[Record] = output.recorded([options.records])
    if options.roadmap:
        names = [{"t": "convnext_table10", "b": "convnext_table11"}[options.roadmap]]
    else:
        names = ["effects", "effects_grid"] if options.grid else ["effects"]
    if options.grid:
        models = {one.baseline.spec.model for one in made}
        records = [record for record in records if record.spec.model in models]
    output.print_tables([REPORTS[name].layout(records, made) for name in names], options)
