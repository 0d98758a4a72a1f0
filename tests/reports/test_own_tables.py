"""A table of one's own: started from names, read from a printed table, and set in a paper of two columns."""

from __future__ import annotations

import contextlib
import itertools
import re
from pathlib import Path
from string import ascii_lowercase

import pytest

from visionbench.command.main import main
from visionbench.record.errors import BenchError
from visionbench.record.record import to_json
from visionbench.reports import load_paper
from visionbench.reports.paper import importing
from visionbench.reports.paper.naming import resolve

LATEX = r"""
\newcommand{\swin}{Swin}
\begin{table}[t] % a comment & with an ampersand
\caption{Comparison on \textbf{ImageNet-1K}.}
\begin{tabular}{l|c|cc|c}
\toprule
Method & Image & \#Param. & FLOPs & Top-1 \\
 & size & (M) & (G) & (\%) \\
\midrule
\multicolumn{5}{c}{\textit{Transformers}} \\
\swin{}-T~\cite{liu2021swin} & $224^2$ & 29M & 4.5G & 81.3 \\[2pt]
\multirow{2}{*}{\swin-B} & $224^2$ & 88M & 15.4G & \underline{83.5} \\
 & $384^2$ & 88M & 47.0G & \textbf{84.5} \\
\midrule
\multicolumn{5}{c}{ConvNets} \\
\rowcolor{gray!10} \ours{ResNet-50} & 224$\times$224 & 25.56 & 4,089M & 80.4{\scriptsize$\pm$0.1} \\
Closed-XYZ & 224 & 10 & -- & soon \\
\bottomrule
\end{tabular}
\end{table}
"""
MARKDOWN = """
| Model | resolution | #params | MACs | acc@1 |
|:---|:---:|---:|---:|---:|
| [Swin-T](https://x.y) | 224x224 | 28M | 4.5G | **81.2** |
| `mobileone_s0` | 224 | 2.1M | 275M | 71.4 |
"""
CSV = "name,size,params,flops,img/s,top1\nConvNeXt-T,224,29,4.5,774.7,82.1\nDeiT-S,224,22,4.6,940.4,79.8\n"


def imported(folder: Path, text: str, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list, str]:
    monkeypatch.chdir(folder)
    (folder / name).write_text(text)
    assert main(["table", "import", name]) == 0
    path = folder / Path(name).with_suffix(".toml")
    [report] = load_paper(path).values()
    return list(report.rows), path.read_text()


def test_a_latex_table_is_read(tmp_path, monkeypatch, capsys):
    rows, text = imported(tmp_path, LATEX, "theirs.tex", monkeypatch)
    assert [(row.label, row.section, row.image_size) for row in rows] == [
        ("Swin-T", "Transformers", 224),
        ("Swin-B", "Transformers", 224),
        ("Swin-B", "Transformers", 384),
        ("ResNet-50", "ConvNets", 224),
        ("Closed-XYZ", "ConvNets", 224),
    ]
    assert [row.model for row in rows] == [
        "timm:swin_tiny_patch4_window7_224",
        "timm:swin_base_patch4_window7_224",
        "timm:swin_base_patch4_window12_384",
        "timm:resnet50",
        "",
    ]
    assert [row.printed["macs"].text for row in rows[:4]] == ["4.5", "15.4", "47.0", "4.089"]
    assert [row.printed["top1"].text for row in rows[:4]] == ["81.3", "83.5", "84.5", "80.4"]
    assert 'title = "Comparison on ImageNet-1K."' in text
    said = capsys.readouterr().err
    assert r"theirs.tex, line 16: macro \ours is not known" in said
    assert "theirs.tex, line 17: top1 = 'soon' is no number." in said
    assert "1 row of 5 name no model for certain" in said


def test_a_markdown_table_is_read(tmp_path, monkeypatch):
    rows, _ = imported(tmp_path, MARKDOWN, "readme.md", monkeypatch)
    assert [(row.label, row.model) for row in rows] == [
        ("Swin-T", "timm:swin_tiny_patch4_window7_224"),
        ("mobileone_s0", "timm:mobileone_s0"),
    ]
    assert rows[1].printed["macs"].text == "0.275"


def test_a_csv_table_is_read(tmp_path, monkeypatch):
    rows, _ = imported(tmp_path, CSV, "rows.csv", monkeypatch)
    assert [(row.model, row.printed["throughput"].text) for row in rows] == [
        ("timm:convnext_tiny", "774.7"),
        ("timm:deit_small_patch16_224", "940.4"),
    ]


@pytest.mark.parametrize(
    ("params", "flops", "row", "values"),
    [
        ("#params (M)", "FLOPs (M)", "25.6 | 4,089", ("25.6", "4.089")),
        ("#params (K)", "MFLOPs", "25,557 | 4089", ("25.557", "4.089")),
        ("Params (million)", "GMACs", "25.6 | 4.1", ("25.6", "4.1")),
        ("params [B]", "FLOPs (T)", "0.3 | 0.5", ("300", "500")),
        ("params", "MAdds", "25.6M | 300M", ("25.6", "0.300")),
        ("params (K)", "FLOPs (M)", "25.6M | 4.1G", ("25.6", "4.1")),
        ("params", "FLOPs", "1,234,567K | 1,000", ("1234.567", "1000")),
        ("params", "FLOPs", "25,6M | 4,1G", ("25.6", "4.1")),
        ("params", "FLOPs", "25,6M | 4.1G", ("", "4.1")),  # one comma beside a point is a slip
    ],
)
def test_a_number_has_the_unit_of_its_suffix_or_of_its_header(params, flops, row, values):
    [line] = importing.parse(f"| Model | {params} | {flops} |\n|---|---|---|\n| A | {row} |\n", "x")[0].rows
    assert (line.values.get("params", ""), line.values.get("flops", "")) == values
    assert len(line.unread) == values.count("")


def test_a_row_that_is_printed_twice_is_read_once(tmp_path, monkeypatch, capsys):
    twice = CSV + CSV.splitlines()[1] + "\n"
    rows, _ = imported(tmp_path, twice, "rows.csv", monkeypatch)
    assert [row.label for row in rows] == ["ConvNeXt-T", "DeiT-S"]
    assert "rows.csv, line 4: the same row as one above: it is left out." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("label", "size", "model"),
    [
        ("ViT-B/16", 224, "timm:vit_base_patch16_224"),
        ("ViT-L/16", 384, "timm:vit_large_patch16_384"),
        ("ResNet-152", 224, "timm:resnet152"),
        ("convnext_tiny", 224, "timm:convnext_tiny"),
        ("EfficientNet-B0", 224, "timm:efficientnet_b0"),
        ("DenseNet-121", 224, "timm:densenet121"),
        ("Frobnicator-9000", 224, ""),
        ("", 224, ""),
    ],
)
def test_a_label_is_resolved_or_left(label, size, model):
    names = [
        "timm:vit_base_patch16_224", "timm:vit_base_patch16_384", "timm:vit_base_patch32_224",
        "timm:vit_large_patch16_224", "timm:vit_large_patch16_384", "timm:resnet152", "timm:resnet152d",
        "timm:convnext_tiny", "timm:convnextv2_tiny", "timm:efficientnet_b0", "timm:tf_efficientnet_b0",
        "timm:densenet121",
    ]  # fmt: skip
    resolved = resolve(label, size, names)
    assert resolved.model == model or (not resolved.model and model in resolved.candidates)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hello", "neither LaTeX"),
        ("a & b \\\\\n c & d \\\\", "no line names columns"),
        ("| Model | params |\n|---|---|\n", "no row stands below the header"),
        ('name,params\n"a,1\n', "quotation marks"),
        ("", "neither LaTeX"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, capsys, text, said):
    (tmp_path / "x.txt").write_text(text)
    assert main(["table", "import", str(tmp_path / "x.txt")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "x.toml").exists()


def test_a_brace_that_is_never_closed_ends_the_reading_and_not_the_program():
    [table] = importing.parse("Model & params \\\\ \\textbf{A & 3 \\\\ B & {4} \\\\", "x")
    assert table.rows[-1].values == {"label": "B", "params": "4"}


TABULAR = "\\begin{tabular}{lcc}\nModel & Params (M) & FLOPs (G) \\\\\n%s & 28 & 4.5 \\\\\n\\end{tabular}"
DOUBLING = "".join(f"\\newcommand{{\\{a}}}{{\\{b}\\{b}}}\n" for a, b in itertools.pairwise(ascii_lowercase))


@pytest.mark.parametrize(
    "text",
    [
        *(TABULAR % (bit * 4000) for bit in ("\\makecell{", "\\multirow{", "\\cite[", "(", "[", "{", "\\\\[")),
        *("| Model | Params (M) | FLOPs (G) |\n|---|---|---|\n| %s | 28 | 4.5 |\n" % (bit * 20_000) for bit in "[(<`"),
        "\\caption[" * 3000 + TABULAR % "a",
        "\n" * 50_000 + TABULAR % "a",
        DOUBLING + TABULAR % "\\a",
        TABULAR % "\\multicolumn{999999999}{c}{x}",
        TABULAR % ("\\multirow{" + "9" * 5000 + "}{*}{x}"),
        "x" * 3_000_000,
        "Model & params" + " & x" * 20_000 + r"\\ A & 1" + " & 3" * 20_000 + r"\\",
        "<table><tr><th>Model<th>Params<tr>" + "<td colspan=99>A" * 2_000 + "</table>",
        "# a\n" * 20_000 + "<table><tr><th>Model<th>Params<tr><td>A<td>3M</table>\n" * 300,
    ],
    ids=lambda text: text[:12],
)
def test_a_table_of_hostile_length_takes_neither_memory_nor_minutes(text):
    """In the square of its length each would take hours."""
    with contextlib.suppress(BenchError):
        assert importing.parse(text, "table")


def test_a_starter_has_what_others_print_as_comments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["table", "new", "my paper.toml", "swin_tiny_patch4_window7_224", "user:my.net:make"]) == 0
    text = (tmp_path / "my paper.toml").read_text()
    assert "report 'my paper.toml'\n" in capsys.readouterr().out
    assert "run --table 'my paper.toml'`" in text
    assert re.search(r'# "img/s" = 757\.9  # arXiv 2201\.03545v2, Table 1, V100', text)
    [report] = load_paper(tmp_path / "my paper.toml").values()
    assert [row.model for row in report.rows] == ["timm:swin_tiny_patch4_window7_224", "user:my.net:make"]
    assert [row.own for row in report.rows] == [False, True]
    assert main(["table", "new", "my paper.toml", "resnet50"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_name_whose_params_are_far_from_the_print_is_marked(tmp_path, monkeypatch, capsys):
    text = "model,params,top1\nConvNeXt-S,22,78.7\nConvNeXt-S,50,83.1\nResNet-50,23.5,76.1\n"
    rows, toml = imported(tmp_path, text, "rows.csv", monkeypatch)
    assert [row.model for row in rows] == ["", "timm:convnext_small", "timm:resnet50"]
    assert "is it timm:convnext_small? It has 50.2 M params, and 22 are printed." in toml


@pytest.mark.parametrize(
    "cells",
    [
        ("224 | 25.6 | soon", "224 | 25.6 | later"),
        (" | 25.6 | 4.1", "224 | 25.6 | 4.1"),  # the model's own size
        ("224 | 25.6 | \x07soon", "224 | 25.6 | \x07later"),
    ],
)
def test_rows_that_differ_in_nothing_that_is_read_are_one(tmp_path, monkeypatch, capsys, cells):
    lines = "".join(f"| ResNet-50 | {line} |\n" for line in cells)
    text = f"| Model | Size | Params (M) | FLOPs (G) |\n|-|-|-|-|\n{lines}"
    rows, _ = imported(tmp_path, text, "rows.md", monkeypatch)
    assert [row.label for row in rows] == ["ResNet-50"]
    assert "line 4: the same row as one above: it is left out." in capsys.readouterr().err


def test_a_network_of_ones_own_is_added_to_a_printed_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("import torch\ndef make():\n    return torch.nn.Flatten()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("theirs.tex").write_text(LATEX)
    assert main(["table", "import", "theirs.tex", "user:net:make", "--output", "mine.toml"]) == 0
    [report] = load_paper(Path("mine.toml")).values()
    assert [(row.label, row.section, row.own) for row in report.rows[-2:]] == [
        ("Closed-XYZ", "ConvNets", False), ("Ours", "Ours", True)
    ]  # fmt: skip
    assert {number.source for row in report.rows for number in row.printed.values()} == {"theirs.tex"}
    assert main(["table", "import", "theirs.tex", "net.py", "--force"]) == 2
    assert "`table import` reads one file, and net.py is another" in capsys.readouterr().err


def test_a_table_of_ones_own_has_no_measurements_of_other_peoples_machines(tmp_path, monkeypatch, capsys, launches):
    monkeypatch.chdir(tmp_path)
    theirs, mine = "swin_tiny_patch4_window7_224", "convnext_tiny"
    assert main(["table", "new", "my.toml", theirs, mine]) == 0
    assert main(["report", "my.toml", "--format", "csv"]) == 0
    assert "H100" not in capsys.readouterr().out
    assert main(["report", "swin_table1", "convnext_table12", "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert "h100" in printed.out  # a shipped table shows what was shipped, and says so
    assert "convnext_table12: nothing measured here yet (`run`); what is measured came with visionbench." in printed.err
    Path("visionbench.jsonl").write_text("".join(f"{to_json(one)}\n" for one in launches(f"timm:{mine}", rate=321.0)))
    assert main(["report", "my.toml", "convnext_table12", "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert "321" in printed.out
    assert "came with" not in printed.err


def test_columns_are_chosen_by_words(capsys):
    assert main(["report", "swin_hub", "--columns", "flops.exact,params", "--format", "csv"]) == 0
    head = capsys.readouterr().out.splitlines()[0].split(",")
    assert [name for name in head if name.endswith("_count")] == [
        "macs_computed_count", "params_published_count", "params_computed_count",
    ]  # fmt: skip
    assert main(["report", "swin_hub", "--columns", "speed"]) == 2
    assert "no column 'speed': write some of size" in capsys.readouterr().err


def test_a_column_of_one_table_is_left_out_of_the_others(capsys):
    assert main(["report", "swin_hub", "beit_readme", "--columns", "params,img/s", "--format", "csv"]) == 0
    assert "throughput_published" in capsys.readouterr().out
    assert main(["report", "swin_hub", "beit_readme", "--columns", "params,speed"]) == 2
    assert "no column 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("columns", "environment"), [("params.paper,flops.paper", "table"), ("params,flops,img/s,top1", "table*")]
)
def test_latex_for_a_paper_of_two_columns_has_nothing_outside_of_the_float(capsys, columns, environment):
    assert main(["report", "swin_hub", "--format", "latex", "--columns", columns]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[0].startswith(f"\\begin{{{environment}}}")
    assert lines[-1] == f"\\end{{{environment}}}"
    assert text.count("{") == text.count("}")
    assert main(["report", "swin_hub", "--format", "latex", "--columns", columns, "--notes"]) == 0
    assert "Notes to Table" in capsys.readouterr().out


def test_a_row_without_a_size_and_letters_of_other_scripts(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(
        'title = "T"\ncite = "c"\n[[table]]\nname = "t"\ntitle = "T"\ncolumns = ["size", "params"]\n'
        '[[table.row]]\nmodel = "resnet50"\nlabel = "A"\nsection = "S"\n'
        '[[table.row]]\nmodel = ""\nlabel = "\u05e9\u05dc"\nparams = 9\n',
        encoding="utf-8",
    )
    assert main(["report", str(file), "--format", "latex"]) == 0
    printed = capsys.readouterr().out
    assert "% A ? stands for each of U+05E9 U+05DC" in printed
    assert "?? & -- & 9" in printed
    assert r"\textit{}" not in printed
