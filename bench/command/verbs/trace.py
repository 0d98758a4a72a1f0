"""The verb `trace`: one model's exact counts."""

from __future__ import annotations

import sys
import textwrap
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import options, output, progress, values
from visionbench.command.requests import HowToRun, Selection
from visionbench.command.selection import specs_to_trace
from visionbench.comparison.verdict import OK, USAGE
from visionbench.models import ModelError
from visionbench.record import store
from visionbench.record.clean import clean_json, clean_lines
from visionbench.record.errors import BenchError
from visionbench.record.record import Environment, Failure, Record, to_json
from visionbench.record.spec import Spec
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.tracing import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which models to count, and how each is run; `depth` is how many levels of modules a card breaks down."""

    selection: Selection
    how: HowToRun
    depth: int = 2
    second_opinion: bool = False
    json: bool = False


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = "Count models exactly, by a trace on torch's meta device: no weights, no hardware."
    parser.add_argument("words", nargs="+", metavar="MODEL", help="a model, table or suite, as for run")
    spec = options.add_spec(parser)
    options.add_batch_size(spec, "1")
    options.add_parallel(spec)
    parser.add_argument(
        "--depth", type=values.positive, default=2, metavar="N", help="levels of modules to break down (default: 2)"
    )
    parser.add_argument(
        "--second-opinion", action="store_true", help="count with fvcore too, on real tensors, and explain differences"
    )
    options.add_json(parser)
    parser.set_defaults(verb=lambda words: run(options.part(Request, words)))


def run(request: Request) -> int:
    """Print each model's card, or its computed record. One that cannot be counted is said, and the others go on."""
    code = OK
    environment = _environment()
    for spec in specs_to_trace(request.selection, request.how):
        try:
            trace = _traced(spec)
        except (BenchError, ModelError) as error:
            code = USAGE
            progress.complain(str(error))
            if request.json:
                print(clean_json(to_json(_failed(spec, environment, error))))
            continue
        _print(trace, environment, request)
    return code


def _print(trace: Trace, environment: Environment, request: Request) -> None:
    from visionbench.tracing.step import missed, to_record

    record = to_record(trace, environment)
    print(clean_json(to_json(record)) if request.json else clean_lines(_card(trace, record, request.depth)))
    if names := missed(trace):
        progress.complain(
            f"{trace.spec.model}: NOT COUNTED, though they multiply or may: {', '.join(names)}; register a formula "
            "with torch.utils.flop_counter.register_flop_formula."
        )
    for remark in (*trace.remarks, *_shared_work(trace)):
        progress.complain(f"{trace.spec.model}: {remark}.")
    if request.second_opinion:
        print(_second_opinion(trace.spec), file=sys.stderr if request.json else sys.stdout)


def _shared_work(trace: Trace) -> tuple[str, ...]:
    """What is said of a network that works on its weights alone, once for all images of a batch.

    Only a second trace tells, at the smallest batch that trains; a network that takes no such batch is left at that.
    """
    images, fewer = (1, "one image") if trace.spec.task == "inference" else (2, "a batch of two")
    if trace.spec.batch_size <= images:
        return ()
    try:
        alone = _traced(replace(trace.spec, batch_size=images)).macs_per_image
    except (BenchError, ModelError):
        return ()
    if alone == trace.macs_per_image:
        return ()
    return (
        f"a part of its work is done once per batch: {trace.macs_per_image:,} MACs per image at "
        f"{trace.spec.batch_size} images, {alone:,} at {fewer}",
    )


def _environment() -> Environment:
    from visionbench.machine.environment import describe

    return describe("meta")


def _traced(spec: Spec) -> Trace:
    """Count a model; one of the user's in a child process, with all that it prints or breaks."""
    from visionbench.tracing.apart import guarded
    from visionbench.tracing.step import run as run_trace

    return guarded(spec.model, run_trace, spec)


def counted(spec: Spec) -> Record:
    """The computed record of a model. Raises `BenchError` for one that cannot be traced."""
    from visionbench.tracing.step import to_record

    return to_record(_traced(spec), _environment())


SILENCE = 5.0
"""Seconds of counting after which a line says how far it is."""


def count_missing(specs: Iterable[Spec], records: Sequence[Record], path: Path) -> list[Record]:
    """Trace the specs that `records` hold no count of by this torch and this timm, and append them to the file.

    A row that cannot be traced here (an old timm lacks the model) is recorded as a failure, and not the end. A user's
    network is counted each time, for its file may have changed, and appended where the count has.
    """
    environment = _environment()
    computed = [record for record in records if record.source == "computed" and record.failure is None]
    here = (environment.torch, environment.timm)  # others may count a few operators more
    current = [record for record in computed if (record.environment.torch, record.environment.timm) == here]
    counted = {record.spec: record.measurements for record in current}
    missing = [spec for spec in dict.fromkeys(specs) if spec not in counted or spec.model.startswith("user:")]
    if missing:
        progress.say(f"Counting {plural(len(missing), 'network')} exactly, on no hardware ...")
    new: list[Record] = []
    said = time.monotonic()
    for done, record in enumerate(_counts(missing, environment)):
        if record.failure:
            progress.say(f"{record.spec}: {record.failure.message}")
        if record.failure or record.measurements != counted.get(record.spec):
            new.append(record)
            store.append(path, record)
        if time.monotonic() - said > SILENCE:
            said = time.monotonic()
            progress.say(f"counted {done + 1} of {len(missing)}")
    return new


MANY = 12
"""Fewer networks than this are counted in this process: children take a moment to start."""


def _counts(specs: Sequence[Spec], environment: Environment) -> Iterator[Record]:
    """The record of each spec, in order; many are counted over all cores. Each of a user's has its child."""
    from visionbench.tracing.apart import cores, forks

    shared = [spec for spec in specs if not spec.model.startswith("user:")]
    if len(shared) < MANY or cores() < 2:
        yield from (_count(spec, environment) for spec in specs)
        return
    with forks(len(shared)) as pool:
        ahead = {spec: pool.submit(_count, spec, environment) for spec in shared}
        for spec in specs:
            yield _count_of(ahead[spec], spec, environment) if spec in ahead else _count(spec, environment)


def _count_of(counted: Future[Record], spec: Spec, environment: Environment) -> Record:
    """What a child counted. One that died took the pool along; then each network has its child."""
    from visionbench.tracing.apart import NO_AUTOGRAD, apart

    try:
        record = counted.result()
    except BrokenProcessPool:
        try:
            return apart(_count, spec, environment)
        except BenchError as error:
            return _failed(spec, environment, error)
    if record.failure and NO_AUTOGRAD in record.failure.message:
        return _count(spec, environment)
    return record


def _count(spec: Spec, environment: Environment) -> Record:
    from visionbench.tracing.step import to_record

    try:
        return to_record(_traced(spec), environment)
    except (BenchError, ModelError) as error:
        return _failed(spec, environment, error)


def _failed(spec: Spec, environment: Environment, error: Exception) -> Record:
    failure = Failure(kind="unsupported", stage="trace", message=str(error))
    return Record(spec=spec, protocol=None, environment=environment, failure=failure, source="computed")


def _card(trace: Trace, record: Record, depth: int) -> str:
    """The card of one model as text."""
    from visionbench.models import resolve
    from visionbench.reports import render
    from visionbench.reports.results import model_card
    from visionbench.tracing.step import by_kind, by_stage, uncounted_lines

    batch = trace.spec.batch_size
    whole = "one step" if batch == 1 else f"one step of all {batch} images"
    origin = f"{resolve(trace.spec.model).origin}; counted by torch {record.environment.torch} on its meta device"
    kinds = by_kind(trace)
    parts = [
        model_card.facts(record, str(trace.spec), origin, kinds),
        model_card.breakdown(f"By kind of operator, {whole}", kinds),
        model_card.breakdown(f"By stage, {whole}", by_stage(trace, depth)),
    ]
    if trace.hooks:
        parts.insert(1, model_card.breakdown(f"By part, {whole}", by_stage(trace, 1)))
    if trace.curve:
        parts.insert(1, model_card.memory(record, trace.curve.peak_phase, trace.curve.totals))
    width = output.width(None)
    tables = [render(part, "terminal", width, colour=output.colour()) for part in parts]
    said = [model_card.not_counted(uncounted_lines(trace), record), *model_card.by_other_rules(record)]
    return "\n".join([*tables, *(textwrap.fill(line, width) if width else line for line in said)])


def _second_opinion(spec: Spec) -> str:
    """The count of fvcore beside ours, and what explains the difference. It runs the model, so it does that apart."""
    from visionbench.tracing.apart import apart
    from visionbench.tracing.second_opinion import second_opinion

    try:
        opinion = apart(second_opinion, spec)
    except (BenchError, ModelError) as error:
        return f"\nThere is no second opinion: {error}"
    if opinion.trouble:
        return f"\nThere is no second opinion: fvcore failed ({opinion.trouble.rstrip('.')})."
    verdict = "agree" if opinion.agrees else "DISAGREE"
    lines = [f"\nSecond opinion (fvcore, real tensors, one image): the counts {verdict}."]
    lines += [f"  ours {opinion.ours:,}; fvcore {opinion.theirs:,}"]
    lines += [f"  {d.operator}: ours {d.ours:,}, fvcore {d.theirs:,} ({d.reason})" for d in opinion.differences]
    return "\n".join(lines)
