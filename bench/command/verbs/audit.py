"""The verb `audit`: printed params and FLOPs against exact counts, each with what explains it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from visionbench.command import counting, inputs, options, output, progress, values
from visionbench.command.requests import Output
from visionbench.record.errors import BenchError, choose
from visionbench.record.units import plural

if TYPE_CHECKING:
    from visionbench.record.profile import Profile
    from visionbench.record.record import Record
    from visionbench.record.spec import ImageSize
    from visionbench.reports import Report
    from visionbench.reports.audit import speed
    from visionbench.reports.audit.figures import Counted
    from visionbench.reports.audit.tables import Audited
    from visionbench.reports.printed import Network
    from visionbench.reports.table import Table

DESCRIPTION = """\
Check every printed params and FLOPs figure against the exact count of its network. Each is reproduced to the printed
digit, explained by something that was tried on the row, or unexplained. Tried are other conventions of counting, sizes,
networks, and the numbers of other rows and earlier papers. Counts that are not known yet are traced, over all cores,
and kept.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which papers (none: every shipped one), and how to print what was found."""

    papers: tuple[str, ...]
    every: bool
    memory: bool
    published: tuple[Path, ...]
    errata: bool
    speed: bool
    output: Output
    user_models: bool = False


def add(parser: ArgumentParser) -> None:
    """What a user may ask."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "papers",
        nargs="*",
        metavar="PAPER",
        help="swin, maxvit, ... or a file (default: a summary of every paper); timm: count the whole zoo",
    )
    parser.add_argument("--every", action="store_true", help="show the figures that are reproduced, too")
    parser.add_argument(
        "--memory", action="store_true", help="with timm: the memory of a training step of each network, too"
    )
    parser.add_argument(
        "--published",
        type=values.path,
        action="append",
        default=[],
        metavar="FILE",
        help="with timm: timm's own figures beside, from its results-imagenet.csv, benchmark-infer-*.csv (repeatable)",
    )
    parser.add_argument("--errata", action="store_true", help="print the page docs/errata.md")
    parser.add_argument(
        "--speed", action="store_true", help="the printed img/s of PAPER beside predicted ones, and what is copied"
    )
    inputs.add_user_models(parser)
    options.add_output(parser)
    parser.add_argument("--output", type=values.path, dest="file", metavar="FILE", help="write there instead of stdout")
    parser.set_defaults(verb=lambda words: run(options.part(Request, words)))


def run(request: Request) -> int:
    """Print the summary, and for papers that are named the figures that are not reproduced."""
    if ZOO in request.papers and len(request.papers) > 1:
        raise BenchError(f"`audit {ZOO}` counts the whole zoo and has one table: leave the papers out.")
    zoo = request.papers == (ZOO,)
    if request.memory and not zoo:
        raise BenchError(f"--memory is about the whole zoo: write `audit {ZOO} --memory`.")
    if request.published and not zoo:
        raise BenchError(f"--published is about timm's own figures: write `audit {ZOO} --published FILE`.")
    if (request.speed or zoo) and (request.errata or request.every):
        raise BenchError("--errata and --every are about papers' params and FLOPs: leave them out here.")
    if not request.errata:
        output.print_tables(_tables(request, zoo=zoo), request.output)
        return 0
    text = _errata(request)
    if request.output.file:
        output.write(request.output.file, text.encode())
    else:
        print(text, end="")
    return 0


def _tables(request: Request, *, zoo: bool) -> list[Table]:
    from visionbench.reports.audit import tables

    if zoo:
        return [zoo_table(request.published, memory=request.memory)]
    if request.speed:
        return speed_tables(request.papers, user_models=request.user_models)
    audited = audit_papers(request.papers, user_models=request.user_models)
    others = tables.elsewhere(audited)
    details = [tables.details(paper, others, every=request.every) for paper in audited if request.papers]
    return [*details, tables.summary(audited)]


ZOO = "timm"
"""The word for every network of timm."""


def zoo_table(published: Sequence[Path], *, memory: bool) -> Table:
    """Every network of timm, counted exactly, beside the figures of timm's files that are named."""
    from visionbench.reports.audit.zoo import read_published, zoo

    theirs = read_published(published) if published else None
    problems = theirs.problems if theirs else ()
    for problem in problems[:MOST_PROBLEMS]:
        progress.complain(f"{problem}.")
    if left := problems[MOST_PROBLEMS:]:
        progress.complain(f"{plural(len(left), 'line')} more cannot be taken as they stand.")
    profiles, trained = count_zoo(theirs.figures if theirs else (), memory=memory)
    return zoo(profiles, trained, theirs)


MOST_PROBLEMS = 5
"""How many lines of timm's files that cannot be read are named."""


def count_zoo(also: Iterable[Network] = (), *, memory: bool = False) -> tuple[list[Profile], list[Profile]]:
    """The profiles of every network of timm, by family, and with `memory` those of a training step of each. `also`: at
    which other sizes, for networks that timm has. Goes on where an earlier count stopped.
    """
    from visionbench import models
    from visionbench.record.profile import TRAINING

    places = {name: place for place, name in enumerate(models.names()) if name.startswith(f"{ZOO}:")}
    networks = [(name, models.resolve(name).image_size) for name in places]
    forms = [(*network, form) for form in ("", *([TRAINING] if memory else [])) for network in networks]
    forms += [(*network, "") for network in also if network[0] in places]
    counted = counting.count(forms)
    profiles = [counted[form] for form in dict.fromkeys(forms) if form in counted]
    profiles.sort(key=lambda profile: (profile.family, places[profile.model]))
    return [each for each in profiles if not each.variant], [each for each in profiles if each.variant]


def _errata(request: Request) -> str:
    """The page docs/errata.md. It says what the shipped counts were made with; without any, what is here."""
    from visionbench.reports.audit import tables
    from visionbench.reports.audit.copied import origins
    from visionbench.reports.paper.profiles import shipped

    audited, known = audit_papers(request.papers, user_models=request.user_models), shipped()
    versions = {(profile.torch, profile.timm) for profile in known.values()} or {counting.versions()}
    counted_by = " and ".join(f"counted with torch {torch} and timm {timm}" for torch, timm in sorted(versions))
    firsts: list[tables.First] = []
    for row, metric, earlier in () if request.papers else origins():
        own = known.get((*row.network, ""))
        firsts.append((row, metric, earlier, own.parts[metric] if own else None))
    return tables.errata(audited, counted_by, firsts)


def audit_papers(names: Sequence[str], *, user_models: bool = False) -> list[Audited]:
    """The findings of those papers, of every shipped one for (). Raises `BenchError` for an unknown name.

    Counts what is not known; then, for prints that nothing explains, their networks at sizes and in forms where they
    may fit.
    """
    from visionbench.reports.audit.explain import forms_worth_counting, sizes_worth_counting
    from visionbench.reports.audit.figures import ROUNDED_UP, Counted

    papers = _papers(names, user_models=user_models)
    known = counting.count(network for _, reports in papers for report in reports for network in report.measured_rows())
    audited = _audited(papers, Counted(known))
    findings = [f for paper in audited for f in paper.findings]
    unexplained = [f for f in findings if f.kind in ("unexplained", "copied") and not f.settled]
    forms: dict[counting.Form, None] = dict.fromkeys(
        (f.figure.row.model, size, "") for f in unexplained for size in sizes_worth_counting(f)
    )
    unsure = [*unexplained, *(f for f in findings if f.text == ROUNDED_UP)]
    forms |= dict.fromkeys((*f.figure.row.network, form) for f in unsure for form in forms_worth_counting(f))
    if all(form in known for form in forms):
        return audited
    return _audited(papers, Counted({**known, **counting.count(forms, again=False)}))


def speed_tables(names: Sequence[str], *, user_models: bool = False) -> list[Table]:
    """The printed rates of those papers with predictions. Raises `BenchError` where no paper is named."""
    from visionbench.reports.audit import speed

    if not names:
        raise BenchError("--speed is about a paper's printed img/s: name one, such as `audit swin --speed`.")
    others = list(map(_rated, _papers(())))
    tables: list[Table] = []
    for paper in map(_rated, _papers(names, user_models=user_models)):
        if not paper.rows:
            raise BenchError(f"{paper.stem} prints no img/s: name a paper that does (`list tables`).")
        predictions = _predictions(paper)
        tables += [speed.rates(paper, others, predictions), speed.pairs(paper, others, predictions)]
    return [table for table in tables if table.rows]


def _rated(paper: tuple[str, list[Report]]) -> speed.Paper:
    from visionbench.reports.audit import speed
    from visionbench.reports.printed import convnext

    stem, reports = paper
    rows = tuple(row for report in reports for row in report.rows if speed.RATE in row.printed)
    keys = dict.fromkeys(row.printed[speed.RATE].protocol for row in rows)
    known = convnext().protocols
    protocols = tuple(str(known.get(key, key)) for key in keys if key)
    return speed.Paper(stem=stem, title=reports[0].paper, cite=reports[0].cite, rows=rows, protocols=protocols)


def _predictions(paper: speed.Paper) -> dict[tuple[str, Network], Record]:
    """What a prediction says of each printed rate, run as `predict` would, on the cards that have a data sheet."""
    from visionbench.command.requests import HowToRun, Selection
    from visionbench.command.verbs import predict
    from visionbench.reports.audit.speed import RATE
    from visionbench.reports.paper.rates import CARDS

    networks: dict[tuple[str, ImageSize], list[str]] = {}
    for row in paper.rows:
        gpu = row.printed[RATE].gpu
        if gpu in CARDS and row.model:
            networks.setdefault((gpu, row.image_size), []).append(row.model)
    predicted: dict[tuple[str, Network], Record] = {}
    for (gpu, size), models in networks.items():
        selection = Selection(words=tuple(dict.fromkeys(models)), image_size=size)
        request = predict.Request(gpu=CARDS[gpu], selection=selection, how=HowToRun())
        _, records = predict.predict_rows(request)
        predicted |= {(gpu, (record.spec.model, record.spec.image_size)): record for record in records}
    return predicted


def _papers(names: Sequence[str], *, user_models: bool = False) -> list[tuple[str, list[Report]]]:
    """Each paper's tables. Without `user_models` no row of a file has a network that would have to be imported."""
    from visionbench.reports import REPORTS

    shipped = {stem: list(tables.values()) for stem, tables in REPORTS.papers().items()}
    if not names:
        return list(shipped.items())
    files = {name: inputs.reports_of(name) for name in names if name.endswith(".toml")}
    if not user_models:
        inputs.refuse_user_models(row.model for reports in files.values() for report in reports for row in report.rows)
        for reports in files.values():
            for at, report in enumerate(reports):
                rows = (replace(row, model="") if row.model.startswith("user:") else row for row in report.rows)
                reports[at] = replace(report, rows=tuple(rows))
    return [
        (Path(name).stem, files[name]) if name in files else (name, shipped[choose("paper", name, shipped)])
        for name in names
    ]


def _audited(papers: Sequence[tuple[str, list[Report]]], profiles: Counted) -> list[Audited]:
    """The findings of each paper, with what stands in an earlier one of all that are shipped."""
    from visionbench.reports.audit.copied import TODAY, copied, first_prints, refuting
    from visionbench.reports.audit.explain import audit
    from visionbench.reports.audit.tables import Audited

    shipped = [reports for _, reports in _papers(())]
    known, first = {reports[0].cite for reports in shipped}, first_prints(shipped, profiles)
    audited = []
    for stem, reports in papers:
        rows, head = [row for report in reports for row in report.rows], reports[0]
        undated = "" if head.cite in known else TODAY
        explained = audit(stem, rows, profiles, head.stated, refuting(head.cite, first, profiles, undated))
        findings = copied(explained, head.cite, first, profiles, undated)
        audited.append(Audited(stem=stem, title=head.paper, cite=head.cite, findings=findings))
    return audited
