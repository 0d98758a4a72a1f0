"""Two files of recorded numbers, side by side: exact counts that changed, and times with what may be said of them.

Counts and times are two tables, because a column holds one source: a count that changed is a fact about the code, a
time that moved is a fact about two jobs. The words of a row promise no more than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from visionbench.comparison.stored import COMPARED, Entry, Provenance, Recorded, StoredComparison
from visionbench.record.flags import meaning
from visionbench.record.program import program_name
from visionbench.record.record import Source
from visionbench.record.units import GIB, first_of, plural
from visionbench.reports import cells
from visionbench.reports.column import Column, lay_out, number
from visionbench.reports.results.verdict_text import clean, signed
from visionbench.reports.table import Cell, Note, Table

TIMES, COUNTS = "compared", "compared_counts"

ONE_COMMIT = "Both sides are of one commit: what differs here is the machine, or the hour."

_NAMES = {"throughput": "img/s", "latency": "latency p50", "energy": "energy/img", "median": "median of rounds"}
_INTERVALS = {"apart": "intervals apart", "overlapping": "intervals overlap", "no interval": "no interval"}

_UNCHANGED = 0.0005
"""A change that would print as 0.0 %."""


def no_verdict() -> str:
    """Why two files are no gate."""
    return (
        "Not a verdict: the sides ran in different jobs. One source's time has been seen to differ by 26 % between "
        "jobs of one CI, and by 0.3 % within a job (github.com/namecheap/fast_mail_parser/pull/128). An interval here "
        "covers the launches of one job only, so it leaves this out. To judge a change, measure both sides in one job, "
        f"in turns: `{program_name()} gate`."
    )


def layouts(compared: StoredComparison) -> tuple[Table, ...]:
    """The tables of what was found: exact counts, if any were recorded, and times, if any were or nothing else was."""
    counts: list[Entry] = []
    times: list[Entry] = []
    for entry in compared.entries:
        is_count = entry.source == "computed" or entry.word in ("equal", "changed")
        (counts if is_count else times).append(entry)
    tables = (_counts(compared, counts),) if counts else ()
    return (*tables, _times(compared, times)) if times or not counts else tables


def _counts(compared: StoredComparison, entries: Sequence[Entry]) -> Table:
    """What is equal is a number in a sentence; a row is what is not."""
    equal = [entry for entry in entries if entry.word == "equal"]
    rows = plural(len({entry.row for entry in equal}), "row")
    said = [f"Equal: {len(equal):,} of {len(entries):,} counts, in {rows}."] if equal else []
    remarks = [*said, *_unlike(entries), *_provenance(compared)]
    differing = [entry for entry in entries if entry.word != "equal"]
    note = "exact: one value each; a difference is the code's."
    return _table(COUNTS, "Exact counts, compared", differing, remarks, "computed", note, _count)


def _times(compared: StoredComparison, entries: Sequence[Entry]) -> Table:
    known = (side.estimate for entry in entries for side in (entry.baseline, entry.candidate) if side)
    if any(estimate.nodes > 1 for estimate in known):
        note = "[ ] 95 % interval over nodes, or over the launches of one; ( ) range over nodes too few for that."
    else:
        note = "[ ] 95 % interval over launches; ( ) quartiles of one process's rounds."
    remarks = [*_unlike(entries), *_provenance(compared)]
    if any(entry.word in COMPARED for entry in entries):
        sides = (compared.baseline, compared.candidate)
        clean_commits = [side.commits for side in sides if len(side.commits) == 1 and not side.dirty]
        if len(clean_commits) == 2 and clean_commits[0] == clean_commits[1]:
            remarks.append(ONE_COMMIT)
        remarks.append(no_verdict())
    return _table(TIMES, "Recorded numbers, compared", entries, remarks, "measured", note, _time)


def _table(
    name: str,
    title: str,
    entries: Sequence[Entry],
    remarks: Sequence[str],
    source: Source,
    note: str,
    numbers: Callable[[Entry], tuple[Cell, ...]],
) -> Table:
    """`numbers` makes four cells of an entry: its unit, the two sides, the change."""
    # The rows have different units: each says its own, and these columns are in the row's.
    sides = Note(term="baseline, candidate", text=note)
    cost = "of the cost, candidate over baseline: time per image for img/s; above zero is worse."
    ratio = (Note(term="change", text=cost),) if source == "measured" else ()

    def row(entry: Entry) -> Cell:
        among = (f"Of those with {clean(entry.among)}.",) if entry.among else ()
        return replace(cells.word(clean(entry.row.removeprefix("timm:")), entry.row), notes=among)

    def side(key: str, place: int, *notes: Note) -> Column[Entry]:
        return number(key, key, "1", lambda entry: numbers(entry)[place], *notes, source=source)

    columns: tuple[Column[Entry], ...] = (
        Column(key="row", head=("row",), align="left", fill=row),
        Column(key="metric", head=("metric",), align="left", fill=_metric),
        Column(key="unit", head=("unit",), align="left", rank=1, fill=lambda entry: numbers(entry)[0]),
        side("baseline", 1, sides),
        side("candidate", 2),
        side("change", 3, *ratio),
        Column(key="finding", head=("finding",), align="left", fill=_finding),
    )
    dash = "not recorded, or not compared"
    return lay_out(name, title, entries, columns, subject=lambda e: e.subject, dash=dash, remarks=remarks)


def _metric(entry: Entry) -> Cell:
    name = clean(_NAMES.get(entry.metric, entry.metric.replace("_", " ")))
    return cells.word(name, entry.metric) if entry.metric else Cell()


def _finding(entry: Entry) -> Cell:
    """What may be said of the two; where there is nothing to compare, why, to machines too."""
    told = clean("; ".join((*map(str, entry.differences), *([entry.reason] if entry.reason else ()))))
    text: str = entry.word
    if entry.word in _INTERVALS and entry.baseline and entry.candidate:
        text = f"{_direction(entry)}; {_INTERVALS[entry.word]}"
    value = f"{entry.word}: {told}" if told else entry.word
    return replace(cells.word(text, value), notes=(cells.sentence(told),) if told else ())


def _direction(entry: Entry) -> str:
    """Faster, slower; of bytes, joules and counts, more and less."""
    slower, faster = ("slower", "faster") if entry.unit in ("s", "1/s") else ("more", "less")
    if entry.cost is None:  # from zero there is no ratio
        grown = entry.baseline and entry.candidate and entry.candidate.estimate.centre > entry.baseline.estimate.centre
        return slower if grown else "alike"
    if abs(entry.cost - 1) < _UNCHANGED:
        return "alike"
    return slower if entry.cost > 1 else faster


def _count(entry: Entry) -> tuple[Cell, ...]:
    a, b = entry.baseline, entry.candidate
    difference = Cell()
    if a and b:
        more = b.estimate.centre - a.estimate.centre
        difference = replace(cells.computed(more, 1, 0), text=f"{more:+,.0f}".replace("-", "−"))
    sides = (cells.computed(side.estimate.centre if side else None, 1, 0) for side in (a, b))
    return (cells.word(entry.unit) if entry.unit else Cell(), *sides, difference)


def _time(entry: Entry) -> tuple[Cell, ...]:
    sides = (entry.baseline, entry.candidate)
    known = [side.estimate.centre for side in sides if side]
    if not known:
        return Cell(), Cell(), Cell(), Cell()
    scale, unit = shown_in(entry.unit, min(known))
    digits = cells.rate_digits(centre / scale for centre in known) if entry.unit != "count" else 0
    cost = entry.cost
    change = Cell() if cost is None else cells.plain(f"{signed(cost)} %", cost - 1, digits=1)
    return (cells.word(unit, entry.unit), *(_side(side, scale, digits) for side in sides), change)


def _side(side: Recorded | None, scale: float, digits: int) -> Cell:
    """A side's number with its interval, or with the quartiles of its one process; its doubts are footnotes."""
    if side is None:
        return Cell()
    failed = (f"{plural(side.failed, 'launch', 'launches')} beside these failed.",) if side.failed else ()
    doubts = tuple(cells.sentence(meaning(flag)) for flag in side.flags)
    origin = f"launches: {side.estimate.launches}" + (f"; nodes: {side.estimate.nodes}" if side.estimate.nodes else "")
    cell = cells.measured(side.estimate, digits, (*doubts, *failed), scale=scale, origin=origin)
    if cell.span or side.spread is None:
        return cell
    low, high = (cells.decimals(value / scale, digits) for value in side.spread)
    return replace(cell, span=f"({low}, {high})")


def shown_in(unit: str, smallest: float) -> tuple[float, str]:
    """In which unit a number is shown, in base units, and that unit's name: by the smaller of two sides."""
    if unit == "s":
        steps: tuple[tuple[float, str], ...] = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
    elif unit == "B":
        steps = ((GIB, "GiB"), (2.0**20, "MiB"), (1.0, "B"))
    else:
        steps = ((1.0, "1/s" if unit == "1/s" else unit),)
    return next((step for step in steps if smallest >= step[0]), steps[-1])


def _unlike(entries: Sequence[Entry]) -> Iterator[str]:
    """What could not be compared, and what that means."""
    words = Counter(entry.word for entry in entries)
    if refused := words["not comparable"]:
        yield (
            f"Refused: {plural(refused, 'row')} recorded otherwise on the two sides (footnotes: what differs). "
            "Their ratio would be of the machines or the protocols."
        )
    if gone := words["vanished"]:
        yield f"Vanished: {gone} of the baseline's rows or numbers; what is no longer recorded is no longer watched."
    if not any(words[word] for word in COMPARED):
        yield "Nothing was compared."


def _provenance(compared: StoredComparison) -> Iterator[str]:
    """One sentence per side: how much, when, of which commit."""
    for name, side in (("Baseline", compared.baseline), ("Candidate", compared.candidate)):
        yield f"{name} {clean(side.label)}: {'; '.join(_told(side))}."


def _told(side: Provenance) -> Iterator[str]:
    yield plural(side.launches, "launch", "launches")
    if days := tuple(dict.fromkeys(moment[:10] for moment in side.started)):
        yield " to ".join(days)
    if side.commits:
        named = first_of([clean(commit[:7]) for commit in side.commits])
        yield f"commits {named}, pooled" if len(side.commits) > 1 else f"commit {named}"
    if side.dirty:
        yield "with uncommitted changes"
