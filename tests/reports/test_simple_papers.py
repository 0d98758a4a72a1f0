"""A paper is a file: its rows, its columns, what is refused and how, and the papers that visionbench ships."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import pytest

from visionbench.command import counting
from visionbench.command.main import main
from visionbench.record.errors import BenchError
from visionbench.reports import FORMATS, REPORTS, load_paper, render
from visionbench.reports.paper import toml
from visionbench.reports.paper.profiles import SHIPPED

PAPER = """\
title = "Mine"
cite = "arXiv 0000.00000"

[[table]]
name = "mine_table1"
title = "Mine beside others"
gpu = "V100"
protocol = "batch 64"
columns = ["size", "params", "flops", "img/s", "top1"]

[[table.row]]
model = "swin_tiny_patch4_window7_224"
label = "Swin-T"
section = "Transformers"
size = 224
params = 28.30
flops = 4.5
"img/s" = 755.2
top1 = 81.30

[[table.row]]
label = "Closed-1"
params = 12
flops = "2.10"
own = true
"""
ROWS = """\
section,label,model,size,params,flops,img/s,top1
A,Swin-T,swin_tiny_patch4_window7_224,224,28.30,4.5,755.2,81.30
A,Swin-S,swin_small_patch4_window7_224,224,50,8.7,,
"""
LISTED = """\
title = "Mine"
cite = "arXiv 0000.00000"
rows = "rows.csv"

[[table]]
name = "mine_table1"
title = "Mine beside others"
"""


def inline(folder: Path, text: str = PAPER) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def listed(folder: Path, rows: str = ROWS, text: str = LISTED) -> Path:
    (folder / "rows.csv").write_text(rows)
    return inline(folder, text)


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(BenchError) as refused:
        load_paper(path)
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_a_file_keeps_the_printed_digits(tmp_path):
    table = load_paper(inline(tmp_path))["mine_table1"].layout([])
    cells = {column.key: [row.cells[i].text for row in table.rows] for i, column in enumerate(table.columns)}
    assert cells["params_published"] == ["28.30", "12"]
    assert cells["macs_published"] == ["4.5", "2.10"]
    assert cells["throughput_published_v100"] == ["755.2", "–"]
    assert cells["params_computed"] == ["28.29", "–"]
    assert [row.section for row in table.rows] == ["Transformers", ""]


def test_a_csv_file_holds_the_rows_where_there_are_many(tmp_path):
    report = load_paper(listed(tmp_path))["mine_table1"]
    assert report.measured_rows() == (
        ("timm:swin_tiny_patch4_window7_224", 224),
        ("timm:swin_small_patch4_window7_224", 224),
    )
    assert {spec.model for spec in report.computed_specs()} == {model for model, _ in report.measured_rows()}


def test_a_row_that_nobody_builds_is_neither_run_nor_counted(tmp_path):
    report = load_paper(inline(tmp_path))["mine_table1"]
    assert len(report.rows) == 2
    assert [model for model, _ in report.measured_rows()] == ["timm:swin_tiny_patch4_window7_224"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_it(tmp_path, form):
    text = render(load_paper(inline(tmp_path))["mine_table1"].layout([]), form)
    assert "Closed-1" in text
    assert ("28300000" if form == "csv" else "28.30") in text


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('title = "Mine"', 'titel = "Mine"', 1, "key 'titel' is unknown"),
        ('name = "mine_table1"', 'name = "Mine 1"', 4, "is no name of a table"),
        ('gpu = "V100"', 'gpus = "V100"', 7, "key 'gpus' is unknown"),
        ('"flops", "img/s"', '"flop", "img/s"', 9, "column 'flop' is unknown: write one of size, params"),
        ('"flops", "img/s"', '"params", "img/s"', 9, "column 'params' is there twice"),
        ("size = 224", "size = 22.4", 15, "size = '22.4' is no number of pixels"),
        ('"flops", "img/s"', '3, "img/s"', 9, "column '3' is unknown: write one of size, params"),
        ("params = 28.30", "parms = 28.30", 16, "key 'parms' is unknown"),
        ("params = 28.30", 'params = "28,3"', 16, "params = '28,3' is no number: write digits with a point"),
        ("params = 12", "params = -1", 23, "params = '-1' is no number"),
        ("params = 12", "params = nan", 23, "params = 'nan' is no number"),
        ("[[table]]", "[table]", 1, "table = {...} is wrong: write [[table]]"),
        ("own = true", "own = 1", 25, "own = 1 is wrong: write true or false"),
        ('label = "Closed-1"', "", 21, "neither model nor label"),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_remedy(tmp_path, old, new, line, said):
    assert old in PAPER
    sentence = refusal(inline(tmp_path, PAPER.replace(old, new)))
    assert said in sentence
    assert sentence.startswith(str(tmp_path / "mine.toml"))
    assert f"line {line}:" in sentence


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("label,model", "label,modell", 1, "column 'modell' is unknown"),
        ("section,label", "label,label", 1, "column 'label' is there twice"),
        ("224,28.30", "28.30", 2, "7 values stand below 8 columns"),
        ("28.30", "28.3M", 2, "params = '28.3M' is no number"),
        ("28.30", "1e3", 2, "params = '1e3' is no number"),
        ("28.30", "٢٨", 2, "is no number"),
        (",224,50", ",0,50", 3, "size = '0' is no number of pixels"),
        ("A,Swin-S,swin_small_patch4_window7_224,224,50,8.7,,", ROWS.splitlines()[1], 3, "the row is the same as"),
        ("A,Swin-S", 'A,"Swin-S', 3, "quotation marks"),
    ],
)
def test_a_wrong_csv_file_is_refused_with_file_line_and_remedy(tmp_path, old, new, line, said):
    assert old in ROWS
    sentence = refusal(listed(tmp_path, ROWS.replace(old, new)))
    assert said in sentence
    assert f"rows.csv, line {line}:" in sentence


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PAPER.partition("[[table.row]]")[0].encode(), "line 4: the table has no rows: write [[table.row]]"),
        (PAPER.replace("Mine", "Größe").encode("latin-1"), "is no TOML (it is no text in UTF-8): correct it"),
        (LISTED.encode(), "line 3: cannot read"),
    ],
)
def test_a_file_without_rows_or_of_other_letters_is_refused_in_a_sentence(tmp_path, text, said):
    (tmp_path / "mine.toml").write_bytes(text)
    sentence = refusal(tmp_path / "mine.toml")
    assert said in sentence
    assert "Errno" not in sentence


def test_a_file_of_many_rows_is_looked_through_once(tmp_path):
    head, _, row = PAPER.rpartition("[[table.row]]")
    rows = "".join("[[table.row]]" + row.replace("Closed-1", f"Closed-{i}") for i in range(300))
    toml._heads.cache_clear()
    [report] = load_paper(inline(tmp_path, head + rows)).values()
    assert len(report.rows) == 301
    assert toml._heads.cache_info().misses <= 3


def test_a_users_table_shows_no_measurement_of_another_machine(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(inline(tmp_path)), "--format", "csv"]) == 0
    assert "measured" not in capsys.readouterr().out
    assert main(["report", "swin_table1", "--format", "csv"]) == 0
    assert "measured" in capsys.readouterr().out


def test_a_model_that_there_is_not_is_refused_with_its_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = inline(tmp_path, PAPER.replace("swin_tiny_patch4_window7_224", "swin_tinny"))
    assert main(["report", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}, line 12: no model 'timm:swin_tinny'; did you mean" in said


@pytest.mark.parametrize("verb", ["report", "audit", "audit --speed"])
@pytest.mark.parametrize("model", ["user:{}:call_me", "user:{}.py:call_me", "user:os:getpid"])
def test_no_file_of_a_paper_decides_what_is_imported(verb, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    name = f"evil_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    row = f'model = "{model.format(name)}"\n"img/s" = 3\nflops = 4.5'
    path = inline(tmp_path, PAPER.replace('label = "Closed-1"', f'label = "Mine"\n{row}').replace('flops = "2.10"', ""))
    assert main([*verb.split()[:1], str(path), *verb.split()[1:], "--format", "csv"]) == 0
    output = capsys.readouterr()
    assert f"not counted now: {model.format(name)}. A file must not decide what is imported" in output.err
    assert name not in sys.modules


@pytest.mark.parametrize("number", ["9" * 400, '"' + "9" * 400 + '"', '"1e999"', "1e308", "0x" + "F" * 5000, "inf"])
def test_a_number_that_nobody_prints_is_refused(number, tmp_path, capsys):
    path = inline(tmp_path, PAPER.replace("params = 12", f"params = {number}"))
    assert main(["report", str(path)]) == 2
    assert len(capsys.readouterr().err) < 400


@pytest.mark.slow
def test_a_network_of_ones_own_is_what_its_files_hold_today(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    name = f"net_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        f"import torch\nfrom {name}_width import WIDTH\n"
        "def make():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, WIDTH, 8), torch.nn.Flatten())\n"
    )
    text = PAPER.replace('label = "Closed-1"', f'label = "Mine"\nmodel = "user:{name}:make"\nsize = 8')
    path = inline(tmp_path, text)
    for width, params, macs in (("1000", "193000", "192000"), ("500", "96500", "96000")):
        (tmp_path / f"{name}_width.py").write_text(f"WIDTH = {width}\n")
        for module in (name, f"{name}_width"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        assert main(["report", str(path), "--user-models", "--format", "csv"]) == 0
        output = capsys.readouterr()
        assert "Counting 1 network" in output.err
        row = list(csv.DictReader(io.StringIO(output.out)))[1]
        assert row["params_computed_count"] == params
        assert row["macs_computed_count"] == macs
        monkeypatch.setattr("visionbench.command.counting.SOME", 0)  # in other processes, too
    assert not list((tmp_path / "cache").rglob("*.csv"))


def test_a_network_of_ones_own_is_audited_beside_sizes_that_are_counted_later(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    name = f"audited_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n\n\ndef make():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
    )
    row = f'model = "user:{name}:make"\nsize = 224\nflops = 0.0139'  # 0.0106 at 224 px
    path = inline(tmp_path, LISTED.replace('rows = "rows.csv"\n', "") + f"[[table.row]]\n{row}\n")
    assert main(["audit", str(path), "--user-models", "--format", "csv"]) == 0
    assert "another size" in capsys.readouterr().out


@pytest.mark.parametrize("named", ["module", "file"])
def test_a_network_of_ones_own_is_counted_anew_when_a_file_of_it_changes(tmp_path, monkeypatch, named):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(counting, "_usable", lambda _shipped: {})
    net = f"net_{named}_{tmp_path.name.replace('-', '_')}"
    model = f"user:{net}{'.py' * (named == 'file')}:make"
    for folder, width in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{net}.py").write_text(
            f"import torch\nfrom width_of_{net} import WIDTH\ndef make():\n    return torch.nn.Conv2d(3, WIDTH, 8)\n"
        )
        (tmp_path / folder / f"width_of_{net}.py").write_text(f"WIDTH = {width}")
    neighbour = tmp_path / "one" / f"width_of_{net}.py"
    for folder, width in (("one", 1), ("one", 1), ("two", 2), ("one", 1)):
        monkeypatch.chdir(tmp_path / folder)
        assert not counting.known()  # a user's own network is not kept
        assert counting.count([(model, 8)])[model, 8, ""].parts["macs"] == 192 * width
    neighbour.write_text("WIDTH = 3")
    os.utime(neighbour, (0, 0))  # Python takes a file of the same second and size for the one that it has compiled
    assert counting.count([(model, 8)])[model, 8, ""].parts["macs"] == 192 * 3


def test_twenty_papers_come_along_with_their_counts():
    papers = REPORTS.papers()
    rows = [row for stem, tables in papers.items() if stem != "convnext" for t in tables.values() for row in t.rows]
    assert len(papers) >= 20
    assert len(rows) >= 900
    known = {line.split(",")[0] for line in SHIPPED.read_text(encoding="utf-8").splitlines()}
    assert {row.model for row in rows if row.model} <= known


def test_a_shipped_table_is_a_table_like_any_other(capsys):
    assert main(["report", "swin_table1", "--format", "json"]) == 0
    table = json.loads(capsys.readouterr().out)
    swin = next(row for row in table["rows"] if row["cells"]["model"]["text"] == "Swin-T")
    assert swin["cells"]["params_published"]["text"] == "29"
    assert swin["cells"]["params_computed"]["value"] == 28288354


def test_a_papers_name_means_all_its_tables(capsys):
    assert main(["report", "swin", "--format", "json"]) == 0
    assert [table["name"] for table in json.loads(capsys.readouterr().out)] == [
        "swin_table1",
        "swin_hub",
        "swin_hub_mlp",
    ]


def test_tables_are_listed_by_paper(capsys):
    assert main(["list", "tables"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("Swin Transformer")
    assert lines[place + 1].startswith("  swin_table1")


@pytest.mark.parametrize("name", [name for name in REPORTS if name.endswith(("_readme", "_hub", "_zoo"))][:30])
def test_every_shipped_table_is_laid_out(name):
    table = REPORTS[name].layout([])
    assert table.rows
    assert len({column.key for column in table.columns}) == len(table.columns)
