"""A paper's file: tables as data, laid out as the file says, and refused in one sentence where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionbench.record.errors import BenchError
from visionbench.reports import REPORTS, load_paper
from visionbench.reports.paper.report import SHIPPED
from visionbench.reports.render import render

HEAD = """
cite = "arXiv 0000.00000v1"
rows = "rows.csv"
numbers = "numbers.csv"
protocols = "protocols.csv"
"""
TABLE = """
[[table]]
name = "mine"
title = "My table"
printed = "1"
columns = ["model", "image_size", { column = "printed", metric = "top1", head = "%", unit = "%", rank = 1 }]
"""


def write(folder: Path, text: str) -> Path:
    (folder / "rows.csv").write_text(
        "table,row,section,marker,label,model,image_size,check_sizes\n1,1,,●,Mine,user:net:make,224,\n"
    )
    (folder / "numbers.csv").write_text(
        "table,row,metric,value,unit,gpu,protocol,source,note,remark\n1,1,top1,81.50,%,,,mine,,\n"
    )
    (folder / "protocols.csv").write_text("protocol,stated,inferred,unknown,source\nrate,timed,,,mine\n")
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def test_a_paper_of_ones_own(tmp_path):
    table = load_paper(write(tmp_path, HEAD + TABLE))["mine"].layout([])
    assert [cell.text for cell in table.rows[0].cells] == ["● Mine", "224", "81.50"]
    assert "copied as printed, from arXiv 0000.00000v1 or what it cites" in render(table, "markdown")


def test_the_shipped_paper_has_its_tables():
    assert list(load_paper(SHIPPED / "convnext.toml")) == list(REPORTS)[:7]


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("titel =", "title =", "key 'titel' is unknown"),
        ('"image_size"', '"image_sise"', "column 'image_sise' is unknown: write one of"),
        ("rank = 1", 'rank = "1"', "rank = '1' is wrong: write a whole number"),
        ("rank = 1", "rang = 1", "key 'rang' is unknown"),
        ('unit = "%", ', "", "key 'unit' is missing"),
        ('unit = "%"', 'unit = "percent"', "unit = 'percent' is unknown"),
        ('printed = "1"', 'printed = "9"', "the rows have no table '9'"),
        ('printed = "1"', 'printed = "1"\ngap = "often"', "gap = 'often' is unknown"),
        ('"image_size"', '{ column = "printed_rate", gpu = "V100", protocol = "x" }', "protocol = 'x' is unknown"),
        ('cite = "arXiv 0000.00000v1"', "cite = 3", "cite = 3 is wrong: write a text"),
        ("[[table]]", "[[table", "is no TOML"),
        ('"rows.csv"', '"gone.csv"', "gone.csv: name a paper's file"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path, wrong, right, said):
    text = (HEAD + TABLE).replace(right, wrong) if wrong == "titel =" else (HEAD + TABLE).replace(wrong, right)
    path = write(tmp_path, text)
    with pytest.raises(BenchError) as refused:
        load_paper(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value) or "TOML" in str(refused.value)


def test_a_cell_keeps_what_it_was_made_of(counts, measured):
    table = REPORTS["convnext_table1"].layout(measured)
    cells = [cell for row in table.rows for cell in row.cells if cell.source and cell.value is not None]
    assert all(cell.evidence for cell in cells)
    assert {cell.level for cell in cells if cell.source == "measured" and cell.low is not None} == {0.95}
    assert {cell.level for cell in cells if cell.low is None} == {None}
    for cell in cells:
        if cell.source in ("computed", "measured"):
            assert str(cell.evidence[-1].spec) in cell.origin
            assert {record.source for record in cell.evidence} == {cell.source}
