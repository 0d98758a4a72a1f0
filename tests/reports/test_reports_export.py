"""The flat table: its schema, in three formats, as pandas reads them back."""

import csv
import io
import json
import sys
from dataclasses import replace

import pytest

from visionbench.record.errors import BenchError
from visionbench.reports import export
from visionbench.reports.export import COLUMNS, FORMATS, lines

pd = pytest.importorskip("pandas")

READ = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}


@pytest.fixture
def records(launches, counted):
    return [
        *launches("timm:convnext_tiny", rate=100.0, number=2, flags=("scattered", "throttled")),
        *launches("timm:resnet18", number=1, failure="out_of_memory"),
        counted("timm:resnet18", params=11e6, macs=1.8e9),
    ]


@pytest.mark.parametrize("form", FORMATS[:3])
def test_a_format_is_read_as_it_is(records, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    frame = READ[form](io.BytesIO(export.export([records], form)))
    assert tuple(frame.columns) == COLUMNS
    assert frame["record"].tolist() == [0, 1, 2, 3, 3]
    rates = frame[frame.metric == "throughput"].groupby("model").images_per_second.median()
    assert rates["timm:convnext_tiny"] == pytest.approx(100.0, rel=1e-3)
    failed = frame[frame.failure_kind == "out_of_memory"].iloc[0]
    assert (failed.model, failed.failure_stage) == ("timm:resnet18", "warm-up")
    assert pd.isna(failed.metric)
    assert frame[frame.metric == "macs"].value.tolist() == [1.8e9]


def test_a_value_is_of_one_step_and_the_raw_values_stay(records):
    line = next(lines(records))
    [raw] = line["values"]
    assert line["iterations"] == 10
    assert line["value"] == raw / 10
    assert line["flags"] == "scattered throttled"
    assert line["number"] == 1


def test_every_line_has_every_column_and_every_column_is_documented(records):
    assert all(tuple(line) == COLUMNS for line in lines(records))
    assert all(f"`{name}`" in export.__doc__ for name in COLUMNS)


def test_values_are_json_in_csv(records):
    frame = pd.read_csv(io.BytesIO(export.export([records], "csv")))
    assert isinstance(json.loads(frame["values"][0]), list)


def test_nothing_recorded_is_a_table_without_lines():
    assert export.export([], "csv").decode() == ",".join(COLUMNS) + "\n"
    assert json.loads(export.export([], "json")) == []


def test_without_pyarrow_one_sentence_says_what_to_do(records, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(BenchError, match=r"pip install 'visionbench\[parquet\]'.*--format csv"):
        export.export([records], "parquet")


def test_an_unknown_format_is_the_users_mistake(records):
    with pytest.raises(BenchError, match="parquet"):
        export.export([records], "parkett")


def test_csv_needs_no_pandas(records, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert export.export([records], "csv").startswith(b"record,model,")


def test_a_history_has_a_line_a_file_and_a_column_for_what_all_files_measured(launches):
    files = [
        launches("timm:resnet18", rate=rate, number=3) + launches(other, rate=7.0, number=1)
        for rate, other in ((100.0, "timm:resnet34"), (110.0, "timm:resnet50"))
    ]
    frame = pd.read_csv(io.BytesIO(export.export(files, "otava")))
    (row,) = set(frame.columns) - {"time", "commit"}
    assert row.startswith("timm:resnet18@")
    assert sorted(frame[row]) == pytest.approx([100.0, 110.0], rel=1e-3)
    assert pd.to_datetime(frame.time).notna().all()
    with pytest.raises(BenchError, match="no measured row is in all"):
        export.export([files[0][:3], files[1][3:]], "otava")


@pytest.mark.parametrize("form", FORMATS[:3])
def test_a_rectangle_is_told_from_the_square_of_its_height(records, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    wide = [replace(record, spec=replace(record.spec, image_size=(224, 320))) for record in records]
    frame = READ[form](io.BytesIO(export.export([records, wide], form)))
    assert frame.image_size.astype(str).tolist() == ["224"] * 5 + ["224x320"] * 5
    alone = READ[form](io.BytesIO(export.export([records], form)))
    assert alone.image_size.tolist() == [224] * 5


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0"])
def test_no_spreadsheet_computes_a_text(launches, text):
    record = launches("timm:resnet18", number=1, failure="error")[0]
    hostile = replace(record, failure=replace(record.failure, message=f"\n{text}\x1b[31m\u202e"))
    row = next(csv.DictReader(io.StringIO(export.export([[hostile]], "csv").decode())))
    assert row["failure_message"] == f" {text}"
    named = replace(record, spec=replace(record.spec, model=text))
    assert next(csv.DictReader(io.StringIO(export.export([[named]], "csv").decode())))["model"] == f"'{text}"


@pytest.mark.parametrize("seconds", [1.7e308, 5e-324])
def test_what_has_no_finite_value_is_null(launches, seconds):
    record = launches("timm:resnet18", number=1)[0]
    extreme = replace(record, measurements=(replace(record.get("throughput"), values=(seconds, seconds)),))
    [line] = json.loads(export.export([[extreme]], "json"))
    assert line["values"] == [seconds, seconds]
    assert line["images_per_second"] is None or line["images_per_second"] >= 0
