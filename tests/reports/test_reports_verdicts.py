"""The table of verdicts: what stands first, what is never called ok, and that every format shows the same."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from tests.reports import gates
from visionbench.comparison.verdict import INCONCLUSIVE, NOT_MEASURED, OK, REGRESSED, Judgement, Rule, exit_code
from visionbench.record.statistics import Estimate
from visionbench.reports import FORMATS, ci, render
from visionbench.reports.render.markdown import escape
from visionbench.reports.results import verdict_text as words
from visionbench.reports.results.verdicts import NAME_WIDTH, changes, layout
from visionbench.reports.table import Cell, Table

SUFFIXES = {"terminal": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}


def keys(table: Table) -> list[str]:
    return [column.key for column in table.columns]


def cell(table: Table, key: str, row: int = 0) -> Cell:
    return table.rows[row].cells[keys(table).index(key)]


def ratio(centre: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(centre=centre, low=low, high=high, launches=10)


# --- golden files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", SUFFIXES)
def test_golden(golden, form):
    golden(f"gate_typical.{SUFFIXES[form]}", render(layout(gates.typical()), form, 140))


@pytest.mark.parametrize("width", [80, 100])
def test_golden_narrow_terminal(golden, width):
    golden(f"gate_typical_{width}.txt", render(layout(gates.typical()), "terminal", width))


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_golden_nasty_names(golden, form):
    golden(f"gate_nasty.{SUFFIXES[form]}", render(layout(gates.nasty()), form, 140))


@pytest.mark.parametrize("form", SUFFIXES)
def test_golden_changes(golden, form):
    table = changes(gates.nasty())
    assert table is not None
    golden(f"gate_changes.{SUFFIXES[form]}", render(table, form, 80))


def test_golden_nothing(golden):
    golden("gate_nothing.txt", render(layout(gates.judgement()), "terminal", 80))


# --- order and content --------------------------------------------------------------------------------------------


def test_the_worst_rows_stand_first_and_within_a_word_the_slowest():
    table = layout(gates.typical())
    assert [cell(table, "verdict", row).text for row in range(5)] == list(words.ORDER)
    assert [row.gap for row in table.rows].index(True) == 4, "a gap between what needs an eye and what is ok"
    slow = [1.04, 1.09, 1.06]
    table = layout(gates.judgement(*(gates.verdict("regressed", f"r{at}", at) for at in slow)))
    assert [cell(table, "row", row).text for row in range(3)] == ["r1.09", "r1.06", "r1.04"]
    fast = [0.95, 0.85, 0.9]
    table = layout(gates.judgement(*(gates.verdict("improved", f"r{at}", at) for at in fast)))
    assert [cell(table, "row", row).text for row in range(3)] == ["r0.85", "r0.9", "r0.95"]
    calm = layout(gates.judgement(*(gates.verdict("ok", f"r{at}", at) for at in (1.01, 0.99, 1.02))))
    assert [cell(calm, "row", row).text for row in range(3)] == ["r1.01", "r0.99", "r1.02"], "the order of the gate"


def test_a_row_has_its_ratio_with_interval_times_and_p():
    table = layout(gates.judgement(gates.verdict("regressed", "a", 1.051)))
    shown = cell(table, "time_ratio")
    assert (shown.text, shown.span, shown.short_span) == ("+5.1 %", "[+4.8, +5.5]", "±0.3 %")
    assert shown.value == pytest.approx(1.051)
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low < 1.051 < shown.high
    assert cell(table, "baseline_time").text == "12.3"
    assert cell(table, "baseline_time").value == pytest.approx(0.0123, rel=0.01)
    texts = [cell(table, key).text for key in ("detectable", "launches", "p")]
    assert texts == ["1.4 %", "10", "0.0010"]
    assert cell(table, "wall_ratio").text == "+5.3 %"
    assert "seed 7" in shown.origin
    assert "q slower 0.0020" in shown.origin
    faster = cell(layout(gates.judgement(gates.verdict("improved", "a", 0.9))), "time_ratio")
    assert (faster.text, faster.span) == ("−10.0 %", "[−10.3, −9.7]")


def test_an_improved_row_shows_the_p_of_being_faster():
    table = layout(gates.judgement(gates.verdict("improved", "a", 0.9)))
    assert cell(table, "p").value == pytest.approx(0.000976)


def test_reasons_doubts_and_failures_are_footnotes_said_once():
    table = layout(gates.typical())
    assert cell(table, "time_ratio", 1).text == "out of memory"
    assert len(cell(table, "time_ratio", 1).notes) == 1, "the failure's message is in the reason already"
    vague = cell(table, "time_ratio", 2)
    assert vague.notes == (
        "Between 1.2 % faster and 5.6 % slower: the scatter of 10 launches cannot exclude 5 %.",
        "Other programs wanted the cores when it began.",
        "Something else was running on the machine meanwhile.",
    )
    named = gates.verdict("inconclusive", "a", reason="the clock moved (clock_unsteady)", flags=("clock_unsteady",))
    assert cell(layout(gates.judgement(named)), "time_ratio").notes == ("The clock moved (clock_unsteady).",)


def test_few_launches_have_no_interval_and_say_so():
    table = layout(gates.judgement(gates.verdict("inconclusive", "a", 1.03, launches=5)))
    shown = cell(table, "time_ratio")
    assert (shown.text, shown.span) == ("+3.0 %", "")
    assert shown.notes == ("Fewer than 7 launches, so no interval.",)


def test_a_row_that_was_not_finished_shows_no_number():
    stopped = replace(gates.verdict("not measured", "a", launches=8, failure=gates.OUT), ratio=None, wall=None)
    table = layout(gates.judgement(stopped))
    assert cell(table, "time_ratio").text == "out of memory"
    assert cell(table, "candidate_time").text == "–"
    bare = layout(gates.judgement(gates.verdict("not measured", "a", launches=0, reason="no launch was made")))
    assert cell(bare, "time_ratio").text == "none"
    assert cell(bare, "time_ratio").notes == ("No launch was made.",)


def test_the_clock_is_a_column_where_rows_differ_and_a_note_where_not():
    same = layout(gates.judgement(gates.verdict("ok", "a")))
    assert "clock" not in keys(same)
    assert "by CPU time" in same.columns[2].notes[0].text
    both = layout(gates.judgement(gates.verdict("ok", "a"), gates.verdict("ok", "b", timer="device")))
    assert [cell(both, "clock", row).text for row in range(2)] == ["CPU", "device"]
    wall = layout(gates.judgement(gates.verdict("ok", "a", timer="wall")))
    assert "wall_ratio" not in keys(wall), "it would be the same number twice"


def test_a_long_name_is_cut_in_its_middle_and_told_in_full_below():
    shown = cell(layout(gates.judgement(gates.verdict("ok", gates.LONG))), "row")
    assert len(shown.short) <= NAME_WIDTH
    assert (shown.text, shown.value, shown.notes) == (gates.LONG, gates.LONG, ())
    table = layout(gates.judgement(gates.verdict("ok", gates.LONG)))
    assert shown.short not in render(table, "terminal", 220)
    assert gates.LONG in render(table, "terminal", 220)
    assert gates.LONG in render(table, "markdown").replace("\\_", "_")
    narrow = render(table, "terminal", 80)
    assert f"{shown.short}ᵃ" in narrow
    assert "ᵃ user:research.experimental" in narrow


def test_nothing_from_elsewhere_reaches_the_terminal_as_a_command():
    for table in (layout(gates.nasty()), changes(gates.nasty())):
        assert table is not None
        for form in FORMATS:
            assert not {"\x1b", "\x00", "\t"} & set(render(table, form))


def test_the_remarks_say_who_where_what_the_words_mean_and_how_to_repeat_it():
    told = "\n".join(layout(gates.typical()).remarks)
    for part in (
        "12 rows: 1 regressed, 1 not measured, 1 inconclusive, 1 improved, 8 ok. Structure unchanged in 12 rows.",
        "(geometric mean of their ratios): 0.3 % slower [0.2, 0.4].",
        "Baseline: origin/main (1a2b3c4d5e6f); candidate: working tree (9f8e7d6c5b4a, with uncommitted changes).",
        "Fixture CPU; torch 2.15.0",
        f"Repeat with `{gates.COMMAND}`. It took 5 min 18 s.",
        "p < 0.005 at each of 2 looks",
        "ok: less than 5 % slower (whole 95 % interval)",
        "It does not mean ok.",
    ):
        assert part in told
    once = "\n".join(words.rule(Rule(looks=1)))
    assert "p < 0.01, false" in once


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_the_page(width):
    for judged in (gates.typical(), gates.nasty(), gates.forty(), gates.judgement()):
        text = render(layout(judged), "terminal", width)
        assert max(map(len, text.splitlines())) <= width
        assert "regressed" in text or not judged.rows("regressed")


def test_machines_read_ratios_seconds_and_reasons():
    lines = list(csv.DictReader(io.StringIO(render(layout(gates.typical()), "csv"))))
    assert float(lines[0]["time_ratio"]) == pytest.approx(1.051)
    assert float(lines[0]["time_ratio_low"]) < 1.051 < float(lines[0]["time_ratio_high"])
    assert float(lines[0]["candidate_time_s"]) == pytest.approx(0.01295, rel=1e-3)
    assert lines[1]["time_ratio_note"].startswith("out of memory The candidate failed at warm-up")
    assert (lines[2]["verdict"], lines[2]["spec_model"]) == ("inconclusive", "timm:resnet50")
    (row, *_) = json.loads(render(layout(gates.typical()), "json"))["rows"]
    assert row["cells"]["time_ratio"]["value"] == pytest.approx(1.051)


def test_changes_are_grouped_by_row_with_the_layers_named():
    table = changes(gates.nasty())
    assert table is not None
    assert table.title == "3 structural changes in 2 of 5 rows"
    assert [row.section for row in table.rows] == ["timm:resnet50@64 inference b1 fp32"] * 2 + [
        "timm:a|b@64 inference b1 fp32"
    ]
    (layers,) = table.rows[1].cells[2].notes
    assert layers.startswith("layer1.0.conv2: aten.clone x1 (new); ")
    assert layers.endswith("4 more.")
    assert changes(gates.typical()) is None
    (one,) = gates.changes()[:1]
    alone = changes(gates.judgement(changes=(one,), structures=1))
    assert alone is not None
    assert alone.title == "1 structural change in 1 of 1 row"


# --- the verdict in words ---------------------------------------------------------------------------------------------


def only(*its: str, **rest: object) -> Judgement:
    return gates.judgement(*(gates.verdict(word, f"r{place}", 1.0) for place, word in enumerate(its)), **rest)  # type: ignore[arg-type]


HEADLINES = [
    (only(), "Nothing was compared", "no row was timed, no structure counted.", NOT_MEASURED),
    (only(structures=3), "Structure unchanged in 3 rows", "no row was timed.", OK),
    (only("ok", "ok"), "No regression", "2 ok.", OK),
    (only("ok", structures=3), "No regression", "1 ok. Structure unchanged in 3 rows.", OK),
    (only("ok", "improved"), "No regression", "1 improved, 1 ok.", OK),
    (
        only("ok", "inconclusive"),
        "No regression shown, but 1 of 2 rows is inconclusive",
        "r1 is 0.0 % [0.3 % faster, 0.3 % slower]. Rows: 1 inconclusive, 1 ok.",
        INCONCLUSIVE,
    ),
    (
        only("not measured", "ok"),
        "1 of 2 rows could not be measured",
        "r0 (no reason given). Other rows: 1 ok.",
        NOT_MEASURED,
    ),
    (
        only("ok", changes=gates.changes()[1:2]),
        "1 structural change",
        "timm:a|b@64 inference b1 fp32: row present → missing. Rows: 1 ok.",
        REGRESSED,
    ),
    (
        gates.typical(),
        "1 of 12 rows regressed, 1 not measured",
        "resnet50@64 is 5.1 % slower [4.8, 5.5]. Other rows: 1 inconclusive, 1 improved, 8 ok. "
        "Structure unchanged in 12 rows.",
        REGRESSED,
    ),
    (
        gates.forty(),
        "15 of 40 rows regressed",
        "model_34@64 is 6.4 % slower [6.0, 6.8]; model_33@64 is 6.3 % slower [5.9, 6.7]; "
        "model_32@64 is 6.2 % slower [5.8, 6.6]; 12 more. Other rows: 25 ok.",
        REGRESSED,
    ),
]


@pytest.mark.parametrize(("judged", "headline", "sentence", "code"), HEADLINES)
def test_the_verdict_is_said_as_the_exit_code_has_it(judged, headline, sentence, code):
    assert words.headline(judged) == headline
    assert words.sentence(judged) == sentence
    assert exit_code(judged, strict=True) == code


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (ratio(1.049, 1.041, 1.056), "4.9 % slower [4.1, 5.6]"),
        (ratio(0.9, 0.89, 0.92), "10.0 % faster [8.0, 11.0]"),
        (ratio(1.001, 0.998, 1.004), "0.1 % slower [0.2 % faster, 0.4 % slower]"),
        (ratio(1.003, 1.0001, 1.006), "0.3 % slower [0.0 %, 0.6 % slower]"),
        (ratio(1.00001, 0.9999, 1.0001), "0.0 % [0.0 %, 0.0 %]"),
        (ratio(1.049), "4.9 % slower (no interval)"),
        (ratio(25.0, 24.0, 26.0), "2,400.0 % slower [2,300.0, 2,500.0]"),
    ],
)
def test_a_ratio_in_words(estimate, told):
    assert words.change(estimate) == told


@pytest.mark.parametrize(
    ("value", "text"), [(1.049, "+4.9"), (0.951, "−4.9"), (1.0004, "0.0"), (0.9996, "0.0"), (12.0, "+1,100.0")]
)
def test_a_signed_percent_has_a_real_minus_and_no_signed_zero(value, text):
    assert words.signed(value) == text


def test_p_values_line_up():
    assert [words.p_text(p) for p in (0.5, 0.00098, 0.00001)] == ["0.5000", "0.0010", "<0.0001"]


def test_a_text_from_elsewhere_is_one_short_line():
    assert words.clean(" a\tb\r\n\x1b[31mc\x1b[0m\x00 \ud800d ") == "a b c d"
    assert len(words.clean("x" * 10_000)) == words.LONGEST


CUT = "The budget of 60 s was too small for one full look (4 of 10 launches)"


@pytest.mark.parametrize(
    ("judged", "first"),
    [
        (only("inconclusive", "inconclusive"), "Nothing was shown: all 2 rows inconclusive"),
        (only("inconclusive"), "Nothing was shown: 1 row inconclusive"),
        (only("ok", "inconclusive", cut=CUT), f"{CUT}: no regression shown, but 1 of 2 rows is inconclusive"),
        (only("inconclusive", "inconclusive", cut=CUT), f"{CUT}: nothing was shown: all 2 rows inconclusive"),
        (only("regressed", cut=CUT), f"{CUT}: 1 of 1 row regressed"),
    ],
)
def test_a_green_build_that_says_nothing_says_so_first(judged, first):
    """A budget too small, or no row decided: in the first line of the summary, of the table, and beside the checks."""
    assert words.headline(judged) == first
    assert ci.form("summary", judged).split("\n")[0].startswith(f"**{escape(first)}**")
    assert layout(judged).title.endswith(first[1:])
    assert "::warning title=The gate could not decide::" in ci.form("annotations", judged)
