"""What a comparison of files and a history look like, and that their words promise no more than they hold."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from visionbench.comparison.stored import Entry, Provenance, Recorded, StoredComparison
from visionbench.record.fingerprint import Difference
from visionbench.record.statistics import Estimate
from visionbench.reports import FORMATS, render
from visionbench.reports.results.stored import ONE_COMMIT, layouts, no_verdict, shown_in
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
    assert no_verdict() not in table.remarks


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
    assert no_verdict() in layouts(ALL)[1].remarks
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


def test_machines_read_both():
    for table in layouts(ALL):
        lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
        assert len(lines) == len(table.rows)
        assert json.loads(render(table, "json"))["name"] == table.name
    lines = list(csv.DictReader(io.StringIO(render(layouts(ALL)[1], "csv"))))
    assert (lines[1]["unit"], float(lines[1]["baseline"]), lines[1]["finding"]) == ("s", 0.00912, "overlapping")
    assert float(lines[0]["baseline_low"]) == pytest.approx(774.7 * 0.996)


@pytest.mark.parametrize("form", FORMATS)
def test_nodes_and_kinds_of_machine_are_said_in_every_format(form: str) -> None:
    over = Estimate(centre=900.0, low=880.0, high=910.0, launches=8, nodes=8)
    few = Estimate(centre=905.0, low=None, high=None, launches=3, nodes=3, least=890.0, most=920.0)
    of_nodes = entry(
        "no interval",
        metric="throughput",
        unit="1/s",
        better="higher",
        baseline=Recorded(estimate=over),
        candidate=Recorded(estimate=few),
        cost=900 / 905,
        among="power_limit 300.0",
    )
    [table] = layouts(StoredComparison(baseline=OLD, candidate=NEW, entries=(of_nodes,)))
    shown = render(table, form, 250).replace("\\_", "_").replace("{\\_}", "_")
    if form != "csv":
        assert "Of those with power_limit 300.0." in shown
        assert "interval over nodes, or over the launches of one" in shown
    assert "quartiles" not in shown
    if form in ("csv", "json"):
        assert "nodes: 8" in shown
        assert all(end in shown for end in ("880.0", "910.0", "890.0", "920.0"))
