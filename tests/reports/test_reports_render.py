"""The five formats: golden files, alignment, folding, escaping, and what a machine reads back."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from tests.reports import paired
from visionbench.command.inputs import read_comparisons, read_records
from visionbench.record.errors import BenchError
from visionbench.reports import FORMATS, REPORTS, render
from visionbench.reports.render import latex, markdown
from visionbench.reports.table import DASH, Cell, Heading, Row, Table

NAMES = {
    "convnext_table1": "table1",
    "convnext_table2": "table2",
    "convnext_table12": "table12",
    "convnext_table10": "table10",
    "effects": "effects",
    "effects_grid": "effects_grid",
}
PAPER = [name for name in NAMES if name.startswith("convnext")]
MARKED = [name for name in PAPER if name != "convnext_table10"]
SUFFIXES = {"terminal": "txt", "markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}


@pytest.fixture(scope="session")
def tables(measured):
    records, made = [*measured, *paired.grid()], [*paired.effects(), *paired.steps()]
    on_a_node = [replace(r, environment=replace(r.environment, node="n1")) for r in measured if r.source == "measured"]
    return {name: report.layout(on_a_node if name == "nodes" else records, made) for name, report in REPORTS.items()}


@pytest.mark.parametrize("form", [form for form in SUFFIXES if form != "json"])
@pytest.mark.parametrize("name", NAMES)
def test_golden(tables, golden, name, form):
    golden(f"{NAMES[name]}.{SUFFIXES[form]}", render(tables[name], form, 160))


@pytest.mark.parametrize("name", NAMES)
def test_golden_narrow_terminal(tables, golden, name):
    golden(f"{NAMES[name]}_100.txt", render(tables[name], "terminal", 100))


@pytest.mark.parametrize("name", ["effects", "effects_grid"])
def test_golden_of_effects_at_80_columns(tables, golden, name):
    golden(f"{name}_80.txt", render(tables[name], "terminal", 80))


def test_golden_json(tables, golden):
    golden("table2.json", render(tables["convnext_table2"], "json"))


def test_golden_nothing_measured(counts, golden):
    golden("table1_counts_only.txt", render(REPORTS["convnext_table1"].layout(counts), "terminal"))


def test_golden_no_records_at_all(golden):
    golden("table2_empty.md", render(REPORTS["convnext_table2"].layout([]), "markdown"))


def test_an_unknown_format_is_the_users_mistake(tables):
    with pytest.raises(BenchError, match="did you mean markdown"):
        render(tables["convnext_table1"], "markdwon")


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_the_terminal(tables, name, width):
    assert max(map(len, render(tables[name], "terminal", width).splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 100])
def test_what_folding_leaves_out_is_named(tables, width):
    table = tables["convnext_table1"]
    shown = " ".join(render(table, "terminal", width).split())
    (left_out,) = re.findall(r"Left out at this width: (.*?)\. A wider", shown)
    names = {column.name for column in table.columns}
    assert set(left_out.split("; ")) < names


@pytest.mark.parametrize("numbers", [0, 1])
def test_a_column_with_hardly_a_number_is_left_out_first(numbers):
    heads = [Heading(key="model", head=("model",)), Heading(key="few", head=("few",), rank=1),
             Heading(key="full", head=("full",), rank=9)]  # fmt: skip
    cells = [
        (Cell(text="net"), Cell(text="1.0" if i < numbers else DASH, value=1.0), Cell(text="2.0", value=2.0))
        for i in range(9)
    ]
    table = Table(name="t", title="T", columns=tuple(heads), rows=tuple(Row(cells=row) for row in cells))
    shown = render(table, "terminal", 12)
    assert "full" in shown
    assert "Left out at this width: few." in " ".join(shown.split())
    assert "few" in render(table, "terminal", 60)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("convnext_table1", ["top-1", "params (M)", "FLOPs (G)"]),
        ("convnext_table2", ["top-1", "training memory"]),
        ("convnext_table10", ["top-1", "FLOPs (G)", "speed of the step"]),
        ("convnext_table11", ["top-1", "FLOPs (G)", "memory"]),
        ("convnext_table12", ["top-1", "FLOPs (G)", "img/s"]),
    ],
)
def test_eighty_columns_keep_what_the_table_is_about(name, kept):
    head = render(REPORTS[name].layout(read_records(None), read_comparisons()), "terminal", 80).split("\n\n")[0]
    assert all(word in head for word in kept), head


def test_a_number_is_never_cut(tables):
    """Every number of a narrow table is a number of the wide one."""
    wide, narrow = (render(tables["convnext_table1"], "terminal", width) for width in (None, 80))
    numbers = [set(re.findall(r"(?<!\S)[\d,]+\.\d+", text.split("Transformer")[0])) for text in (wide, narrow)]
    assert numbers[1] <= numbers[0]
    assert len(numbers[1]) > 50


@pytest.mark.parametrize("name", MARKED)
def test_decimal_points_line_up(tables, name):
    """Within a column of computed numbers the points stand under each other."""
    lines = [line for line in render(tables[name], "terminal").splitlines() if line[:1] in "●○"][:-1]
    lines = [line for line in lines if "Transformer" not in line]
    at = [re.search(r"\d+\.\d\d(?!\d)", line) for line in lines]
    assert len({match.end() for match in at if match}) == 1


def test_colour_only_where_asked(tables):
    table = tables["convnext_table1"]
    assert "\x1b[" not in render(table, "terminal", 160)
    coloured = render(table, "terminal", 160, colour=True)
    assert "\x1b[36m" in coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in plain.splitlines()] == render(table, "terminal", 160).splitlines()


def test_markdown_rows_have_all_their_columns(tables):
    for table in tables.values():
        lines = [line for line in render(table, "markdown").splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.columns) + 1}
        assert len({len(line) for line in lines}) == 1, "the source is aligned"


def test_markdown_escapes():
    assert markdown.escape("a|b*c_d<e>") == r"a\|b\*c\_d\<e\>"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% & more_of #1 {x} $y$", r"50\% \& more\_of \#1 \{x\} \$y\$"),
        ("a\\b~c", r"a\textbackslash{}b\textasciitilde{}c"),
        ("2^30 bytes, a^b", r"2$^{30}$ bytes, a\textasciicircum{}b"),
        ('"patchify" stem', "``patchify'' stem"),
        ("64->96", r"64$\rightarrow$96"),
        ("x < y > z | w", "x $<$ y $>$ z $|$ w"),
        ("● ○ – ± ×", r"$\bullet$ $\circ$ -- $\pm$ $\times$"),
        ("Intel® Zürich 中", r"Intel\textregistered{} Z\"{u}rich ?"),
        ("ViT-B/16† 224² ↑384", r"ViT-B/16$^{\dagger}$ 224$^{2}$ $\uparrow$384"),
        ("x ≠ y ∉ z, 1½, ∞", r"x $\neq$ y ? z, 1$^{1}/_{2}$, $\infty$"),
        ("ΔFLOPs, Łódź, non‑linear, e\u0301", r"$\Delta$FLOPs, \L{}\'{o}d\'{z}, non-linear, \'{e}"),
        ("Net‡, é, β, ø — “x”", r"Net$^{\ddagger}$, \'{e}, $\beta$, \o{} --- ``x''"),
    ],
)
def test_latex_escapes(text, escaped):
    assert latex.escape(text) == escaped


def test_latex_is_ascii(tables):
    assert all(render(table, "latex").isascii() for table in tables.values())


@pytest.fixture(scope="session")
def engine():
    found = next(filter(None, map(shutil.which, ("pdflatex", "lualatex", "xelatex", "tectonic"))), None)
    return found or pytest.skip("no TeX engine here (pdflatex, lualatex, xelatex or tectonic)")


def compiled(engine, folder):
    """Compile `main.tex`, and give its log."""
    done = subprocess.run([engine, "main.tex"], cwd=folder, capture_output=True, text=True, timeout=120, input="")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "main.pdf").stat().st_size > 0
    return (folder / "main.log").read_text(errors="replace") if (folder / "main.log").exists() else ""


def test_latex_compiles(tables, tmp_path, engine):
    for name, table in tables.items():
        (tmp_path / f"{name}.tex").write_text(render(table, "latex"), encoding="utf-8")
    inputs = "".join(rf"\input{{{name}}}" for name in tables)
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "main.tex").write_text(document, encoding="utf-8")
    log = compiled(engine, tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log


def test_a_standalone_document_compiles_as_it_is(tables, tmp_path, engine):
    text = latex.document("\n".join(render(table, "latex") for table in tables.values()))
    assert text.startswith("\\documentclass")
    assert text.isascii()
    (tmp_path / "main.tex").write_text(text, encoding="utf-8")
    log = compiled(engine, tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log
    assert "Missing character" not in log


def test_latex_divides_a_long_table_into_floats(tables):
    table = tables["convnext_table2"]
    row = replace(table.rows[0], section="")
    long = replace(table, rows=(row,) * 130)
    text = render(long, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert text.count(r"\label{") == 1
    assert [f"({number} of 3)" in text for number in (1, 2, 3, 4)] == [True, True, True, False]
    [line] = {line for line in text.splitlines() if line.startswith(r"$\circ$ ViT-S")}
    assert text.count(line) == 130


@pytest.mark.parametrize("name", MARKED)
def test_csv_goes_through_pandas(tables, name):
    pandas = pytest.importorskip("pandas")
    table = tables[name]
    frame = pandas.read_csv(io.StringIO(render(table, "csv")))
    assert len(frame) == len(table.rows)
    exact = [row.cells[[c.key for c in table.columns].index("macs_computed")].value for row in table.rows]
    assert frame["macs_computed_count"].tolist() == exact
    assert frame["macs_computed_source"].unique().tolist() == ["computed"]
    assert frame["spec_model"].tolist() == [row.subject for row in table.rows]
    assert set(frame["model_marker"]) == {"●", "○"}


def test_a_csv_holds_no_character_that_commands(tables):
    """A name in a user's file may hold any."""
    rows = tuple(replace(row, section="a\x1b[31mb", subject="\u202ec") for row in tables["convnext_table1"].rows)
    text = render(replace(tables["convnext_table1"], name="x\x00y", rows=rows), "csv")
    assert text.isprintable() or set(filter(lambda c: not c.isprintable(), text)) == {"\n"}
    assert "xy,ab," in text


def test_csv_has_full_precision_intervals_and_causes(tables):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(io.StringIO(render(tables["convnext_table1"], "csv"))).set_index("spec_model")
    key = next(name for name in frame if "a100-sxm4-80gb" in name and name.endswith("_low")).removesuffix("_low")
    row = frame.loc["timm:regnety_160"]
    assert row[f"{key}_low"] < row[f"{key}_per_s"] < row[f"{key}_high"]
    failed = frame.loc["timm:resnetv2_152x4_bit"]
    assert failed[f"{key}_note"] == "out of memory"
    assert pandas.isna(failed[f"{key}_per_s"])


def test_json_holds_everything(tables):
    for table in tables.values():
        data = json.loads(render(table, "json"))
        assert len(data["rows"]) == len(table.rows)
        assert [column["key"] for column in data["columns"]] == [column.key for column in table.columns]
        cells = data["rows"][0]["cells"]
        assert [cell.get("value") for cell in cells.values()] == [cell.value for cell in table.rows[0].cells]
        notes = {note for row in data["rows"] for cell in row["cells"].values() for note in cell.get("notes", [])}
        assert notes == set(data["footnotes"].values())


def test_a_table_of_words_alone_renders_in_every_format():
    columns = (Heading(key="model", head=("model",), align="left"), Heading(key="x", head=("x",), unit="count"))
    table = Table(name="t", title="T", columns=columns, rows=(Row(cells=(Cell(text="a", value="a"), Cell())),))
    assert all(render(table, form).endswith("\n") for form in FORMATS)
