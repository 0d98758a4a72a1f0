"""The verb `trace`: one model's exact counts."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import options, output, progress
from visionbench.command.requests import HowToRun, Selection
from visionbench.command.selection import specs_to_trace
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
    parser.description = "One model's card: exact counts by a trace on the meta device; no weights, no hardware."
    parser.add_argument("words", nargs="+", metavar="MODEL", help="as for run")
    options.add_batch_size(options.add_spec(parser), "1")
    parser.add_argument(
        "--depth",
        type=options.positive,
        default=2,
        metavar="N",
        help="levels of modules to break down (default: 2)",
    )
    parser.add_argument(
        "--second-opinion", action="store_true", help="count with fvcore too, on real tensors, and explain differences"
    )
    options.add_json(parser)
    parser.set_defaults(verb=lambda words: run(_request(words)))


def _request(words: Namespace) -> Request:
    return Request(
        selection=options.part(Selection, words),
        how=options.part(HowToRun, words),
        depth=words.depth,
        second_opinion=words.second_opinion,
        json=words.json,
    )


def run(request: Request) -> int:
    """Print each model's card, or its computed record."""
    from visionbench.tracing.step import missed

    for trace, record in traces(request):
        print(clean_json(to_json(record)) if request.json else clean_lines(_card(trace, record, request.depth)))
        if names := missed(trace):
            progress.complain(
                f"{trace.spec.model}: NOT COUNTED, though they multiply or may: {', '.join(names)}; register a formula "
                "with torch.utils.flop_counter.register_flop_formula."
            )
        if request.second_opinion:
            print(_second_opinion(trace.spec), file=sys.stderr if request.json else sys.stdout)
    return 0


def traces(request: Request) -> Iterator[tuple[Trace, Record]]:
    """Count each model; yields the trace and its computed record. Raises `BenchError` for one that cannot be traced."""
    from visionbench.machine.environment import describe
    from visionbench.tracing.step import run as run_trace
    from visionbench.tracing.step import to_record

    environment = describe("meta")
    for spec in specs_to_trace(request.selection, request.how):
        with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
            trace = run_trace(spec)
        yield trace, to_record(trace, environment)


def count_missing(specs: Iterable[Spec], records: Sequence[Record], path: Path) -> list[Record]:
    """Trace the specs that `records` hold no count of by this torch and this timm, and append them to the file.

    A row that cannot be traced here (an old timm lacks the model) is recorded as a failure, and not the end.
    """
    from visionbench.machine.environment import describe

    environment = describe("meta")
    counted = {r.spec for r in records if r.source == "computed" and r.failure is None and _same(r, environment)}
    missing = [spec for spec in dict.fromkeys(specs) if spec not in counted]
    if missing:
        progress.say(f"Counting {plural(len(missing), 'network')} exactly, on no hardware ...")
    new = []
    for spec in missing:
        new.append(_count(spec, environment))
        store.append(path, new[-1])
    return new


def _same(record: Record, environment: Environment) -> bool:
    """Whether a record was made with the torch and the timm that are here: others may count a few operators more."""
    return (record.environment.torch, record.environment.timm) == (environment.torch, environment.timm)


def _count(spec: Spec, environment: Environment) -> Record:
    from visionbench.tracing import trace as trace_spec

    try:
        with redirect_stdout(sys.stderr):
            return trace_spec(spec, environment)
    except (BenchError, ModelError) as error:
        progress.say(f"{spec}: {error}")
        failure = Failure(kind="unsupported", stage="trace", message=str(error))
        return Record(spec=spec, protocol=None, environment=environment, failure=failure, source="computed")


def _card(trace: Trace, record: Record, depth: int) -> str:
    """The card of one model as text."""
    from visionbench.models import resolve
    from visionbench.reports import render
    from visionbench.reports.results import model_card
    from visionbench.tracing.summary import by_kind, by_stage, uncounted

    batch = trace.spec.batch_size
    whole = "one step" if batch == 1 else f"one step of all {batch} images"
    origin = f"{resolve(trace.spec.model).origin}; counted by torch {record.environment.torch} on its meta device"
    parts = [
        model_card.facts(record, str(trace.spec), origin),
        model_card.breakdown(f"By kind of operator, {whole}", by_kind(trace)),
        model_card.breakdown(f"By stage, {whole}", by_stage(trace, depth)),
    ]
    if trace.hooks:
        parts.insert(1, model_card.breakdown(f"By part, {whole}", by_stage(trace, 1)))
    if trace.curve:
        parts.insert(1, model_card.memory(record, trace.curve.peak_phase, trace.curve.totals))
    tables = [render(part, "terminal", output.width(None), colour=output.colour()) for part in parts]
    return "\n".join([*tables, model_card.not_counted(uncounted(trace), record), *model_card.by_other_rules(record)])


def _second_opinion(spec: Spec) -> str:
    """The count of fvcore beside ours, and what explains the difference."""
    from visionbench.tracing.second_opinion import second_opinion

    opinion = second_opinion(spec)
    verdict = "agree" if opinion.agrees else "DISAGREE"
    lines = [f"\nSecond opinion (fvcore, real tensors, one image): the counts {verdict}."]
    lines += [f"  ours {opinion.ours:,}; fvcore {opinion.theirs:,}"]
    lines += [f"  {d.operator}: ours {d.ours:,}, fvcore {d.theirs:,} ({d.reason})" for d in opinion.differences]
    return "\n".join(lines)
