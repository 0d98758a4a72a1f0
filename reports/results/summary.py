"""What a reader wants first: what was measured, on what, which network is the fastest at which accuracy, and what is
doubtful. Every sentence is computed from the records; an order is said only where intervals show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from visionbench.comparison.comparison import Comparison, speed_up
from visionbench.comparison.switches import switch_of
from visionbench.record.clean import clean
from visionbench.record.record import Environment, Record
from visionbench.record.statistics import MIN_LAUNCHES, Estimate
from visionbench.record.units import first_of, plural
from visionbench.reports import cells
from visionbench.reports.column import Column, label, lay_out
from visionbench.reports.launches import grouped
from visionbench.reports.paired_ratio import finding
from visionbench.reports.paper.report import Report
from visionbench.reports.printed import Network, PaperRow, convnext
from visionbench.reports.results.metrics import Run
from visionbench.reports.results.runs import runs_of
from visionbench.reports.settings import flags, groups, heads
from visionbench.reports.table import Cell, Note, Table

NAME, TITLE = "fastest", "Fastest: which network at which accuracy"

SECTION_22K = "ImageNet-22K pre-trained models"

GROUPS = 3
"""Ways of measuring that are shown: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A measured network with a published accuracy: `top1` in %, `rate` in images/s."""

    row: PaperRow
    top1: float
    rate: Estimate
    launches: tuple[Record, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The fastest network of at least `floor` % on one device, and those that it is not shown to beat."""

    device: str
    floor: int
    best: Candidate
    second: Candidate | None
    rivals: tuple[Candidate, ...]

    @property
    def finding(self) -> str:
        """Whether intervals show the order, in words."""
        if self.second is None:
            return "the only one"
        if self.best.rate.low is None or any(one.rate.low is None for one in self.rivals):
            return "ahead, without an interval"
        if self.rivals:
            return f"tied with {', '.join(name(one.row) for one in self.rivals)}"
        return "wins: intervals apart"


def name(row: PaperRow) -> str:
    """`ConvNeXt-B@384`; 224 px goes without saying."""
    return row.label if row.image_size == 224 else f"{row.label}@{row.image_size}"


def accuracies() -> dict[Network, PaperRow]:
    """The rows with an accuracy of training on ImageNet-1K alone, each network once, as first printed."""
    rows = [row for table in ("1", "2", "12") for row in convnext().rows(table)]
    return {row.network: row for row in reversed(rows) if row.section != SECTION_22K and "top1" in row.printed}


# --- which one -------------------------------------------------------------------------------------------------------


def winners(records: Sequence[Record]) -> tuple[Winner, ...]:
    """The fastest network for every whole percent of accuracy at which the answer changes, device by device."""
    known = accuracies()
    shown = groups(records, known, "inference")[:GROUPS]
    found: list[Winner] = []
    for group, head in zip(shown, heads(shown), strict=True):
        candidates = [
            Candidate(row=known[network], top1=known[network].printed["top1"].value, rate=rate, launches=launches)
            for network, launches in group.launches.items()
            if (rate := launches.throughput)
        ]
        found += _winners(", ".join(head), sorted(candidates, key=lambda one: -one.rate.centre))
    return tuple(found)


def _winners(device: str, candidates: Sequence[Candidate]) -> Iterator[Winner]:
    """From the most accurate; a floor whose answer is that of the one above it is not repeated.

    Whom the best is shown to beat has an interval below its own. Without an interval nothing is shown.
    """
    last: Winner | None = None
    for floor in sorted({int(one.top1) for one in candidates}, reverse=True) if len(candidates) > 1 else ():
        best, *others = (one for one in candidates if one.top1 >= floor)
        low, highs = best.rate.low, [one.rate.high for one in others]
        rivals = [one for one, high in zip(others, highs, strict=True) if low is None or high is None or low <= high]
        winner = Winner(
            device=device, floor=floor, best=best, second=others[0] if others else None, rivals=tuple(rivals)
        )
        if last is None or (winner.best, winner.finding) != (last.best, last.finding):
            yield winner
        last = winner


def layout(records: Sequence[Record], _comparisons: Sequence[Comparison] = (), /) -> Table:
    """The winners as a table; comparisons say nothing about them. Pure."""
    found = winners(records)
    return lay_out(
        NAME,
        TITLE,
        found,
        (
            label("network", "fastest", lambda one: name(one.best.row)),
            Column(key="top1_floor", head=("top-1 of", "at least, %"), unit="%",
                   fill=lambda one: Cell(text=str(one.floor), value=float(one.floor))),
            Column(key="top1", head=("its top-1", "paper, %"), unit="%", source="published", rank=3,
                   fill=lambda one: cells.published(one.best.row.printed["top1"])),
            Column(key="throughput", head=("img/s",), unit="1/s", source="measured", fill=lambda one: _rate(one.best)),
            label("second", "next", lambda one: name(one.second.row) if one.second else "–", rank=2),
            Column(key="throughput_second", head=("its img/s",), unit="1/s", source="measured", rank=4,
                   fill=lambda one: _rate(one.second) if one.second else Cell()),
            label("finding", "finding", lambda one: one.finding, notes=(FINDING,), rank=1),
        ),
        section=lambda one: one.device,
        subject=lambda one: one.best.row.model,
        dash="there is no other",
        remarks=() if found else ("Two networks with a published accuracy must be measured in the same way.",),
    )  # fmt: skip


FINDING = Note(
    term="finding",
    text="[ ] is the 95 % interval over launches. Where two overlap they show no order. With fewer than "
    f"{MIN_LAUNCHES} launches no interval is known, so the larger number is not said to win.",
)


def _rate(one: Candidate) -> Cell:
    doubts = tuple(map(cells.sentence, flags(one.launches, "throughput")))
    return cells.measured(one.rate, cells.rate_digits([one.rate.centre]), doubts, one.launches)


# --- in sentences ----------------------------------------------------------------------------------------------------


def sentences(records: Sequence[Record], comparisons: Sequence[Comparison], *, own: bool) -> dict[str, tuple[str, ...]]:
    """What was measured, which one wins, what the settings bring, what is doubtful: sentences by their heading.

    `own`: whether the measurements are the user's; otherwise they came with visionbench.
    """
    runs = [run for run in runs_of(records) if run.launches.successes]
    said = {
        "Measured": tuple(_measured(runs, own=own)),
        "Fastest": (*_fastest(winners(records)), *_unranked(records)),
        "Settings": tuple(_settings(comparisons)),
        "Doubtful": tuple(_doubtful(runs_of(records))),
    }
    return {heading: its for heading, its in said.items() if its}


def _measured(runs: Sequence[Run], *, own: bool) -> Iterator[str]:
    if not runs:
        yield "Nothing was measured here: what follows is copied from papers, counted or predicted."
        return
    if not own:
        yield "These measurements came with visionbench and were made on other machines than yours."
    for place, its in grouped(runs, lambda run: _place(run.environment)).items():
        models = len({run.spec.model for run in its})
        newest = max((day for run in its for day in run.launches.days), default="")
        launches = plural(sum(run.launches.successes for run in its), "launch", "launches")
        rows, when = plural(len(its), "row"), f", newest of {newest}" if newest else ""
        yield f"{plural(models, 'network')} in {rows} ({launches}) on {place}{when}."


def _fastest(found: Sequence[Winner]) -> Iterator[str]:
    for device, its in grouped(found, lambda winner: winner.device).items():
        if clear := [one for one in its if one.finding.startswith("wins")]:
            yield f"{device}: {'; '.join(map(_named, clear))}. The intervals show it."
        if tied := [one for one in its if one.finding.startswith("tied")]:
            yield f"{device}, tied: {'; '.join(f'{_named(one)}, {one.finding}' for one in tied)}."
        if bare := [one for one in its if one.finding.startswith("ahead")]:
            yield f"{device}, ahead, but without an interval: {'; '.join(map(_named, bare))}."


def _unranked(records: Sequence[Record]) -> Iterator[str]:
    """Networks that no paper here prints an accuracy of, the user's above all: their speed, without a rank."""
    known = accuracies()
    timed = {(record.spec.model, record.spec.image_size): None for record in records if record.source == "measured"}
    shown = groups(records, [network for network in timed if network not in known], "inference")[:GROUPS]
    for group, head in zip(shown, heads(shown), strict=True):
        rates = ((model, launches.throughput) for (model, _), launches in group.launches.items())
        said = [f"{clean(model).removeprefix('timm:')} {_interval(rate)}" for model, rate in rates if rate]
        if said:
            yield f"{', '.join(head)}, in no order because no table here prints their accuracy: {first_of(said, 6)}."


def _interval(rate: Estimate) -> str:
    digits = cells.rate_digits([rate.centre])
    centre, *ends = (cells.decimals(end, digits) for end in (rate.centre, rate.low, rate.high) if end is not None)
    return f"{centre} img/s" + (f" [{', '.join(ends)}]" if ends else "")


def _place(where: Environment) -> str:
    name = where.device_name or where.cpu or where.device
    threads = f" with {plural(where.threads, 'thread')}" if where.device_type == "cpu" and where.threads else ""
    return f"{clean(name)}{threads}, torch {where.torch or 'unknown'}"


def _named(winner: Winner) -> str:
    rate = cells.decimals(winner.best.rate.centre, cells.rate_digits([winner.best.rate.centre]))
    return f"{name(winner.best.row)} at {winner.floor} % and more ({rate} img/s)"


def _settings(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What the switches brought: how many of which finding, and the largest gain that an interval shows."""
    its = [one for one in comparisons if switch_of(one) and one.failure is None]
    if not its:
        return
    counts = Counter(finding(one) for one in its)
    told = ", ".join(f"{number} {word}" for word, number in counts.most_common() if word)
    where = " and ".join(dict.fromkeys(clean(one.environment.device_name or one.environment.device) for one in its))
    yield f"{plural(len(its), 'setting')} compared in turns on {where}, network by network: {told}."
    gains = [(ratio, one) for one in its if finding(one) == "faster" and (ratio := speed_up(one))]
    if gains:
        ratio, best = max(gains, key=lambda pair: pair[0].centre)
        spec = best.baseline.spec
        yield (
            f"The most by {switch_of(best)} for {spec.model.removeprefix('timm:')} ({spec.task}): "
            f"×{ratio.centre:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]."
        )


def _doubtful(runs: Sequence[Run]) -> Iterator[str]:
    failed = [run for run in runs if not run.launches.successes]
    good = [run for run in runs if run.launches.successes]
    if failed:
        yield f"{plural(len(failed), 'row')} could not be measured: {_models(failed)}."
    few = [run for run in good if run.launches.successes < MIN_LAUNCHES]
    if few:
        verb = "has" if len(few) == 1 else "have"
        yield f"{len(few)} of {plural(len(good), 'row')} {verb} fewer than {MIN_LAUNCHES} launches, so no interval."
    doubted = ((flag, run) for run in good for flag in flags(run.launches, "throughput"))
    doubts = grouped(doubted, lambda pair: pair[0])
    for flag, its in sorted(doubts.items(), key=lambda pair: -len(pair[1])):
        yield f"{len(its)} of {plural(len(good), 'row')}: {flag} ({_models([run for _, run in its])})."
    if good and not few and not doubts:
        yield "Every row has an interval and no flag."


def _models(runs: Sequence[Run]) -> str:
    return first_of(list(dict.fromkeys(clean(run.spec.model).removeprefix("timm:") for run in runs)))


REPORT = Report(name=NAME, title=TITLE, paper_table="", layout=layout)
