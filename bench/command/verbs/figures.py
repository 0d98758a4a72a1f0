"""The verb `figures`: pictures from what is recorded. Counts that are missing are traced; nothing is measured."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionbench.command import inputs, options, output, progress, values
from visionbench.record import files
from visionbench.record.clean import clean_json
from visionbench.record.errors import BenchError, choose
from visionbench.record.spec import PRECISIONS, ImageSize, Precision
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.record.record import Record
    from visionbench.reports.figures import Choice, Evidence
    from visionbench.reports.figures.figure import Drawing, Need

FORMATS = ("svg", "png", "pdf")
THEMES = ("light", "dark")
WIDTHS = ("page", "column", "slide")

DESCRIPTION = """\
Draw figures from recorded numbers, the paper's printed ones and exact counts. Missing counts are traced.

  figure1              accuracy against FLOPs
  figure2              from a ResNet to a ConvNeXt
  throughput_accuracy  images per second against accuracy per device, with the Pareto front
  memory_curve         live memory over one training step of --model
  roofline             operators of --model on --gpu
  effects              speed-ups of each setting, from --comparisons
  history              images per second over commits, with their intervals
  scaling              how training scales over the processes that share it
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which figures to draw, from which files, and how; `model` to `precision` are for memory_curve and roofline."""

    names: tuple[str, ...]
    all: bool
    rows: tuple[Path, ...]
    user_models: bool
    panels: tuple[str, ...]
    records: tuple[Path, ...]
    comparisons: tuple[Path, ...]
    model: str
    image_size: ImageSize | None
    gpu: str
    precision: Precision | None
    theme: Literal["light", "dark"]
    format: Literal["svg", "png", "pdf"]
    width: str
    folder: Path
    json: bool = False


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument("names", nargs="*", metavar="NAME", help="figure1, figure2, throughput_accuracy, ...")
    parser.add_argument("--all", action="store_true", help="every figure for which there is something to draw")
    options.add_evidence(parser)
    parser.add_argument(
        "--rows",
        type=values.path,
        action="append",
        metavar="FILE",
        help="networks with their accuracy from a table's file (mypaper.toml, see `table new`), emphasised beside the "
        "paper's. Where it says `own = true` of some rows, it is drawn instead of the paper",
    )
    inputs.add_user_models(parser)
    parser.add_argument(
        "--panels",
        type=values.words,
        default=(),
        metavar="WORDS",
        help="only the panels whose names contain one of these: h100,V100",
    )
    about = parser.add_argument_group("what memory_curve and roofline are about")
    about.add_argument("--model", default="timm:convnext_tiny", metavar="MODEL", help="default: timm:convnext_tiny")
    options.add_image_size(about, "224")
    about.add_argument("--gpu", default="a100-sxm4-80gb", metavar="NAME", help="a card's name (`list devices`)")
    about.add_argument("--precision", choices=PRECISIONS, help="of the roof (default: tf32 where the GPU has it)")
    how = parser.add_argument_group("output")
    how.add_argument("--theme", choices=THEMES, default="light", help="default: light")
    how.add_argument("--format", choices=FORMATS, default="svg", help="default: svg")
    how.add_argument(
        "--width",
        choices=WIDTHS,
        default="page",
        help="178 mm, 85 mm, or 16:9 without notes, in large type, 300 dpi (default: page)",
    )
    how.add_argument(
        "--output",
        type=values.path,
        dest="folder",
        default=Path(),
        metavar="DIR",
        help="where files go (default: here)",
    )
    options.add_json(how, "one array of the files")
    parser.set_defaults(verb=lambda words: run(options.part(Request, words)))


def run(request: Request) -> int:
    """Write each figure to a file of its name, and say where."""
    from visionbench.reports.figures import FIGURES

    if not request.names and not request.all:
        raise BenchError(f"which figure? Name one ({', '.join(FIGURES)}) or say --all.")
    named = [choose("figure", name, FIGURES) for name in request.names]
    names = list(FIGURES) if request.all else named
    evidence = _with_rows(request)
    drawn = []
    for name in dict.fromkeys(names):
        if path := _draw(FIGURES[name], evidence, request):
            drawn.append({"figure": name, "file": str(path)})
            if not request.json:
                print(path)
    if request.json:
        print(clean_json(json.dumps(drawn, indent=2)))
    return 0


def _with_rows(request: Request) -> Evidence:
    """What is drawn from: records, comparisons, and the rows of a user's own tables that have an accuracy.

    Where a file sets some of its rows apart it is drawn alone; else each of its rows is the user's.
    """
    from visionbench.reports import load_paper
    from visionbench.reports.figures import Evidence
    from visionbench.reports.paper import profiles

    reports = [report for path in request.rows for report in load_paper(path).values()]
    rows = [row for report in reports for row in report.rows if "top1" in row.printed]
    if reports and not rows:
        raise BenchError(f"{request.rows[0]}: no row has a top1, so no figure has a place for it: write top1 = 82.1.")
    alone = {row.own for row in rows} == {True, False}
    if not alone:
        rows = [replace(row, own=True) for row in rows if row.model]
    records = inputs.with_committed(inputs.own_records(request.records), measured=not alone)
    return Evidence(
        records=(*profiles.records(row.network for row in rows), *records),
        comparisons=inputs.read_comparisons(request.comparisons),
        choice=_choice(request),
        rows=tuple(rows),
        alone=alone,
        title=reports[0].title if reports else "",
    )


def _choice(request: Request) -> Choice:
    from visionbench import models
    from visionbench.record.devices import select
    from visionbench.reports.figures import Choice

    keys = [device.key for device in select(request.gpu)]
    if len(keys) > 1:
        progress.say(f"--gpu {request.gpu}: drawn for {keys[0]}; others of that name: {', '.join(keys[1:])}.")
    # A qualified name is not looked up before it must be: that loads timm.
    model = request.model if ":" in request.model else models.resolve(request.model).name
    return Choice(
        model=model,
        image_size=request.image_size,
        device=keys[0],
        precision=request.precision,
        panels=request.panels,
    )


def _draw(drawing: Drawing, evidence: Evidence, request: Request) -> Path | None:
    """Draw one figure, and return its file. Of --all, what there is nothing for is passed over, with its sentence."""
    from visionbench.reports.figures import TALLEST, MissingError, draw, height_of
    from visionbench.reports.figures import WIDTHS as MILLIMETRES

    needs = _allowed(drawing.needs(evidence), request)
    full = replace(evidence, records=(*evidence.records, *_traced(drawing.name, needs)))
    width = MILLIMETRES[request.width]
    slide = request.width == "slide"
    try:
        file = draw(drawing.name, full, theme=request.theme, file_format=request.format, width=width, slide=slide)
    except MissingError as nothing:
        if not request.all:
            raise
        progress.complain(str(nothing))
        return None
    path = request.folder / f"{drawing.name}.{request.format}"
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = files.reason(error)
        raise BenchError(
            f"cannot make the folder {request.folder} ({reason}): name another one with --output."
        ) from error
    output.write(path, file)
    if not slide and (tall := height_of(file, request.format)) > TALLEST:
        progress.say(
            f"{drawing.name} is {tall:.0f} mm tall, and a page's text about {TALLEST:.0f}: "
            "choose panels with --panels, or say --width page."
        )
    return path


def _allowed(needs: Sequence[Need], request: Request) -> list[Need]:
    """The needs without those of users' networks that a file of rows names, unless they are wanted: see `report`."""
    if request.user_models:
        return list(needs)
    named = {need.spec.model for need in needs if need.spec.model.startswith("user:")} - {request.model}
    inputs.refuse_user_models(named)
    return [need for need in needs if need.spec.model not in named]


def _traced(name: str, needs: Sequence[Need]) -> list[Record]:
    """The counts that the figure wants and the records lack."""
    if not needs:
        return []
    from visionbench.machine.environment import describe
    from visionbench.tracing import trace

    progress.say(f"{name}: counting {plural(len(needs), 'network')} on the meta device ...")
    environment = describe("meta")
    with redirect_stdout(sys.stderr):  # what a user's factory prints is no result of ours
        return [trace(need.spec, environment) for need in needs]
