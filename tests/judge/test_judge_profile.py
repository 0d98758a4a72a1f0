"""The noise profile: kept per machine, believed for a month, and missed aloud. And the table that shows it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest

from visionbench.comparison.noise_profile import (
    CURRENT_DAYS,
    USUAL_MINUTES,
    Findings,
    Profile,
    current,
    missing,
    read,
    remark,
    write,
)
from visionbench.comparison.verdict import Rule
from visionbench.record.errors import BenchError
from visionbench.record.fingerprint import fingerprint, fingerprint_id
from visionbench.record.program import program_name
from visionbench.record.record import Environment
from visionbench.reports import render
from visionbench.reports.results.selftests import layout

HERE = Environment(device_type="cpu", device_name="Fixture CPU", threads=1, torch="2.15.0")
NEW_TORCH = replace(HERE, torch="2.16.0")
DAY = date(2026, 11, 22)

IDLE = Findings(
    condition="idle",
    share=0.05,
    same=60,
    regressed=0,
    improved=1,
    inconclusive=2,
    regressed_at_most=0.0487,
    suites=5,
    failed_suites=0,
    failed_suites_at_most=0.4507,
    slower=60,
    found=59,
    found_at_least=0.9233,
    intervals=120,
    covered=115,
    same_ratio=1.0001,
    slower_ratio=1.0493,
    detectable=0.0251,
    launch_seconds=27.3,
)
BUSY = replace(IDLE, condition="busy", slower=0, found=0, found_at_least=None, slower_ratio=None, lost=1)


def profile_of(environment: Environment, day: date = DAY) -> Profile:
    return Profile(
        fingerprint=fingerprint_id(environment),
        facts=fingerprint(environment),
        date=day.isoformat(),
        device=environment.device,
        torch=environment.torch,
        launches=10,
        rounds=10,
        rule=Rule(margin=0.02),
        findings=(IDLE, BUSY),
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "noise_profile.json"


def test_a_profile_is_read_as_it_was_written(file):
    write(file, profile_of(HERE))
    assert read(file) == (profile_of(HERE),)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_machine_has_one_profile_and_leaves_the_others_alone(file):
    for environment, day in ((HERE, DAY), (NEW_TORCH, DAY), (HERE, DAY + timedelta(1))):
        write(file, profile_of(environment, day))
    assert {(one.torch, one.date) for one in read(file)} == {("2.15.0", "2026-11-23"), ("2.16.0", "2026-11-22")}


def test_another_condition_of_the_same_day_joins_and_one_of_another_way_replaces(file):
    idle, busy = (replace(profile_of(HERE), findings=(one,)) for one in (IDLE, BUSY))
    write(file, idle)
    write(file, busy)
    assert read(file) == (profile_of(HERE),)
    again = replace(idle, findings=(replace(IDLE, found=58),))
    write(file, again)
    assert {one.condition: one.found for one in read(file)[0].findings} == {"idle": 58, "busy": 0}
    for other in (replace(idle, launches=7), replace(idle, date="2026-11-23")):
        write(file, other)
        assert read(file) == (other,)


def test_it_is_current_for_a_month_and_for_this_machine(file):
    assert current(file, HERE, DAY) is None
    write(file, profile_of(HERE))
    assert current(file, HERE, DAY) == profile_of(HERE)
    assert current(file, replace(HERE, git_commit="abc", started="2026"), DAY) == profile_of(HERE)
    assert current(file, HERE, DAY + timedelta(CURRENT_DAYS - 1)) == profile_of(HERE)
    assert current(file, HERE, DAY + timedelta(CURRENT_DAYS)) is None
    assert current(file, NEW_TORCH, DAY) is None


def test_doctor_says_what_is_missing_and_what_to_do(file):
    why, remedy = missing(file, HERE, DAY)
    assert why == "none of this machine"
    assert remedy == f"`{program_name()} selftest` measures in about {USUAL_MINUTES} min how often the gate errs here."
    write(file, profile_of(HERE))
    assert missing(file, HERE, DAY) == ("", "")
    assert missing(file, HERE, DAY + timedelta(40)) == ("the last one is 40 days old", remedy)
    why, _ = missing(file, NEW_TORCH, DAY)
    assert why == "none of this machine (the nearest is of another: torch: 2.15.0 against 2.16.0)"
    assert "and 1 more difference)" in missing(file, replace(NEW_TORCH, threads=2), DAY)[0]


def test_the_gate_quotes_the_profile_or_names_the_verb_that_explains(file):
    hint = remark(file, HERE, DAY)
    assert f"`{program_name()} doctor`" in hint
    assert str(USUAL_MINUTES) not in hint
    assert len(hint) < 110
    write(file, profile_of(HERE))
    quoted = remark(file, HERE, DAY)
    assert DAY.isoformat() in quoted
    assert f"{IDLE.regressed} of {IDLE.same} equal rows called regressed, {IDLE.found} of {IDLE.slower} found" in quoted
    assert "one core kept busy, 0 of 60 equal rows called regressed." in quoted
    assert remark(file, NEW_TORCH, DAY) == remark(file, HERE, DAY + timedelta(40)) == hint


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2, "profiles": []}', '{"schema": 1}', '{"schema": 1, "profiles": [{}]}', "\udcff"],
)
def test_a_file_of_something_else_is_refused_and_not_overwritten(file, text):
    file.write_bytes(text.encode(errors="surrogateescape"))
    for use in (lambda: read(file), lambda: write(file, profile_of(HERE)), lambda: remark(file, HERE, DAY)):
        with pytest.raises(BenchError, match=r"holds no noise profiles.*name a file that `selftest` wrote"):
            use()
    assert file.read_bytes() == text.encode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("field", "value"),
    [("condition", "asleep"), ("unknown", 1), ("same", 2), ("found", -1), ("covered", 10**6), ("failed_suites", 6)],
)
def test_findings_of_something_else_are_refused(file, field, value):
    write(file, profile_of(HERE))
    data = json.loads(file.read_text())
    data["profiles"][0]["findings"][0][field] = value
    file.write_text(json.dumps(data))
    with pytest.raises(BenchError, match="holds no noise profiles"):
        read(file)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(BenchError, match="cannot write"):
        write(tmp_path / "nowhere" / "noise_profile.json", profile_of(HERE))
    with pytest.raises(BenchError, match="cannot read"):
        read(tmp_path)


def test_the_table_shows_counts_with_their_bounds():
    table = layout((profile_of(HERE),))
    idle, busy = (dict(zip((c.key for c in table.columns), row.cells, strict=True)) for row in table.rows)
    assert {key: cell.text for key, cell in idle.items()} == {
        "condition": "no load added",
        "date": "2026-11-22",
        "regressed": "0 of 60 (≤ 4.9 %)",
        "improved": "1 of 60",
        "inconclusive": "2 of 60",
        "failed_suites": "0 of 5 (≤ 45.1 %)",
        "share": "+5 %",
        "slower_ratio": "+4.9 %",
        "found": "59 of 60 (≥ 92.3 %)",
        "covered": "115 of 120",
        "detectable": "2.5 %",
        "launch_seconds": "27.3 s",
    }
    assert busy["condition"].text == "one core kept busy"
    assert [busy[key].text for key in ("share", "slower_ratio", "found")] == ["–", "–", "–"]
    assert {row.section for row in table.rows} == {"fixture-cpu-1t, torch 2.15.0"}


@pytest.mark.parametrize("format_", ["terminal", "markdown", "latex", "csv", "json"])
def test_the_table_reads_in_every_format(format_):
    text = render(layout((profile_of(HERE),)), format_)
    assert "0 of 60" in text or "0.0" in text
    assert "one core kept busy" in text or "busy" in text


def test_rows_that_were_lost_are_counted_below_the_table():
    assert "1 row could not be measured" in " ".join(layout((profile_of(HERE),)).remarks)
    assert layout(()).rows == ()
