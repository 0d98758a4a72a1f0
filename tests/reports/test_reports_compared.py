"""What a comparison of files and a history look like, and that their words promise no more than they hold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from visionbench.comparison.stored import Entry, Provenance, Recorded, StoredComparison
from visionbench.comparison.trend import Series, Session, Shift, Trend
from visionbench.record.fingerprint import Difference
from visionbench.record.statistics import Estimate
from visionbench.reports import FORMATS, render
from visionbench.reports.results import trends
from visionbench.reports.results.stored import NO_VERDICT, ONE_COMMIT, layouts, shown_in
from visionbench.reports.table import footnotes

OLD = Provenance(
    label="old.jsonl", launches=14, started=("2026-01-02T03:04:05+00:00", "2026-01-03T00:00:00"), commits=("a" * 40,)
)
NEW = Provenance(label="new.jsonl", launches=14, started=("2026-02-02T03:04:05+00:00",) * 2, commits=("b" * 40,))


def side(centre: float, half: float | None = None, **rest: object) -> Recorded:
    low, high = (None, None) if half is None else (centre * (1 - half), centre * (1 + half))
    estimate = Estimate(centre=centre, low=low, high=high, launches=1 if half is None else 7)
    return Recorded(estimate=estimate, **rest)  # type: ignore[arg-type]


def entry(word: str, **rest: object) -> Entry:
    row = "timm:convnext_tiny@224 inference b64 fp32"
    known = {"row": row, "subject": "timm:convnext_tiny", "source": "measured"}
    return Entry(**{**known, "word": word, **rest})  # type: ignore[arg-type]


ENTRIES = (
    entry(
        "apart",
        metric="throughput",
        unit="1/s",
        better="higher",
        baseline=side(774.7, 0.004),
        candidate=side(752.1, 0.005, flags=("throttled",), failed=1),
        cost=774.7 / 752.1,
    ),
    entry(
        "overlapping",
        metric="latency",
        unit="s",
        better="lower",
        baseline=side(0.00912, 0.02),
        candidate=side(0.00905, 0.02),
        cost=0.905 / 0.912,
    ),
    entry("no interval", metric="peak_memory_allocated", unit="B", baseline=side(3e9), candidate=side(3e9), cost=1.0),
    entry("no interval", metric="graph_breaks", unit="count", baseline=side(0.0), candidate=side(2.0)),
    entry(
        "not comparable",
        row="timm:resnet18@224 inference b1 fp32",
        differences=(
            Difference(field="threads", baseline=2, candidate=4),
            Difference(field="driver", baseline=None, candidate="580.95"),
        ),
    ),
    entry("vanished", row="timm:resnet50@224 inference b1 fp32", reason="the candidate has no record of it"),
    entry("new", row="timm:resnet26@224 inference b1 fp32"),
)
COUNTS = tuple(
    entry(
        "equal" if after == before else "changed",
        source="computed",
        metric=metric,
        unit="count",
        better="lower",
        baseline=side(before),
        candidate=side(after),
    )
    for metric, before, after in (("params", 28_589_128, 28_588_104), ("macs", 4_455_531_264, 4_455_531_264))
)
ALL = StoredComparison(baseline=OLD, candidate=NEW, entries=(*COUNTS, *ENTRIES))


def texts(compared: StoredComparison, form: str = "terminal", width: int | None = 150) -> str:
    return "\n".join(render(table, form, width) for table in layouts(compared))


@pytest.mark.parametrize(("form", "suffix"), [("terminal", "txt"), ("markdown", "md"), ("csv", "csv")])
def test_a_comparison_of_files(golden, form, suffix):
    golden(f"compared_files.{suffix}", texts(ALL, form))


def test_every_format_holds_it() -> None:
    for form in FORMATS:
        assert "28,588,104" in texts(ALL, form) or "28588104" in texts(ALL, form)


def test_nothing_is_a_table_too() -> None:
    [table] = layouts(StoredComparison(baseline=replace(OLD, launches=0), candidate=NEW))
    assert table.rows == ()
    assert "Nothing was compared." in table.remarks
    assert NO_VERDICT not in table.remarks


def test_counts_and_times_are_two_tables_of_one_source_each() -> None:
    for table in layouts(ALL):
        sources = {cell.source for row in table.rows for cell in row.cells} - {None}
        assert len(sources) == 1
    assert [table.name for table in layouts(replace(ALL, entries=COUNTS))] == ["compared_counts"]
    assert [table.name for table in layouts(replace(ALL, entries=ENTRIES))] == ["compared"]


def test_equal_counts_are_a_number_and_not_rows() -> None:
    table = layouts(ALL)[0]
    assert [row.cells[1].value for row in table.rows] == ["params"]
    assert "Equal: 1 of 2 counts, in 1 row." in table.remarks


def test_times_are_never_shown_without_what_they_do_not_say() -> None:
    assert NO_VERDICT in layouts(ALL)[1].remarks
    for word in ("regressed", "improved", "significant"):
        assert word not in texts(ALL)


def test_two_files_of_one_commit_compare_machines() -> None:
    same = replace(ALL, candidate=replace(NEW, commits=OLD.commits))
    assert ONE_COMMIT in layouts(same)[1].remarks
    for other in (ALL, replace(same, candidate=replace(same.candidate, dirty=True))):
        assert ONE_COMMIT not in layouts(other)[1].remarks


def test_what_differs_is_told_with_both_values() -> None:
    assert "Threads: 2 against 4; driver: unknown against 580.95." in footnotes(layouts(ALL)[1])


def test_several_commits_of_a_side_are_said_to_be_pooled() -> None:
    many = replace(ALL, baseline=replace(OLD, commits=tuple(letter * 40 for letter in "abcde"), dirty=True))
    assert any(
        "commits aaaaaaa, bbbbbbb, ccccccc and 2 more, pooled; with uncommitted" in r for r in layouts(many)[1].remarks
    )


def test_names_from_elsewhere_cannot_command_the_terminal() -> None:
    nasty = entry("new", row="test_\x1b[31mx\n[red]", reason="a\x1b[2Jb")
    assert "\x1b" not in texts(replace(ALL, entries=(*ENTRIES, nasty)))


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [("s", 2.0, "s"), ("s", 0.5, "ms"), ("s", 5e-5, "µs"), ("s", 0.0, "ns"), ("B", 2.0**31, "GiB"), ("J", 1.0, "J")],
)
def test_a_row_chooses_its_unit(unit, value, shown):
    assert shown_in(unit, value)[1] == shown


# --- the history -----------------------------------------------------------------------------------------------------


def series(course: str = "steady", *shifts: Shift, **rest: object) -> Series:
    sessions = tuple(
        Session(started=f"2026-01-{day:02d}T04:00:00+00:00", value=774.7, launches=3, commit=f"{day:07d}" + "e" * 33)
        for day in range(1, 31)
    )
    known = {
        "row": "timm:convnext_tiny@224 inference b64 fp32",
        "subject": "timm:convnext_tiny",
        "metric": "throughput",
        "unit": "1/s",
        "better": "higher",
        "device": "a100-sxm4-80gb",
        "fingerprint": "0123456789ab",
        "sessions": sessions,
    }
    return Series(course=course, shifts=shifts, **{**known, **rest})  # type: ignore[arg-type]


SHIFT = Shift(
    place=14, earliest=13, latest=15, before=774.7, after=752.1, cost=774.7 / 752.1, sessions=(14, 16), p=0.0001
)
HISTORY = Trend(
    series=(
        series("shifted", SHIFT),
        series("shifted", replace(SHIFT, before=0.0, after=2.0, cost=None), metric="graph_breaks", unit="count"),
        series(fingerprint="ba9876543210"),
        series("too short", metric="latency"),
    ),
    alpha=0.001,
    fdr=0.05,
    shortest=12,
    undated=2,
)


def test_a_history(golden):
    golden("compared_trend.txt", render(trends.layout(HISTORY), "terminal", 160))


def test_the_commits_are_those_of_the_sessions_that_are_surely_on_either_side():
    [row, _] = trends.layout(HISTORY).rows
    between = next(
        cell for cell, column in zip(row.cells, trends.layout(HISTORY).columns, strict=True) if column.key == "between"
    )
    assert between.text == "0000013..0000016"
    sessions = HISTORY.series[0].sessions
    assert between.value == f"{sessions[12].commit}..{sessions[15].commit}"


def test_a_history_without_shifts_says_how_much_was_looked_at():
    table = trends.layout(replace(HISTORY, series=HISTORY.series[2:]))
    assert table.rows == ()
    assert table.remarks[:2] == (
        "1 series judged: 0 shifted, 1 steady.",
        "1 of fewer than 12 sessions: too short to tell.",
    )
    for form in FORMATS:
        assert render(table, form)


def test_unknown_commits_are_a_dash_and_equal_ones_say_within():
    bare = tuple(replace(one, commit=None) for one in HISTORY.series[0].sessions)
    same = tuple(replace(one, commit="f" * 40) for one in bare)
    for sessions, text in ((bare, "–"), (same, "within fffffff")):
        table = trends.layout(replace(HISTORY, series=(replace(HISTORY.series[0], sessions=sessions),)))
        assert text in [cell.text for cell in table.rows[0].cells]


def test_machines_read_both():
    for table in (*layouts(ALL), trends.layout(HISTORY)):
        lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
        assert len(lines) == len(table.rows)
        assert json.loads(render(table, "json"))["name"] == table.name
    lines = list(csv.DictReader(io.StringIO(render(layouts(ALL)[1], "csv"))))
    assert (lines[1]["unit"], float(lines[1]["baseline"]), lines[1]["finding"]) == ("s", 0.00912, "overlapping")
    assert float(lines[0]["baseline_low"]) == pytest.approx(774.7 * 0.996)
