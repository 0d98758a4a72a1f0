"""A gate's files for CI: they parse, they count right, they escape what must be escaped, and doubt is never a pass."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from tests.reports import gates
from visionbench.comparison.verdict import Change, Judgement, Rule, Verdict
from visionbench.record.errors import BenchError
from visionbench.reports import ci
from visionbench.reports.ci import summary

SUFFIXES = {"summary": "md", "annotations": "txt", "junit": "xml", "gab": "json", "bmf": "json"}
JUDGED = {"typical": gates.typical, "nasty": gates.nasty, "nothing": gates.judgement}


@pytest.mark.parametrize("kind", ci.FORMS)
@pytest.mark.parametrize("name", JUDGED)
def test_golden(golden, name, kind):
    golden(f"gate_{kind}_{name}.{SUFFIXES[kind]}", ci.form(kind, JUDGED[name]()))


def test_golden_many_rows(golden):
    golden("gate_annotations_forty.txt", ci.form("annotations", gates.forty()))
    structural = gates.judgement(changes=gates.changes(), structures=12)
    golden("gate_summary_structural.md", ci.form("summary", structural))
    calm = gates.judgement(gates.verdict("ok", "a@64", 1.001), gates.verdict("improved", "b@64", 0.93), structures=2)
    golden("gate_summary_calm.md", ci.form("summary", calm))


def test_an_unknown_form_is_the_users_mistake():
    with pytest.raises(BenchError, match="did you mean junit"):
        ci.form("junitt", gates.typical())


# --- junit ------------------------------------------------------------------------------------------------------------


def counted(judged: Judgement) -> tuple[ET.Element, dict[str, int]]:
    root = ET.fromstring(ci.form("junit", judged).encode())
    (suite,) = root.findall("testsuite")
    names = ("tests", "failures", "errors", "skipped")
    assert [root.get(name) for name in names[:3]] == [suite.get(name) for name in names[:3]]
    assert set(root.attrib) <= {"name", "time", "tests", "failures", "disabled", "errors"}, "the schema has no others"
    return suite, {name: int(suite.get(name, "")) for name in names}


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (gates.typical(), (13, 1, 1, 1)),
        (gates.nasty(), (8, 3, 1, 1)),
        (gates.forty(), (40, 15, 0, 0)),
        (gates.judgement(), (1, 0, 1, 0)),
        (gates.judgement(structures=3), (1, 0, 0, 0)),
        (gates.judgement(changes=gates.changes(), structures=2), (2, 2, 0, 0)),
    ],
)
def test_junit_parses_and_its_counts_are_those_of_its_cases(judged, expected):
    suite, counts = counted(judged)
    assert tuple(counts.values()) == expected
    cases = suite.findall("testcase")
    tags = ("failure", "error", "skipped")
    assert (len(cases), *(sum(case.find(tag) is not None for case in cases) for tag in tags)) == expected
    assert all(sum(case.find(tag) is not None for tag in tags) <= 1 for case in cases)
    assert {child.tag for case in cases for child in case} <= {*tags, "system-out"}


def test_junit_says_what_happened():
    suite, _ = counted(gates.typical())
    cases = {case.get("name"): case for case in suite.findall("testcase")}
    failure, skipped = cases["resnet50@64"].find("failure"), cases["mobilenetv3_large_100@64"].find("skipped")
    error = cases["swin_tiny_patch4_window7_224@64"].find("error")
    assert failure is not None
    assert failure.get("message") == "5.1 % slower [4.8, 5.5]"
    assert skipped is not None
    assert str(skipped.get("message")).startswith("between 1.2 % faster and 5.6 % slower")
    assert error is not None
    assert error.get("type") == "out_of_memory"
    assert float(cases["resnet50@64"].get("time", "")) == pytest.approx(0.01295, rel=1e-3)
    assert suite.get("time") == "318.000"
    assert suite.get("timestamp") == "2026-01-02T03:04:05"
    properties = {one.get("name"): one.get("value") for one in suite.iter("property")}
    assert properties["command"] == gates.COMMAND
    assert properties["verdict"] == "1 of 12 rows regressed, 1 not measured"


def test_junit_holds_no_character_that_xml_forbids():
    everything = "".join(map(chr, [*range(0x20), 0x7F, 0xD800, 0xFFFE, 0xFFFF])) + "a]]>b&<'\">"
    suite, _ = counted(gates.judgement(gates.verdict("regressed", everything, 1.1), title=everything))
    assert str(suite.find("testcase").get("name")).endswith("a]]>b&<'\">")  # type: ignore[union-attr]


# --- annotations ------------------------------------------------------------------------------------------------------

COMMAND = re.compile(r"::(error|warning) title=([^:,\r\n]*)::([^\r\n]*)")


def commands(judged: Judgement) -> list[tuple[str, str, str]]:
    """As GitHub's runner reads them."""
    read = []
    for line in ci.form("annotations", judged).splitlines():
        found = COMMAND.fullmatch(line)
        assert found, line
        kind, title, message = found.groups()
        for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            title = title.replace(code, char)
        read.append((kind, title, message.replace("%0A", "\n").replace("%25", "%")))
    return read


def test_annotations_survive_the_runners_reading():
    (first, structure, missing, lost) = commands(gates.nasty())
    assert first[:2] == ("error", "net|a <b> & 50 %, x: *y* `z` and a second line regressed")
    assert first[2].startswith("8.2 % slower [7.8, 8.6]; 12.32 → 13.33 ms per iteration by the device's clock")
    assert structure[1] == "timm:resnet50@64 inference b1 fp32 changed its structure"
    assert structure[2].startswith("params 25,557,032 → 25,559,081; operators 175 → 187 (fc: ")
    assert missing[2] == "row present → missing"
    assert lost[:2] == ("warning", "1 of 5 rows not measured")


@pytest.mark.parametrize("text", ["100%", "%0A", "a:b,c", "::error::x", "a\r\nb"])
def test_every_special_character_is_escaped(text):
    ((kind, title, _),) = commands(gates.judgement(gates.verdict("regressed", text, 1.1)))
    assert (kind, title) == ("error", f"{' '.join(text.split())} regressed")


def test_at_most_ten_errors_and_the_rest_in_one_warning():
    told = commands(gates.forty())
    assert [kind for kind, *_ in told] == ["error"] * 10 + ["warning"]
    assert told[-1][1] == "5 more errors"
    assert told[-1][2].startswith("15 of 40 rows regressed.")
    ten = gates.judgement(*(gates.verdict("regressed", f"r{k}", 1.1) for k in range(10)))
    assert [kind for kind, *_ in commands(ten)] == ["error"] * 10


def test_where_nothing_is_wrong_nothing_is_annotated():
    assert ci.form("annotations", gates.judgement(gates.verdict("ok", "a"))) == ""
    assert ci.form("annotations", gates.judgement(gates.verdict("ok", "b"), gates.verdict("inconclusive", "a"))) == ""
    assert [title for _, title, _ in commands(gates.judgement())] == ["Nothing was compared"]


# --- the job's page ---------------------------------------------------------------------------------------------------


def test_the_page_begins_with_the_verdict_and_folds_what_is_ok():
    page = ci.form("summary", gates.typical())
    assert page.startswith(r"**1 of 12 rows regressed, 1 not measured**: resnet50@64 is 5.1 % slower \[4.8, 5.5\].")
    opened, folded = page.split("<details><summary>8 rows are ok</summary>")
    for name in ("resnet50@64", "convnext\\_tiny@64", "inconclusive", "out of memory"):
        assert name in opened
    table, _ = folded.split("</details>", 1)
    assert table.count("| ok ") == 8
    assert "inconclusive" not in table
    assert "| ok " not in opened
    assert page.count("<details>") == page.count("</details>")
    assert f"`{gates.COMMAND}`" in page


def test_inconclusive_rows_are_open_and_never_among_those_that_are_ok():
    page = ci.form("summary", gates.judgement(gates.verdict("inconclusive", "vague", 1.02)))
    assert "rows are ok" not in page
    assert "| vague " in page.split("<details>")[0]


def named(its: Verdict, number: int) -> tuple[Verdict, ...]:
    return tuple(replace(its, comparison=replace(its.comparison, name=f"{k:05}" * 20)) for k in range(number))


def test_a_page_never_exceeds_what_github_takes(monkeypatch):
    assert summary.LIMIT < 2**20
    monkeypatch.setattr(summary, "LIMIT", 30_000)
    page = ci.form("summary", gates.judgement(*named(gates.verdict("ok", "r", launches=7), 200)))
    assert 29_000 < len(page.encode()) <= 30_000
    left = re.search(r"(\d+) of 200 rows are left out: a summary has at most 1 MiB\.", page)
    assert left
    assert page.count("| ok ") + int(left[1]) == 200
    assert page.count("<details>") == page.count("</details>")
    assert "Repeat with" in page


def test_neither_do_regressions_and_changes_by_the_thousand(monkeypatch):
    for name, room in (("LIMIT", 60_000), ("OPEN", 30_000), ("STRUCTURE", 10_000)):
        monkeypatch.setattr(summary, name, room)
    slow = named(gates.verdict("regressed", "r", 1.1, launches=7, reason="r" * 400), 300)
    wide = tuple(Change(row=f"{k}" * 9, what="params", before="1", after="2", where=(f"w{k}" * 9,)) for k in range(300))
    passed = named(gates.verdict("ok", "r", launches=7), 200)
    page = ci.form("summary", gates.judgement(*slow, *passed, changes=wide, structures=300))
    assert len(page.encode()) <= 60_000
    assert page.count("are left out: a summary has at most 1 MiB.") == 3


# --- other people's trackers ------------------------------------------------------------------------------------------


def test_github_action_benchmark_gets_milliseconds_and_a_ratio():
    entries = json.loads(ci.form("gab", gates.typical()))
    assert len(entries) == 2 * 11, "a row without a number has no entry"
    assert all({"name", "unit", "value", "range", "extra"} == set(entry) for entry in entries)
    by_name = {entry["name"]: entry for entry in entries}
    time, ratio = by_name["resnet50@64"], by_name["resnet50@64, time ratio"]
    assert (time["unit"], time["value"]) == ("ms", pytest.approx(12.95, rel=1e-3))
    assert "of this job only" in time["extra"]
    assert (ratio["value"], ratio["range"]) == (1.051, "± 0.3 %")
    assert len(by_name) == len(entries)


def test_bencher_gets_nanoseconds_with_their_interval():
    found = json.loads(ci.form("bmf", gates.typical()))
    latency = found["resnet50@64"]["latency"]
    assert latency["value"] == pytest.approx(12.95e6, rel=1e-3)
    assert latency["lower_value"] < latency["value"] < latency["upper_value"]
    assert found["resnet50@64"]["time-ratio"]["value"] == 1.051
    assert "swin_tiny_patch4_window7_224@64" not in found
    assert json.loads(ci.form("bmf", gates.judgement())) == {}
    few = json.loads(ci.form("bmf", gates.judgement(gates.verdict("ok", "a", launches=3))))
    assert set(few["a"]["latency"]) == {"value"}


def test_a_judgement_of_any_rule_renders_in_every_form():
    bare = Judgement(title="t", rule=Rule(looks=1), verdicts=(gates.verdict("regressed", "a", 1.2, launches=1),))
    for kind in ci.FORMS:
        assert ci.form(kind, bare).endswith("\n")


def test_it_costs_nothing_heavy():
    heavy = "{'torch', 'timm', 'numpy', 'scipy', 'pandas', 'matplotlib', 'rich', 'visionbench.models'}"
    program = (
        "import sys, visionbench.reports.ci, visionbench.reports.results.verdicts; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
