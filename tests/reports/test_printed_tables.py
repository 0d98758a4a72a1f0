r"""What stands in printed tables beside plain numbers: siunitx, stacked cells, marks, code, decimal commas."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from visionbench.reports.paper import importing
from visionbench.reports.paper.naming import resolve

HEAD = r"\begin{tabular}{lrrr} Model & Params (M) & FLOPs (G) & Top-1 \\ "


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (r"\num{82.1}", "82.1"),
        (r"\SI{82.1}{\percent}", "82.1"),
        (r"\qty{82.1}{\%}", "82.1"),
        (r"$82.1\pm0.1$", "82.1"),
        (r"82.1$_{\pm 0.1}$", "82.1"),
        (r"82.1$^{\pm 0.1}$", "82.1"),
        (r"82.1\textsuperscript{\dag}", "82.1"),
        (r"82.1$^\ddagger$", "82.1"),
        (r"\textbf{\underline{82.1}}", "82.1"),
        (r"{\bf 82.1} $\uparrow$", "82.1"),
        (r"\color{red}{82.1}", "82.1"),
        (r"\textcolor{blue}{82.1} (+0.4)", "82.1"),
        (r"\makecell{82.1\\(83.5)}", "82.1"),
        (r"\shortstack{82.1 \\ (384: 83.5)}", "82.1"),
        (r"\multicolumn{1}{c}{82.1}", "82.1"),
        (r"82.1~\cite{a,b}", "82.1"),
        (r"---", ""),
    ],
)
def test_a_cell_of_latex_is_its_number(cell, value):
    [printed] = importing.parse(rf"{HEAD} Net-A & 28.6 & 4.5 & {cell} \\ Net-B & 1 & 2 & 3 \\ \end{{tabular}}", "x")
    assert printed.rows[0].values.get("top1", "") == value
    assert [(row.values["label"], row.section) for row in printed.rows] == [("Net-A", ""), ("Net-B", "")]
    assert not [said for said in printed.problems if "no number" in said]


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("`a|b`", "a|b"),
        ("`x|y|z` net", "x|y|z net"),
        (r"`a\|b`", "a|b"),
        ("[A](http://x/a_b)", "A"),
        ("**A**<sup>†</sup>", "A†"),
    ],
)
def test_a_pipe_in_code_parts_no_cells(label, text):
    [row] = importing.parse(f"| Model | Params (M) | Acc@1 |\n|:--|--:|--:|\n| {label} | 12 | 70.1 |\n", "x")[0].rows
    assert row.values == {"label": text, "params": "12", "top1": "70.1"}


@pytest.mark.parametrize(
    ("line", "params", "rate"),
    [
        ("a;28,6;1.226,5", "28.6", "1226.5"),
        ("a;28,6;1.226", "28.6", "1226"),
        ("a;1.234,5;775", "1234.5", "775"),
        ("a;28.6;774.7", "28.6", "774.7"),
        ("a;28.6;1.226", "28.6", "1.226"),  # no comma says that a point parts thousands
    ],
)
def test_a_comma_is_the_decimal_mark_where_semicolons_part_the_cells(line, params, rate):
    [row] = importing.parse(f"model;params (M);img/s\n{line}\n", "x")[0].rows
    assert (row.values["params"], row.values["img/s"]) == (params, rate)


@pytest.mark.parametrize(
    ("label", "size", "model"),
    [
        ("Swin-B", 0, "timm:swin_base_patch4_window7_224"),
        ("Swin-B", 384, "timm:swin_base_patch4_window12_384"),
        ("Swin-B‡", 224, "timm:swin_base_patch4_window7_224"),
    ],
)
def test_a_label_without_a_size_is_the_network_at_224_pixels(label, size, model):
    assert resolve(label, size, ("torchvision:swin_b",)).model == model


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX is installed")
def test_a_table_compiles_inside_a_paper_of_two_columns(tmp_path, capsys):
    from visionbench.command.main import main

    for name in ("swin_table1", "maxvit_table14"):
        assert (
            main(
                ["report", name, "--format", "latex", "--columns", "params,flops", "--output", f"{tmp_path}/{name}.tex"]
            )
            == 0
        )
    inputs = " text ".join(rf"\input{{{name}.tex}}" for name in ("swin_table1", "maxvit_table14"))
    (tmp_path / "paper.tex").write_text(
        rf"\documentclass[twocolumn]{{article}}\usepackage{{booktabs}}\begin{{document}}{inputs} text\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
