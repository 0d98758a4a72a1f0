"""Columns of images per second, measured here: one per group of equal settings, the newest groups first.

A doubt that holds for a whole column (one launch a row, a busy machine) is said once in the column's note;
one that holds for a cell is its footnote. A failed measurement says its cause where the number would stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visionbench.record.record import Record
from visionbench.record.statistics import MIN_LAUNCHES, Estimate, throughput
from visionbench.reports import cells
from visionbench.reports.paper.columns import RATE, Plan
from visionbench.reports.printed import PaperRow
from visionbench.reports.settings import CAUSES, Group, describe, failure, flags, groups, heads
from visionbench.reports.table import HEADS, Cell, Column, Note

RANKS = (1, 6, 8)
"""How important the newest, second and third newest group are (see `Column.rank`). More groups than these do
not fit beside each other; a remark says how many were left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """A group that is shown: its header, its place in the order of importance, and each network's estimate."""

    group: Group
    head: tuple[str, ...]
    rank: int
    estimates: dict[tuple[str, int], Estimate]


def inference_groups(records: Sequence[Record], rows: Iterable[PaperRow]) -> tuple[Group, ...]:
    """Everything measured for these rows in inference, the newest first."""
    return groups(records, (row.network for row in rows), "inference")


def shown(found: Sequence[Group]) -> tuple[Rates, ...]:
    """The newest groups with their estimates."""
    newest = found[: len(RANKS)]
    return tuple(
        Rates(group=group, head=head, rank=rank, estimates=_estimates(group))
        for group, head, rank in zip(newest, heads(newest), RANKS, strict=False)
    )


def _estimates(group: Group) -> dict[tuple[str, int], Estimate]:
    made = ((network, throughput(launches)) for network, launches in group.launches.items())
    return {network: estimate for network, estimate in made if estimate}


def plans(columns: Sequence[Rates]) -> tuple[Plan, ...]:
    """One column per group; a single one of dashes where nothing has been measured."""
    return tuple(map(plan, columns)) if columns else (nothing(),)


def nothing() -> Plan:
    """The column that waits for measurements."""
    column = _column("throughput_measured", ("here",), RANKS[0], ())
    return Plan(column=column, fill=lambda _row: Cell())


def plan(rates: Rates) -> Plan:
    """The column of one group."""
    group, estimates = rates.group, rates.estimates
    digits = cells.rate_digits(estimate.centre for estimate in estimates.values())
    common = _common(group, list(estimates.values()))
    term = ", ".join((RATE, HEADS["measured"], *rates.head))
    note = Note(term=term, text=f"{describe(group)}.{_remark(common, list(estimates.values()))}")

    def fill(row: PaperRow) -> Cell:
        launches, estimate = group.launches.get(row.network, []), estimates.get(row.network)
        if estimate is None:
            return failed(launches)
        doubts = (*_no_interval(estimate), *flags(launches, "throughput"), *_lost(launches))
        notes = tuple(cells.sentence(doubt) for doubt in doubts if doubt not in common)
        return cells.measured(estimate, digits, notes, _origin(group, launches))

    return Plan(
        column=_column(f"throughput_measured_{group.setting.slug}", rates.head, rates.rank, (note,)),
        fill=fill,
    )


def _column(key: str, head: tuple[str, ...], rank: int, notes: tuple[Note, ...]) -> Column:
    return Column(
        key=key,
        group=RATE,
        head=(HEADS["measured"], *head),
        unit="1/s",
        source="measured",
        rank=rank,
        notes=notes,
    )


def failed(launches: Sequence[Record]) -> Cell:
    """The cause in place of the number; a dash where nothing was tried."""
    record = failure(launches)
    if record is None or record.failure is None:
        return Cell()
    why = record.failure
    origin = f"{record.spec}: {why.kind} in {why.stage}: {why.message}"
    return Cell(text=CAUSES[why.kind], source="measured", origin=origin)


def _no_interval(estimate: Estimate) -> tuple[str, ...]:
    return () if estimate.low is not None else (f"fewer than {MIN_LAUNCHES} launches, so no interval",)


def _lost(launches: Sequence[Record]) -> tuple[str, ...]:
    lost = [record.failure for record in launches if record.failure]
    causes = ", ".join(dict.fromkeys(CAUSES[why.kind] for why in lost))
    return (f"{len(lost)} of {len(launches)} launches failed ({causes})",) if lost else ()


def _common(group: Group, estimates: Sequence[Estimate]) -> frozenset[str]:
    """The doubts that hold for every number of the column."""
    having = [launches for network, launches in group.launches.items() if not failure(launches)]
    doubts = [frozenset(flags(launches, "throughput")) for launches in having]
    common = frozenset.intersection(*doubts) if doubts else frozenset()
    alike = estimates and all(estimate.low is None for estimate in estimates)
    return common | frozenset(_no_interval(estimates[0])) if alike else common


def _remark(common: frozenset[str], estimates: Sequence[Estimate]) -> str:
    interval = " Interval: 95 %, over launches." if any(estimate.low is not None for estimate in estimates) else ""
    return f"{interval} Every row: {'; '.join(sorted(common))}." if common else interval


def _origin(group: Group, launches: Sequence[Record]) -> str:
    days = sorted({(record.environment.started or "")[:10] for record in launches} - {""})
    when = f"; {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    count = "1 launch" if len(launches) == 1 else f"{len(launches)} launches"
    how = f"protocol {group.setting.protocol}; {count}{when}"
    return f"{group.setting.device}; {launches[-1].spec}; {how}"


def left_out(found: Sequence[Group], report: str) -> tuple[str, ...]:
    """What to say about measurements that are not shown, or about there being none."""
    if not found:
        return (f"Nothing measured yet: `python bench.py run --table {report}` measures these rows on this machine.",)
    more = len(found) - len(RANKS)
    if more < 1:
        return ()
    return (f"{more} older group{'s' if more > 1 else ''} of measurements (other devices or settings) not shown.",)
